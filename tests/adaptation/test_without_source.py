"""Methods that need only a trained model and target images, in `fit` without a source."""

import keras
import numpy as np
import pytest
from make_domains import make_phase
from make_shapes import make_shape_model, write_shapes

from kerastl.adaptation import build_step, get_method, select_batch_norm, step_for
from kerastl.errors import Problems, RequestError
from kerastl.training import fit

PHASES = {
    "adabn": lambda model: make_phase("adabn", 1, batch_norm="statistics", keep="last"),
    "tent": lambda model: make_phase(
        "tent", 1, trainable=select_batch_norm(model), batch_norm="trainable", keep="last"
    ),
    "shot": lambda model: make_phase("shot", 1, trainable="all", keep="last"),
}


@pytest.fixture
def target(tmp_path):
    return write_shapes(tmp_path / "target", 15, 2, target=True, batch_size=6)


def adapt(name, model, target):
    step = step_for(name, model, seed=1, without_source=True)
    return fit(model, {}, target=target, phases=[PHASES[name](model)], step_for=step)


@pytest.mark.slow
@pytest.mark.parametrize("name", PHASES)
def test_methods_train_without_source_and_freeze_the_head(name, target):
    model = make_shape_model()
    head = [np.array(weight.numpy()) for weight in model.get_layer("head").weights]
    (report,) = adapt(name, model, target).freeze_reports
    assert (report["faults"], report["warnings"]) == ([], [])
    rows = {row["layer"]: row for row in report["layers"]}
    assert (rows["head"]["trainable"], rows["head"]["changed"]) == (False, False)
    assert any(row["changed"] for row in rows.values()) == (name != "adabn")
    after = [weight.numpy() for weight in model.get_layer("head").weights]
    assert all(map(np.array_equal, head, after))


@pytest.mark.slow
def test_adabn_sets_the_statistics_to_those_of_the_target_and_changes_nothing_else(target):
    model = make_shape_model()
    names = [weight.path for weight in model.weights]
    before = dict(zip(names, model.get_weights(), strict=True))
    adapt("adabn", model, target)
    after = dict(zip(names, model.get_weights(), strict=True))
    changed = {path for path in names if not np.array_equal(before[path], after[path])}
    assert changed
    assert all(path.endswith(("moving_mean", "moving_variance")) for path in changed)
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    all_images = np.concatenate([images.numpy() for images, _, _ in target.plain_batches(0)])
    inputs = keras.Model(model.inputs[0], norm.input)(all_images, training=False).numpy()
    channels = inputs.astype(np.float64).reshape(-1, inputs.shape[-1])
    np.testing.assert_allclose(norm.moving_mean.numpy(), channels.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), channels.var(0), rtol=1e-3, atol=1e-4)


def test_method_that_needs_the_source_is_rejected_with_alternatives():
    with pytest.raises(RequestError, match="adabn, shot, tent"):
        build_step("coral", num_classes=2, num_features=4, without_source=True)
    assert not get_method("adabn").source_free


def test_phase_of_a_domain_without_images_is_rejected(target):
    model = make_shape_model()
    with pytest.raises(Problems, match="phase adabn"):
        fit(
            model, {}, target=target, phases=[PHASES["adabn"](model)],
            step_for=step_for("adabn", model),
        )  # fmt: skip
