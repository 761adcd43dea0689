"""Adaptation methods in `fit`, on a planted domain shift."""

import shutil

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
def test_methods_are_more_accurate_than_source_only_on_a_planted_shift(tmp_path):
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


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    return (
        stored(folder / "source", 9, 1, target=False, batch_size=8),
        stored(folder / "target", 7, 2, target=True, batch_size=6),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("adaptation"))
def test_fit_trains_every_method_and_changes_the_head_only_if_the_method_does(name, domains):
    model = model_of_shapes()
    head = [np.array(one.numpy()) for one in model.get_layer("head").weights]
    history = adapted(name, model, *domains)
    (proof,) = history.proofs
    assert not proof["faults"]
    assert all(np.isfinite(v) for v in history.rows[-1].values() if isinstance(v, float))
    now = [one.numpy() for one in model.get_layer("head").weights]
    still = all(np.array_equal(one, other) for one, other in zip(head, now, strict=True))
    assert still == method_named(name).freezes_head


@pytest.mark.slow
def test_a_resumed_run_with_pseudo_labels_ends_with_equal_bytes(domains, tmp_path):
    """Pseudo labels are made by the weights of each epoch: they must be restored with them."""
    whole, resumed, checkpoints = model_of_shapes(), model_of_shapes(), tmp_path / "whole"
    kept = tmp_path / "epoch 1"

    def copy(rows, timing):
        if len(rows) == 2:
            shutil.copytree(checkpoints, kept)

    adapted("shot", whole, *domains, epochs=2, checkpoints=checkpoints, on_epoch=copy)
    adapted("shot", resumed, *domains, epochs=2, checkpoints=kept, resume=True)
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.path
