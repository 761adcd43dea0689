"""Adaptation methods in `fit` on a simulated domain shift."""

import shutil

import numpy as np
import pytest
from make_domains import make_phase
from make_shapes import accuracy, make_shape_model, write_shapes

from kerastl import registry
from kerastl.adaptation import get_method, select_batch_norm, step_for
from kerastl.training import fit

ALL = "all"


def phase_of(name, model, epochs, rule="frozen"):
    """Return a phase that fits a method; `rule` is its `batch_norm` unless the method requires another one."""
    method = get_method(name)
    trainable = select_batch_norm(model) if method.only_batch_norm else ALL
    if method.requires_statistics:
        rule = "trainable" if method.only_batch_norm else "statistics"
    return make_phase(name, epochs, trainable=trainable, batch_norm=rule, keep="last")


def adapt(name, model, source, target, epochs=1, rule="frozen", options=None, **how):
    return fit(
        model, source, target=target, phases=[phase_of(name, model, epochs, rule)],
        step_for=step_for(name, model, options, seed=1), **how,
    )  # fmt: skip


@pytest.mark.slow
def test_methods_are_more_accurate_than_source_only_on_a_simulated_shift(tmp_path):
    source = write_shapes(tmp_path / "source", 320, 1, target=False)
    target = write_shapes(tmp_path / "target", 320, 2, target=True)
    test = write_shapes(tmp_path / "test", 200, 3, target=True)
    model = make_shape_model()
    fit(model, source, phases=[make_phase("source", 8, trainable=ALL, batch_norm="trainable")])
    start = model.get_weights()
    cases = [
        ("source_only", "frozen", {}),
        ("source_only", "statistics", {}),
        ("adabn", "statistics", {}),
        ("coral", "frozen", {}),
        ("mmd", "frozen", {}),
        # With frozen BatchNorm, features are unbounded, and the gain of these two depends on the initial weights.
        ("dann", "statistics", {"strength": 1.0}),
        ("reinhard", "statistics", {}),
        ("histogram_matching", "frozen", {}),
        ("fda", "frozen", {"beta": 0.05}),
    ]
    accuracies = {}
    for name, rule, options in cases:
        model.set_weights(start)
        adapt(name, model, source, target, epochs=6, rule=rule, options=options)
        accuracies[name, rule] = accuracy(model, test)
    baseline = max(accuracies.pop(("source_only", rule)) for rule in ("frozen", "statistics"))
    assert baseline < 0.85, "the shift is too small"
    for name, value in accuracies.items():
        assert value > baseline + 0.1, f"{name}: {value}, source only: {baseline}"


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    return (
        write_shapes(folder / "source", 9, 1, target=False, batch_size=8),
        write_shapes(folder / "target", 7, 2, target=True, batch_size=6),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("adaptation"))
def test_fit_trains_every_method_and_changes_the_head_only_if_the_method_does(name, domains):
    model = make_shape_model()
    head = [np.array(weight.numpy()) for weight in model.get_layer("head").weights]
    history = adapt(name, model, *domains)
    (report,) = history.freeze_reports
    assert not report["faults"]
    assert all(np.isfinite(v) for v in history.rows[-1].values() if isinstance(v, float))
    after = [weight.numpy() for weight in model.get_layer("head").weights]
    is_frozen = all(map(np.array_equal, head, after))
    assert is_frozen == get_method(name).freezes_head


@pytest.mark.slow
def test_resumed_training_with_pseudo_labels_gives_equal_bytes(domains, tmp_path):
    """Pseudo-labels depend on the weights of an epoch and must be restored with them."""
    whole, resumed, checkpoints = make_shape_model(), make_shape_model(), tmp_path / "whole"
    saved = tmp_path / "epoch 1"

    def copy(rows, timing):
        if len(rows) == 2:
            shutil.copytree(checkpoints, saved)

    adapt("shot", whole, *domains, epochs=2, checkpoints=checkpoints, on_epoch=copy)
    adapt("shot", resumed, *domains, epochs=2, checkpoints=saved, resume=True)
    for weight, other in zip(whole.weights, resumed.weights, strict=True):
        assert weight.numpy().tobytes() == other.numpy().tobytes(), weight.path
