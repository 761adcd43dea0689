"""What every adaptation method must keep true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.adaptation import (
    AdaptationStep,
    Method,
    batch_norm_alone,
    build_step,
    check_phase,
    method_named,
    named_options,
)
from kerastl.errors import RequestError
from kerastl.models import build_backbone, build_model
from kerastl.options import StrictModel
from kerastl.recipe import Phase
from kerastl.training import unfreeze

SIZE_PX = 16
NUM_CLASSES = 3
HALF_WAY = 0.5
Told = dict[str, np.ndarray[Any, Any]]


def check_adaptation(name: str) -> None:
    """Check one method, on drawn images and a small network with random weights.

    - its facts are a `Method`; its options a frozen dataclass whose wrong values are refused with a `RequestError`;
    - it reads the streams that its facts allow;
    - its losses are finite scalars on batches of 5 and 3, 3 and 5, and 1 and 1, the same bytes each time and for each step that
      is built from the same seed;
    - target labels change no byte of them, unless its facts say that it reads them;
    - a distance between the domains is 0 where they are the same, and above 0 where the images are shifted;
    - gradients are finite, and reach what learns before the head, and the step's own variables, and not a head that is frozen; where the head alone is enough, the
      losses work on cached features, too; where it changes the images, a cache is refused;
    - nothing moves that neither learns nor `may_change`;
    - variables and `state` are all there is: a step that takes them back has the same losses.

    Args:
        name: of the method.

    Raises:
        AssertionError: one of these does not hold.
    """
    method = method_named(name)
    assert isinstance(method, Method), f"{name}: METHOD is no Method"
    _check_options(name)
    case = _Case(name, method)
    _check_streams(case)
    _check_losses(case)
    _check_labels(case)
    _check_distances(case)
    _check_gradients(case)
    if method.changes_pixels:
        _check_caches_are_refused(case)
    elif method.learns == "head":
        _check_cached_features(case)
    _check_what_moves(case)
    _check_state(case)


class _Case:
    """A method with a model that it fits."""

    def __init__(self, name: str, method: Method) -> None:
        self.name, self.method = name, method
        backbone = build_backbone("small_cnn", weights="none", image_size_px=SIZE_PX, seed=1)
        names = [f"class {number}" for number in range(NUM_CLASSES)]
        self.model = build_model(backbone, class_names=names, dropout=0.0, seed=1)
        self.step = self.built(seed=1)
        chosen = batch_norm_alone(self.model) if method.only_batch_norm else "all"
        rule: Any = "trainable" if method.moves_statistics else "frozen"
        phase = Phase("only", 1, trainable=chosen, batch_norm=rule, cache="none")
        check_phase(name, method, self.model, phase)
        unfreeze(self.model, phase.trainable, batch_norm=phase.batch_norm)
        self._tell = _traced(self.model, self.step)

    def built(self, seed: int) -> AdaptationStep:
        """Return the step of the method."""
        num_features = self.model.get_layer("head").kernel.shape[0]
        return build_step(self.name, num_classes=NUM_CLASSES, num_features=int(num_features), seed=seed)

    def told(self, batches: Mapping[str, Any], step: AdaptationStep | None = None) -> Told:
        """Return the losses of batches."""
        tell = self._tell if step is None else _traced(self.model, step)
        found = tell(batches, tf.constant(HALF_WAY))
        return {name: np.asarray(value) for name, value in found.items()}

    def batches(self, source: int = 5, target: int = 3) -> dict[str, Any]:
        """Return drawn batches of some sizes for the streams that are read; the target's are shifted."""
        drawn = {"source": _batch(source, seed=1), "target": _batch(target, seed=2, shift=True)}
        if not self.step.uses_target_labels:
            images, labels, indices = drawn["target"]
            drawn["target"] = (images, tf.fill(tf.shape(labels), -1), indices)
        return {stream: drawn[stream] for stream in self.step.stream_names}


def _traced(model: keras.Model, step: AdaptationStep) -> Any:
    return tf.function(
        lambda batches, progress: step.losses(model, batches, progress),
        autograph=False,
        reduce_retracing=True,
    )


def _batch(count: int, *, seed: int, shift: bool = False) -> tuple[Any, Any, Any]:
    drawn = np.random.default_rng(seed)
    images = drawn.uniform(0, 255, (count, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    if shift:
        images = 120.0 + 0.3 * images
    labels = drawn.integers(0, NUM_CLASSES, count).astype(np.int32)
    return tf.constant(images), tf.constant(labels), tf.range(count, dtype=tf.int64)


class _Images:
    """What `on_epoch` asks of a source, of one batch of drawn images."""

    num_examples = 7

    def __init__(self, seed: int) -> None:
        self._batch = _batch(self.num_examples, seed=seed, shift=True)

    def indexed_batches(self, *_: Any, **__: Any) -> list[Any]:
        """Return the batch, whichever is asked for."""
        return [self._batch]

    plain_batches = indexed_batches


def _check_options(name: str) -> None:
    kind: Any = registry.options_of("adaptation", name)
    assert issubclass(kind, StrictModel), f"{name}: Options is not a StrictModel"
    kind()  # every option has a default
    wrong = [{field: "wrong"} for field in kind.model_fields]
    for values in [*wrong, {"no_such_option": 1}]:
        try:
            named_options(name, values)
        except RequestError:
            continue
        raise AssertionError(f"{name}: takes {values}")


def _check_streams(case: _Case) -> None:
    name, stream_names = case.name, set(case.step.stream_names)
    assert stream_names, f"{name}: reads nothing"
    assert stream_names <= {"source", "target"}, f"{name}: reads {sorted(stream_names)}"
    assert not (case.method.source_free and "source" in stream_names), f"{name}: reads the source"
    some = case.method.target_labels == "some"
    assert case.step.uses_target_labels == some, f"{name}: facts and step differ about labels"


def _check_losses(case: _Case) -> None:
    for sizes in ((5, 3), (3, 5), (1, 1)):
        told = case.told(case.batches(*sizes))
        assert "loss" in told, f"{case.name}: no term is called loss"
        assert set(case.step.metric_names) <= set(told), f"{case.name}: shown is not told"
        for term, value in told.items():
            assert value.shape == (), f"{case.name}: {term} is no scalar"
            assert np.isfinite(value), f"{case.name}: {term} is {value} on batches of {sizes}"
    batches = case.batches()
    once = _bytes(case.told(batches))
    assert once == _bytes(case.told(batches)), f"{case.name}: does not repeat"
    twin = case.told(batches, case.built(seed=1))
    assert once == _bytes(twin), f"{case.name}: the same seed gives another step"


def _bytes(told: Told) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in told.items()}


def _check_labels(case: _Case) -> None:
    if "target" not in case.step.stream_names:
        return
    batches = case.batches()
    images, labels, indices = batches["target"]
    others = {**batches, "target": (images, (labels + 1) % NUM_CLASSES, indices)}
    same = _bytes(case.told(batches)) == _bytes(case.told(others))
    stream_names = case.step.uses_target_labels
    assert same != stream_names, f"{case.name}: target labels {'change nothing' if same else 'are read'}"


def _check_distances(case: _Case) -> None:
    if not case.method.aligns:
        return
    batches = case.batches(5, 5)
    shifted = case.told(batches)
    equal = case.told(dict.fromkeys(batches, batches["source"]))
    for term in case.method.aligns:
        assert shifted[term] > 0, f"{case.name}: {term} does not see a shift"
        assert abs(equal[term]) < 1e-3 * shifted[term], f"{case.name}: {term} of equal domains"


def _check_gradients(case: _Case) -> None:
    head = {one.path for one in case.model.get_layer("head").weights}
    trained = [one for one in case.model.trainable_variables if one.path not in head]
    own = list(case.step.variables)
    found = _gradients(case, case.model, case.batches(), [*trained, *own])
    reached = [bool(np.any(one)) for one in found]
    assert any(reached[: len(trained)]), f"{case.name}: no gradient reaches the features"
    assert all(reached[len(trained) :]), f"{case.name}: its own variables get no gradient"
    (of_head,) = _gradients(case, case.model, case.batches(), [case.model.get_layer("head").kernel])
    still = not np.any(of_head)
    assert still == case.method.freezes_head, f"{case.name}: facts about the head"
    assert (head <= set(case.step.frozen_paths(case.model))) == still, f"{case.name}: keeps another head"


def _gradients(case: _Case, model: keras.Model, batches: Mapping[str, Any], variables: Any) -> Any:
    with tf.GradientTape() as tape:
        told = case.step.losses(model, batches, tf.constant(HALF_WAY))
        total = tf.add_n([told[name] for name in told if name not in case.step.metric_names])
    found = tape.gradient(
        total, [one.value for one in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    assert all(np.isfinite(one).all() for one in found), f"{case.name}: a gradient is not finite"
    return found


def _check_cached_features(case: _Case) -> None:
    pooled = case.model.get_layer("pooled").output
    front = keras.Model(case.model.inputs[0], pooled)
    tail = keras.Model(pooled, case.model.outputs[0])
    batches = {
        stream: (front(images, training=False), *rest) for stream, (images, *rest) in case.batches().items()
    }
    (found,) = _gradients(case, tail, batches, [case.model.get_layer("head").kernel])
    assert np.any(found), f"{case.name}: nothing to learn from cached features"


def _check_caches_are_refused(case: _Case) -> None:
    for cache in ("features", "boundary", "auto"):
        phase: Any = Phase("only", 1, cache=cache, batch_norm="frozen")
        try:
            check_phase(case.name, case.method, case.model, phase)
        except RequestError:
            continue
        raise AssertionError(f"{case.name}: changes pixels, and takes cache: {cache}")


def _check_what_moves(case: _Case) -> None:
    known = {one.path: one for one in case.model.weights}
    before = {path: np.array(one.numpy()) for path, one in known.items()}
    sources: Any = {"source": _Images(seed=3), "target": _Images(seed=4)}
    case.told(case.batches())
    case.step.on_epoch(case.model, sources)
    moved = [one for path, one in known.items() if not np.array_equal(before[path], one.numpy())]
    stray = [one.path for one in moved if not case.step.may_change(one)]
    assert not stray, f"{case.name}: moves {', '.join(stray)}, and may_move says no"
    assert bool(moved) == case.method.moves_statistics, f"{case.name}: facts about statistics"


def _check_state(case: _Case) -> None:
    """After `on_epoch`, so that there is something to keep."""
    state = case.step.state()
    twin = case.built(seed=2)
    twin.restore(state)
    again = twin.state()
    assert state.keys() == again.keys()
    for name, value in state.items():
        assert value.tobytes() == again[name].tobytes(), f"{case.name}: loses {name}"
    # What is drawn and not learnt follows the seed, so losses are compared between steps of one.
    twin = case.built(seed=1)
    twin.restore(state)
    for variable, value in zip(twin.variables, case.step.variables, strict=True):
        variable.assign(value)
    told = _bytes(case.told(case.batches()))
    assert told == _bytes(case.told(case.batches(), twin)), f"{case.name}: state is not all of it"
