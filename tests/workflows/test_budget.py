"""The time budget of a recipe."""

import re

import pytest
import yaml

from kerastl import recipe as recipes
from kerastl.workflows import run
from kerastl.workflows.phases import method_phases, run_phases, time_budget

SETS = [
    "target=null",
    "data.image_size_px=32",
    "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "phases=[{name: all, epochs: 2000, learning_rate: 1e-3, trainable: all}, "
    "{name: head, epochs: 1000, learning_rate: 1e-3, trainable: none, batch_norm: frozen}]",
    "export.formats=[]",
]


def loaded(*sets):
    return recipes.load("quickstart", sets=[*SETS, *sets])


def test_a_run_ends_its_phases_within_the_budget(tmp_path, capsys):
    """The budget is so small that every phase trains for one epoch."""
    folder = run.run(loaded("budget={minutes: 1e-5}"), name="tiny", out=tmp_path / "run")
    assert len((folder.path / "history.jsonl").read_text().splitlines()) == 2
    resolved = yaml.safe_load((folder.path / "recipe.resolved.yaml").read_text())
    assert resolved["budget"] == {"minutes": 1e-5}
    assert [phase["epochs"] for phase in resolved["phases"]] == [2000, 1000]
    error = capsys.readouterr().err
    assert "Time budget: phase all stops after 1 of 2000 epochs." in error
    assert "Time budget: phase head stops after 1 of 1000 epochs." in error


def test_the_trainings_of_all_methods_share_the_budget():
    assert time_budget(loaded(), run_phases(loaded())) == []
    recipe = recipes.load(
        "hospital-unlabelled",
        sets=["data.reader.path=a.csv", "target.reader.path=b.csv", "budget.minutes=10"],
    )  # fmt: skip
    (run_budget,) = time_budget(recipe, run_phases(recipe))
    (method_budget,) = time_budget(recipe, method_phases(recipe))
    assert recipe.adaptation is not None
    num_methods = len({method.name for method in recipe.adaptation.methods} - {"source_only"})
    total = run_budget._deadlines[-1] + num_methods * method_budget._deadlines[-1]
    assert total == pytest.approx(600.0)


def test_later_phases_are_named_in_the_time_left(tmp_path, capsys):
    sets = ["phases[0].epochs=2", "phases[0].early_stopping=2", "phases[1].epochs=1"]
    run.run(loaded(*sets), name="tiny", out=tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  epoch ")]
    assert re.search(r", at most .+ left, then head\)$", lines[0])
    assert lines[1].endswith("images/s, then head)")
    assert lines[2].endswith("images/s)")
