"""Contract checks for adaptation methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.adaptation import (
    AdaptationStep,
    Method,
    build_step,
    check_phase,
    get_method,
    method_options,
    select_batch_norm,
)
from kerastl.errors import RequestError
from kerastl.models import build_backbone, build_model
from kerastl.options import StrictModel
from kerastl.recipe import Phase
from kerastl.training import unfreeze
from kerastl.training.freeze import HEAD_INPUT
from kerastl.training.trunk import split_model

SIZE_PX = 16
NUM_CLASSES = 3
PROGRESS = 0.5
Losses = dict[str, np.ndarray[Any, Any]]


def check_adaptation(name: str) -> None:
    """Check one adaptation method on random images and a small network with random weights.

    - `METHOD` is a `Method`, and `Options` is a `StrictModel` with defaults that rejects wrong values.
    - The step uses only the streams that `METHOD` allows.
    - Losses are finite scalars on batches of 5 and 3, 3 and 5, and 1 and 1 images. They are reproducible,
      also for another step with the same seed.
    - Losses do not depend on target labels, unless `METHOD` declares them.
    - Declared distances between the domains are 0 for equal domains and positive for a shift.
    - Gradients are finite and reach the layers before the head, the step's own variables, and the head unless
      it is frozen. If the method can train the head alone, it works on cached features. If it changes images,
      a cache is rejected.
    - Only trainable variables and those of `may_change` change.
    - A step with the same variables and restored `state` has the same losses.

    Args:
        name: Name of the method.

    Raises:
        AssertionError: One of these properties does not hold.
    """
    method = get_method(name)
    assert isinstance(method, Method), f"{name}: METHOD is not a Method"
    _check_options(name)
    case = _Case(name, method)
    _check_streams(case)
    _check_losses(case)
    _check_labels(case)
    _check_distances(case)
    _check_gradients(case)
    if method.changes_pixels:
        _check_cache_is_rejected(case)
    elif method.learns == "head":
        _check_cached_features(case)
    _check_changed_variables(case)
    _check_state(case)


class _Case:
    """A method with a step and a model in a suitable phase."""

    def __init__(self, name: str, method: Method) -> None:
        self.name, self.method = name, method
        backbone = build_backbone("small_cnn", weights="none", image_size_px=SIZE_PX, seed=1)
        class_names = [f"class {number}" for number in range(NUM_CLASSES)]
        self.model = build_model(backbone, class_names=class_names, dropout=0.0, seed=1)
        self.step = self.build(seed=1)
        trainable = select_batch_norm(self.model) if method.only_batch_norm else "all"
        batch_norm: Any = "trainable" if method.requires_statistics else "frozen"
        phase = Phase("only", 1, trainable=trainable, batch_norm=batch_norm, cache="none")
        check_phase(name, method, self.model, phase)
        unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)

    def build(self, seed: int) -> AdaptationStep:
        """Return a step of the method."""
        num_features = self.model.get_layer("head").kernel.shape[0]
        return build_step(self.name, num_classes=NUM_CLASSES, num_features=int(num_features), seed=seed)

    def losses(self, batches: Mapping[str, Any], step: AdaptationStep | None = None) -> Losses:
        """Return the losses of batches, computed without tracing."""
        losses = (step or self.step).losses(self.model, batches, tf.constant(PROGRESS))
        return {name: np.asarray(value) for name, value in losses.items()}

    def gradients(self, model: keras.Model, batches: Any, variables: Sequence[keras.Variable]) -> Any:
        """Return the gradient of the minimized losses for each variable, 0 if there is none."""
        with tf.GradientTape() as tape:
            losses = self.step.losses(model, batches, tf.constant(PROGRESS))
            total = tf.add_n([losses[name] for name in losses if name not in self.step.metric_names])
        values = [variable.value for variable in variables]
        gradients = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        is_finite = all(np.isfinite(gradient).all() for gradient in gradients)
        assert is_finite, f"{self.name}: a gradient is not finite"
        return gradients

    def batches(self, source: int = 5, target: int = 3) -> dict[str, Any]:
        """Return random batches of the given sizes for the streams of the step; the target is shifted."""
        batches = {"source": _batch(source, seed=1), "target": _batch(target, seed=2, shift=True)}
        if not self.step.uses_target_labels:
            images, labels, indices = batches["target"]
            batches["target"] = (images, tf.fill(tf.shape(labels), -1), indices)
        return {stream: batches[stream] for stream in self.step.stream_names}


def _batch(count: int, *, seed: int, shift: bool = False) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    images = generator.uniform(0, 255, (count, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    if shift:
        images = 120.0 + 0.3 * images
    labels = generator.integers(0, NUM_CLASSES, count).astype(np.int32)
    return tf.constant(images), tf.constant(labels), tf.range(count, dtype=tf.int64)


class _SingleBatchDataset:
    """The part of an `ImageDataset` that `on_epoch` uses, with one batch of random images."""

    num_examples = 7
    has_fingerprint = False

    def __init__(self, seed: int) -> None:
        self._batch = _batch(self.num_examples, seed=seed, shift=True)

    def indexed_batches(self, *_: Any, **__: Any) -> list[Any]:
        """Return the batch, for any arguments."""
        return [self._batch]

    plain_batches = indexed_batches


def _check_options(name: str) -> None:
    model: Any = registry.options_of("adaptation", name)
    assert issubclass(model, StrictModel), f"{name}: Options is not a StrictModel"
    model()  # Every option has a default.
    wrong = [{field: "wrong"} for field in model.model_fields]
    for values in [*wrong, {"no_such_option": 1}]:
        assert _is_rejected(method_options, name, values), f"{name}: accepts {values}"


def _is_rejected(function: Callable[..., object], *arguments: Any) -> bool:
    """Return whether a call raises `RequestError`."""
    try:
        function(*arguments)
    except RequestError:
        return True
    return False


def _check_streams(case: _Case) -> None:
    name, streams, method = case.name, set(case.step.stream_names), case.method
    assert streams, f"{name}: uses no stream"
    assert streams <= {"source", "target"}, f"{name}: uses {sorted(streams)}"
    assert "source" not in streams or not method.source_free, f"{name}: uses the source, but is source_free"
    is_declared = case.step.uses_target_labels == (method.target_labels == "some")
    assert is_declared, f"{name}: METHOD and step differ in the use of target labels"


def _check_losses(case: _Case) -> None:
    batches = case.batches()
    # One graph for all batch sizes, as a training step may be traced.
    graph = tf.function(
        lambda batches: case.step.losses(case.model, batches, tf.constant(PROGRESS)),
        input_signature=[tf.nest.map_structure(_any_batch_size, batches)],
        autograph=False,
    )
    for sizes in ((5, 3), (3, 5), (1, 1)):
        losses = {name: np.asarray(value) for name, value in graph(case.batches(*sizes)).items()}
        assert "loss" in losses, f"{case.name}: no term is called 'loss'"
        assert set(case.step.metric_names) <= set(losses), f"{case.name}: a metric is not in losses"
        for term, value in losses.items():
            assert value.shape == (), f"{case.name}: {term} is not a scalar"
            assert np.isfinite(value), f"{case.name}: {term} is {value} on batches of {sizes}"
    first = _bytes(case.losses(batches))
    assert first == _bytes(case.losses(batches)), f"{case.name}: losses are not reproducible"
    same_seed = case.losses(batches, case.build(seed=1))
    assert first == _bytes(same_seed), f"{case.name}: another step with the same seed has other losses"


def _any_batch_size(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _bytes(losses: Losses) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in losses.items()}


def _check_labels(case: _Case) -> None:
    if "target" not in case.step.stream_names:
        return
    batches = case.batches()
    images, labels, indices = batches["target"]
    relabeled = {**batches, "target": (images, (labels + 1) % NUM_CLASSES, indices)}
    is_same = _bytes(case.losses(batches)) == _bytes(case.losses(relabeled))
    verb = "do not depend" if is_same else "depend"
    assert is_same != case.step.uses_target_labels, f"{case.name}: losses {verb} on target labels"


def _check_distances(case: _Case) -> None:
    if not case.method.distances:
        return
    batches = case.batches(5, 5)
    shifted = case.losses(batches)
    equal = case.losses(dict.fromkeys(batches, batches["source"]))
    for term in case.method.distances:
        assert shifted[term] > 0, f"{case.name}: {term} is not positive for a shift"
        assert abs(equal[term]) < 1e-3 * shifted[term], f"{case.name}: {term} is not 0 for equal domains"


def _check_gradients(case: _Case) -> None:
    layer, batches = case.model.get_layer("head"), case.batches()
    head = {weight.path for weight in layer.weights}
    trained = [variable for variable in case.model.trainable_variables if variable.path not in head]
    gradients = case.gradients(case.model, batches, [*trained, *case.step.variables])
    is_reached = [bool(np.any(gradient)) for gradient in gradients]
    assert any(is_reached[: len(trained)]), f"{case.name}: no gradient reaches the features"
    assert all(is_reached[len(trained) :]), f"{case.name}: a variable of the step has no gradient"
    (head_gradient,) = case.gradients(case.model, batches, [layer.kernel])
    is_frozen = not np.any(head_gradient)
    assert is_frozen == case.method.freezes_head, f"{case.name}: freezes_head is wrong"
    is_declared = head <= set(case.step.frozen_paths(case.model))
    assert is_declared == is_frozen, f"{case.name}: frozen_paths is wrong about the head"


def _check_cached_features(case: _Case) -> None:
    trunk, tail = split_model(case.model, HEAD_INPUT)
    batches = {
        stream: (trunk(images, training=False), *rest) for stream, (images, *rest) in case.batches().items()
    }
    (gradient,) = case.gradients(tail, batches, [case.model.get_layer("head").kernel])
    assert np.any(gradient), f"{case.name}: cached features give the head no gradient"


def _check_cache_is_rejected(case: _Case) -> None:
    for cache in ("features", "boundary", "auto"):
        phase: Any = Phase("only", 1, cache=cache, batch_norm="frozen")
        is_rejected = _is_rejected(check_phase, case.name, case.method, case.model, phase)
        assert is_rejected, f"{case.name}: changes pixels, but accepts cache: {cache}"


def _check_changed_variables(case: _Case) -> None:
    before = {weight.path: np.array(weight.numpy()) for weight in case.model.weights}
    datasets: Any = {"source": _SingleBatchDataset(seed=3), "target": _SingleBatchDataset(seed=4)}
    case.losses(case.batches())
    case.step.on_epoch(case.model, datasets)
    weights = case.model.weights
    changed = [weight for weight in weights if not np.array_equal(before[weight.path], weight.numpy())]
    undeclared = [weight.path for weight in changed if not case.step.may_change(weight)]
    assert not undeclared, f"{case.name}: changes {', '.join(undeclared)} without may_change"
    assert bool(changed) == case.method.requires_statistics, f"{case.name}: requires_statistics is wrong"


def _check_state(case: _Case) -> None:
    """Check that state can be restored; runs after `on_epoch`, so that there is some."""
    state = case.step.state()
    # The last seed is that of the original step, because random maps depend on it and the losses are compared below.
    for seed in (2, 1):
        restored = case.build(seed)
        restored.restore(state)
        again = restored.state()
        assert state.keys() == again.keys()
        for name, value in state.items():
            assert value.tobytes() == again[name].tobytes(), f"{case.name}: does not restore {name}"
    for variable, value in zip(restored.variables, case.step.variables, strict=True):
        variable.assign(value)
    losses = _bytes(case.losses(case.batches()))
    assert losses == _bytes(case.losses(case.batches(), restored)), f"{case.name}: state is incomplete"
