"""The time budget of a recipe."""

import re
from types import SimpleNamespace

import pytest
import yaml

from kerastl import recipe as recipes
from kerastl.workflows import run
from kerastl.workflows.check_recipe import check_recipe
from kerastl.workflows.resolve import plan_of
from kerastl.workflows.run_writer import epoch_line

SETS = [
    "target=null",
    "augment=none",
    "data.image_size_px=32",
    "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "phases=[{name: all, epochs: 2000, learning_rate: 1e-3, trainable: all}, "
    "{name: head, epochs: 1000, learning_rate: 1e-3, trainable: none, batch_norm: frozen}]",
    "export.formats=[]",
]


def loaded(*sets):
    return check_recipe(recipes.find("quickstart"), [*SETS, *sets])


@pytest.mark.slow
def test_a_run_ends_its_phases_within_the_budget(tmp_path, capsys):
    """The budget is so small that every phase trains for one epoch."""
    folder = run.run(loaded("budget={minutes: 1e-5}"), name="tiny", out=tmp_path / "run")
    assert len((folder.path / "history.jsonl").read_text().splitlines()) == 2
    resolved = yaml.safe_load((folder.path / "recipe.resolved.yaml").read_text())
    assert resolved["budget"] == {"minutes": 1e-5}
    assert [phase["epochs"] for phase in resolved["phases"]] == [2000, 1000]
    error = capsys.readouterr().err
    assert "all: stopped by the time budget after 1 of 2,000 epochs." in error
    assert "head: stopped by the time budget after 1 of 1,000 epochs." in error


def test_the_trainings_of_all_methods_share_the_budget(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table in ("a.csv", "b.csv"):
        (tmp_path / table).write_text("path,label\n")
    initial = SimpleNamespace(model=None, head=SimpleNamespace(outcome="replaced"))
    sets = ["data.reader.path=a.csv", "target.reader.path=b.csv", "adaptation.methods=[coral, dann]"]
    recipe = recipes.find("hospital-unlabelled")
    plan = plan_of(check_recipe(recipe, sets), initial)
    assert plan.time_budget(plan.phases) == []
    plan = plan_of(check_recipe(recipe, [*sets, "budget.minutes=10"]), initial)
    (run_budget,) = plan.time_budget(plan.phases)
    _, *methods = plan.candidates
    method_budgets = [callback for planned in methods for callback in plan.time_budget(planned.phases)]
    assert len(method_budgets) == 2
    total = sum(budget._deadlines[-1] for budget in [run_budget, *method_budgets])
    assert total == pytest.approx(600.0)


def test_later_phases_are_named_in_the_time_left():
    row = {"epoch": 1, "phase": "all", "loss": 0.5, "val_loss": None}
    timing = {"seconds": 2.0, "images_per_s": 30.0, "seconds_left": 4.0, "at_most": True, "untimed": ["head"]}
    assert re.search(
        r"  epoch 1/3  all: loss 0.500  .+, at most .+ left, then head\)$", epoch_line(row, timing, 3)
    )
    timing |= {"seconds_left": 0.0, "untimed": ["head", "tune"]}
    assert epoch_line(row, timing, 3).endswith("30 images/s, then head and 1 more phase)")
    assert epoch_line(row, timing | {"untimed": []}, 3).endswith("30 images/s)")
