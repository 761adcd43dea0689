"""The quickstart recipe, with and without pretrained weights, trains on A and adapts to B."""

import pytest

from kerastl.workflows import quickstart


@pytest.mark.parametrize("backbone", ["small_cnn", "mobilenet_v2"])
def test_it_learns_at_a_then_adapts_to_b(backbone, keras_home):
    recipe = quickstart.load_recipe(None, backbone)
    assert recipe.backbone.name == backbone
    assert [phase.domain for phase in recipe.phases] == ["source", "target"]
    assert recipe.phases[1].batch_norm == "statistics"


def test_without_cached_weights_it_starts_from_random_weights_and_reports_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    recipe = quickstart.load_recipe(3, "mobilenet_v2")
    assert (recipe.backbone.name, recipe.backbone.weights, recipe.seed) == ("small_cnn", "none", 3)
    assert "No ImageNet weights" in capsys.readouterr().err


def test_the_comparison_trains_from_scratch_on_the_same_labeled_images():
    recipe = quickstart.load_recipe(None, "small_cnn", extra=(quickstart.SCRATCH_PHASES,))
    (phase,) = recipe.phases
    assert (phase.domain, phase.trainable, phase.batch_norm) == ("target", "all", "trainable")
    assert recipe.target == quickstart.load_recipe(None, "small_cnn").target
