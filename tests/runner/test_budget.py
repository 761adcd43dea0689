"""A budget of minutes cuts the phases once, before the first step, and the run repeats without it."""

import json
import re

import pytest
import yaml

from kerastl import recipe as recipes
from kerastl import runner
from kerastl.errors import RequestError
from kerastl.recipe import Phase
from kerastl.runs import Run
from kerastl.stages import budget
from kerastl.stages.budget import cut_to, within_budget
from kerastl.stages.plan import Plan, began_with
from kerastl.training import Cost

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


def phases(*epochs):
    return [Phase(str(at), count) for at, count in enumerate(epochs)]


def test_epochs_are_cut_by_one_factor_and_no_further_than_needed():
    costs = [Cost(1.0, 2.0), Cost(3.0, 0.5)]
    whole = phases(20, 40)
    assert cut_to(whole, costs, 64.0) == [20, 40]
    for seconds in (63.9, 40.0, 20.0, 7.0, 6.5):
        found = cut_to(whole, costs, seconds)
        takes = sum(
            cost.once + count * cost.epoch for cost, count in zip(costs, found, strict=True)
        )
        assert takes <= seconds
        assert takes > seconds - 2.0 - 2 * 0.5
        assert found[1] == pytest.approx(2 * found[0], abs=2)
    with pytest.raises(RequestError, match="one epoch of each phase takes"):
        cut_to(whole, costs, 6.4)


def test_a_part_of_a_longer_phase_is_not_cut():
    part = Phase("part", 1, trainable={"from_block": "x"}).with_schedule_span(0, 3)
    assert cut_to([*phases(10), part], [Cost(0, 1), Cost(0, 1)], 6.0) == [5, 1]


@pytest.mark.slow
def test_a_run_fits_its_budget_and_its_resolved_recipe_has_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(budget, "cost_of", lambda *_, **__: Cost(0.0, 1.0))
    folder = runner.run(loaded("budget={minutes: 0.25}"), name="tiny", out=tmp_path / "run")
    began = yaml.safe_load((folder.path / "recipe.resolved.yaml").read_text())
    assert began["budget"] is None
    epochs = [one["epochs"] for one in began["phases"]]
    assert epochs == [10, 5]
    rows = (folder.path / "history.jsonl").read_text().splitlines()
    assert len(rows) == sum(epochs)
    told = capsys.readouterr().err
    assert "Within the budget of 0.25, epochs: all 2000 -> 10, head 1000 -> 5" in told
    lines = [line for line in told.splitlines() if line.startswith("  epoch ")]
    assert len(lines) == sum(epochs)
    # The trial said 5 s of the second phase: they count before it begins.
    assert re.search(r" images/s, (\d+ min )?\d+ s left\)$", lines[0])
    assert " left" not in lines[-1]
    timings = [json.loads(row) for row in (folder.path / "timings.jsonl").read_text().splitlines()]
    assert timings[9]["seconds_left"] == 5.0
    assert timings[14]["seconds_left"] == 0.0
    assert not {"seconds", "seconds_left"} & json.loads(rows[0]).keys()


def test_a_phase_that_nothing_is_known_of_is_named(tmp_path, capsys):
    sets = ["phases[0].epochs=2", "phases[0].early_stopping=2", "phases[1].epochs=1"]
    runner.run(loaded(*sets), name="tiny", out=tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  epoch ")]
    assert re.search(r", at most .+ left, then head\)$", lines[0])
    assert lines[1].endswith("images/s, then head)")
    assert lines[2].endswith("images/s)")


def test_a_run_that_goes_on_keeps_what_it_decided(tmp_path):
    (tmp_path / "recipe.resolved.yaml").write_text("phases: [{epochs: 5}, {epochs: 7}]\n")
    recipe = loaded("budget={minutes: 1}")
    began = began_with(Run(tmp_path), resume=True)
    found, costs = within_budget(recipe, Plan([], None, {}, {}, [], began))
    assert [one.epochs for one in found.phases] == [5, 7]
    assert found.budget is None
    assert costs == ()


def test_too_small_a_budget_is_refused_and_nothing_is_left(tmp_path):
    """With the real trial: no machine trains for two phases in a thousandth of a second."""
    with pytest.raises(RequestError, match="one epoch of each phase takes"):
        runner.run(loaded("budget={minutes: 1e-5}"), name="tiny", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
