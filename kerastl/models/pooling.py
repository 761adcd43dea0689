"""Pool the output of a backbone to one vector of features per image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kerastl.errors import RequestError, in_syntax, join_words, setting

if TYPE_CHECKING:
    import keras

    from kerastl.recipe import Pooling

WIDTH_OF_HEAD = 64
"""Channels of each attention head, as in ViT."""


def pooling_problem(pooling: Pooling, rank: int, num_prefix_tokens: int | None) -> str:
    """Return why a pooling does not fit a backbone, or an empty string.

    Args:
        pooling: The pooling.
        rank: Number of dimensions of the output of the backbone with the batch: 4 for feature maps, 3 for tokens, 2 for features.
        num_prefix_tokens: Number of tokens before those of the patches; None if the model does not return tokens.
    """
    allowed: tuple[str, ...]
    if rank == 4:
        allowed, reason = ("auto", "mean"), "tokens: it returns feature maps"
    elif rank == 2:
        allowed, reason = ("auto",), "tokens: it returns features that are pooled already"
    elif not num_prefix_tokens:
        allowed, reason = ("auto", "mean", "map"), "class token"
    else:
        return ""
    if pooling in allowed:
        return ""
    remedy = join_words(
        [setting("pooling", allowed[0]), *(in_syntax(name, repr(name)) for name in allowed[1:])]
    )
    return f"{pooling} is not possible, because the backbone has no {reason}. Use {remedy}."


def add_pooling(backbone: keras.Model, pooling: Pooling, num_prefix_tokens: int | None, seed: int) -> Any:
    """Return the features of a backbone, the output `[batch, features]` of a new layer `pooled`.

    `cls` is the class token, `mean` the average of the tokens of the patches, without register tokens, and `cls_mean`
    both, concatenated. `map` is multihead attention pooling with trained queries (Zhai et al. 2022, arXiv:2106.04560,
    section 3.2); its layer `attention_pooling` is trained with the head. `auto` is `cls` if there is a class token, and
    otherwise `mean`.

    Args:
        backbone: A model that returns feature maps, tokens or features.
        pooling: The pooling.
        num_prefix_tokens: As in `pooling_problem`. None counts them for tokens of square images: `n = k * k + prefix`.
        seed: Seed of the initial weights of `map`.

    Raises:
        RequestError: The pooling does not fit the backbone, or the meaning of its tokens is unknown.
    """
    import keras

    output = backbone.outputs[0]
    rank = len(output.shape)
    if rank == 3 and num_prefix_tokens is None:
        num_prefix_tokens = _count_prefix_tokens(backbone, output)
    if problem := pooling_problem(pooling, rank, num_prefix_tokens):
        raise RequestError(f"pooling: {problem}")
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D(name="pooled")(output)
    if rank == 2:
        return keras.layers.Flatten(name="pooled")(output)
    prefix, total = num_prefix_tokens or 0, output.shape[1]
    if pooling == "auto":
        pooling = "cls" if prefix else "mean"
    patches = keras.layers.Cropping1D((prefix, 0), name="patch_tokens")(output) if prefix else output
    if pooling == "map":
        return keras.layers.Flatten(name="pooled")(_attention_pooling(patches, seed))
    if pooling == "mean":
        return keras.layers.GlobalAveragePooling1D(name="pooled")(patches)
    class_token = keras.layers.Cropping1D((0, total - 1), name="class_token")(output)
    if pooling == "cls":
        return keras.layers.Flatten(name="pooled")(class_token)
    class_features = keras.layers.Flatten(name="class_features")(class_token)
    mean = keras.layers.GlobalAveragePooling1D(name="patch_mean")(patches)
    return keras.layers.Concatenate(name="pooled")([class_features, mean])


def _count_prefix_tokens(backbone: keras.Model, output: Any) -> int:
    """Return the number of tokens that are not of patches, if there is at most one."""
    total = output.shape[1]
    prefix = None if total is None else total - math.isqrt(total) ** 2
    if prefix not in (0, 1):
        raise RequestError(
            f"{backbone.name} returns {total} tokens, but it is unknown which of them are class or register tokens. End the model "
            "with its own pooling, so that it returns [batch, features]."
        )
    return prefix


def _attention_pooling(tokens: Any, seed: int) -> Any:
    import keras
    from keras_hub.src.models.siglip.siglip_layers import SigLIPMultiHeadAttentionPooling

    width = tokens.shape[-1]
    heads = max(count for count in range(1, max(1, width // WIDTH_OF_HEAD) + 1) if width % count == 0)
    keras.utils.set_random_seed(seed)
    return SigLIPMultiHeadAttentionPooling(width, 4 * width, heads, "gelu", name="attention_pooling")(tokens)
