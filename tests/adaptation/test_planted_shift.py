"""A shift that is planted: what the methods gain over the source alone, by `fit`, and what they leave alone."""

import keras
import numpy as np
import pytest
from domains_drawn import plain_phase
from shapes_drawn import accuracy, model_of_shapes, stored

from kerastl import registry
from kerastl.adaptation import batch_norm_alone, method_named, step_for
from kerastl.training import fit

ALL = "all"


def phase_of(name, model, epochs, rule="frozen"):
    """The phase that a method needs: BatchNorm as `rule` says unless it works by it."""
    method = method_named(name)
    chosen = batch_norm_alone(model) if method.only_batch_norm else ALL
    if method.moves_statistics:
        rule = "trainable" if method.only_batch_norm else "statistics"
    return plain_phase(name, epochs, trainable=chosen, batch_norm=rule, keep="last")


def adapted(name, model, source, target, epochs=1, rule="frozen", options=None, **how):
    return fit(
        model, source, target=target, phases=[phase_of(name, model, epochs, rule)],
        step_for=step_for(name, model, options, seed=1), **how,
    )  # fmt: skip


@pytest.mark.slow
def test_methods_gain_on_a_planted_shift_over_the_source_alone(tmp_path):
    source = stored(tmp_path / "source", 320, 1, target=False)
    target = stored(tmp_path / "target", 320, 2, target=True)
    test = stored(tmp_path / "test", 200, 3, target=True)
    model = model_of_shapes()
    fit(model, source, phases=[plain_phase("source", 8, trainable=ALL, batch_norm="trainable")])
    start = model.get_weights()
    ways = [
        ("source_only", "frozen", {}),
        ("source_only", "statistics", {}),
        ("adabn", "statistics", {}),
        ("coral", "frozen", {}),
        ("mmd", "frozen", {}),
        # With frozen BatchNorm nothing bounds what it learns against, and it gains on some starts only.
        ("dann", "statistics", {"strength": 1.0}),
        ("histogram_matching", "frozen", {}),
        ("reinhard", "frozen", {}),
        ("fda", "frozen", {"beta": 0.05}),
    ]
    reached = {}
    for name, rule, options in ways:
        model.set_weights(start)
        adapted(name, model, source, target, epochs=6, rule=rule, options=options)
        reached[name, rule] = accuracy(model, test)
    alone = max(reached.pop(("source_only", rule)) for rule in ("frozen", "statistics"))
    assert alone < 0.85, "the shift is too small to measure anything"
    for name, value in reached.items():
        assert value > alone + 0.1, f"{name}: {value} against {alone} by the source alone"


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("adaptation"))
def test_every_method_trains_by_the_loop_and_moves_what_it_says(name, tmp_path):
    source = stored(tmp_path / "source", 22, 1, target=False, batch_size=8)
    target = stored(tmp_path / "target", 15, 2, target=True, batch_size=6)
    model = model_of_shapes()
    head = [np.array(one.numpy()) for one in model.get_layer("head").weights]
    history = adapted(name, model, source, target)
    (proof,) = history.freeze_reports
    assert not proof["faults"]
    assert all(np.isfinite(v) for v in history.rows[-1].values() if isinstance(v, float))
    now = [one.numpy() for one in model.get_layer("head").weights]
    still = all(np.array_equal(one, other) for one, other in zip(head, now, strict=True))
    assert still == method_named(name).freezes_head


class Stop(keras.callbacks.Callback):
    """Ctrl-C at the start of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shot", "dann"])
def test_a_resumed_training_goes_on_to_the_same_bytes(name, tmp_path):
    source = stored(tmp_path / "source", 22, 1, target=False, batch_size=8)
    target = stored(tmp_path / "target", 15, 2, target=True, batch_size=6)
    whole, stopped, resumed = (model_of_shapes() for _ in range(3))
    adapted(name, whole, source, target, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        adapted(name, stopped, source, target, epochs=2, checkpoints=tmp_path / "c", callbacks=[Stop()])
    adapted(
        name, resumed, source, target, epochs=2, checkpoints=tmp_path / "c", resume=True,
        callbacks=[keras.callbacks.Callback()],
    )  # fmt: skip
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.path
