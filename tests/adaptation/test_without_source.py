"""Methods that need only a trained model and target images, in `fit` without a source."""

import keras
import numpy as np
import pytest
from domains_drawn import plain_phase
from shapes_drawn import model_of_shapes, stored

from kerastl.adaptation import batch_norm_alone, build_step, method_named, step_for
from kerastl.errors import Problems, RequestError
from kerastl.training import fit

PHASES = {
    "adabn": lambda model: plain_phase("adabn", 1, batch_norm="statistics", keep="last"),
    "tent": lambda model: plain_phase(
        "tent", 1, trainable=batch_norm_alone(model), batch_norm="trainable", keep="last"
    ),
    "shot": lambda model: plain_phase("shot", 1, trainable="all", keep="last"),
}


@pytest.fixture
def target(tmp_path):
    return stored(tmp_path / "target", 15, 2, target=True, batch_size=6)


def adapted(name, model, target):
    step = step_for(name, model, seed=1, without_source=True)
    return fit(model, {}, target=target, phases=[PHASES[name](model)], step_for=step)


@pytest.mark.slow
@pytest.mark.parametrize("name", PHASES)
def test_they_train_without_a_source_and_keep_the_head_frozen(name, target):
    model = model_of_shapes()
    head = [np.array(one.numpy()) for one in model.get_layer("head").weights]
    (proof,) = adapted(name, model, target).freeze_reports
    assert (proof["faults"], proof["warnings"]) == ([], [])
    rows = {row["layer"]: row for row in proof["layers"]}
    assert (rows["head"]["trainable"], rows["head"]["changed"]) == (False, False)
    assert any(row["changed"] for row in rows.values()) == (name != "adabn")
    now = [one.numpy() for one in model.get_layer("head").weights]
    assert all(np.array_equal(one, other) for one, other in zip(head, now, strict=True))


def test_adabn_sets_the_statistics_to_those_of_the_target_and_changes_nothing_else(target):
    model = model_of_shapes()
    names = [one.path for one in model.weights]
    before = dict(zip(names, model.get_weights(), strict=True))
    adapted("adabn", model, target)
    after = dict(zip(names, model.get_weights(), strict=True))
    moved = {path for path in names if not np.array_equal(before[path], after[path])}
    assert moved
    assert all(path.endswith(("moving_mean", "moving_variance")) for path in moved)
    norm = next(one for one in model.layers if isinstance(one, keras.layers.BatchNormalization))
    pictures = np.concatenate([images.numpy() for images, _, _ in target.plain_batches(0)])
    seen = keras.Model(model.inputs[0], norm.input)(pictures, training=False).numpy()
    wanted = seen.astype(np.float64).reshape(-1, seen.shape[-1])
    np.testing.assert_allclose(norm.moving_mean.numpy(), wanted.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), wanted.var(0), rtol=1e-3, atol=1e-4)


def test_a_method_that_needs_the_source_is_refused_with_the_names_of_those_that_do_not():
    with pytest.raises(RequestError, match="adabn, shot, tent"):
        build_step("coral", num_classes=2, num_features=4, without_source=True)
    assert not method_named("adabn").source_free


def test_a_phase_whose_domain_has_no_images_is_refused(target):
    model = model_of_shapes()
    with pytest.raises(Problems, match="phase adabn"):
        fit(
            model, {}, target=target, phases=[PHASES["adabn"](model)],
            step_for=step_for("adabn", model),
        )  # fmt: skip
