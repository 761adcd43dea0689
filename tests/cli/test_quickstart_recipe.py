"""The quickstart recipe, with and without pretrained weights, trains on A and adapts to B."""

import pytest
from click.testing import CliRunner

from kerastl import export, workflows
from kerastl.cli.quickstart import command
from kerastl.runs import Difference, Estimate, Run
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


@pytest.mark.parametrize(
    ("outcome", "low", "sentence"),
    [
        ("better", 0.05, "Adaptation with 8 labeled patients improved the model at hospital B;"),
        ("worse", -0.3, "Adaptation with 8 labeled patients made the model worse at hospital B;"),
        ("cannot_tell", -0.05, "It is unknown whether adaptation with 8 labeled patients improved the model"),
    ],
)
def test_output_ends_with_a_table_a_sentence_and_the_report(outcome, low, sentence, tmp_path, monkeypatch):
    score = Estimate(value=0.8, low=0.75, high=0.85)
    gain = Difference(value=low + 0.1, low=low, high=low + 0.2, outcome=outcome)
    result = quickstart.QuickstartResult(Run(tmp_path), (("hospital A", score),), (("gain", gain),), 8)
    verified = export.VerificationResult(tmp_path, [export.Finding("predicted", True, "")])
    monkeypatch.setattr(workflows, "run_quickstart", lambda **_: result)
    monkeypatch.setattr(export, "check_export", lambda *_, **__: verified)
    lines = CliRunner().invoke(command, []).stdout.strip().splitlines()
    assert lines[1].split() == ["hospital", "A", "0.800", "(0.750", "to", "0.850)"]
    assert lines[2].split()[:2] == ["gain", f"{low + 0.1:.3f}"]
    assert lines[4].startswith(sentence)
    assert "1 of 1 checks" in lines[4]
    assert lines[-1].startswith("Report: ")
    assert len(lines) == 7
