"""Read the attention scores of the layers of a model while it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import keras

from kerastl.models.functional import wrapped_call


@contextmanager
def recorded_attention(model: keras.Model, *, is_silent: bool = False) -> Iterator[list[Any]]:
    """Collect the attention scores of all layers that are called within the context, in the order of the calls.

    They are `[batch, heads, queries, keys]`, of the float type of the layer, and sum to 1 over the keys.
    `keras.layers.MultiHeadAttention` and the attention of DINOv3 in KerasHub are recorded, also inside other layers.

    Args:
        model: The model; its layers may also be called by other models.
        is_silent: Whether these layers return 0 within the context.
    """
    scores: list[Any] = []
    with ExitStack() as stack:
        for layer in {id(layer): layer for layer in model._flatten_layers()}.values():
            wrapper = _wrapper(layer)
            if wrapper is not None:
                stack.enter_context(wrapped_call(layer, partial(wrapper, scores, 1 - is_silent)))
        yield scores


def _wrapper(layer: Any) -> Callable[..., Any] | None:
    """Return a function that wraps the call of a layer, given a list of scores and a factor of the output, or None."""
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return _with_scores
    is_rotary = type(layer).__name__ == "DINOV3Attention" and type(layer).__module__.startswith("keras_hub.")
    return partial(_with_rotary_scores, layer) if is_rotary else None


def _with_scores(scores: list[Any], factor: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the call of MultiHeadAttention that also appends its scores to a list."""

    def recorded(*args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
        output, attention = call(*args, return_attention_scores=True, **kwargs)
        scores.append(attention)
        return (output * factor, attention) if return_attention_scores else output * factor

    return recorded


def _with_rotary_scores(
    layer: Any, scores: list[Any], factor: int, call: Callable[..., Any]
) -> Callable[..., Any]:
    """Return the call of the attention of DINOv3, which computes its scores inside one operation."""

    def recorded(
        inputs: Any, attention_mask: Any = None, position_embeddings: Any = None, num_prefix_tokens: int = 0,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        shape = (-1, inputs.shape[1], layer.num_heads, layer.head_dim)
        query, key = (
            keras.ops.reshape(dense(inputs), shape) for dense in (layer.query_dense, layer.key_dense)
        )
        if position_embeddings is not None:
            query, key = layer._apply_rotary(query, key, *position_embeddings, num_prefix_tokens)
        products = keras.ops.einsum("nqhd,nkhd->nhqk", query, key) * layer.scale
        scores.append(keras.ops.softmax(products, axis=-1))
        return factor * call(inputs, attention_mask, position_embeddings, num_prefix_tokens, **kwargs)

    return recorded
