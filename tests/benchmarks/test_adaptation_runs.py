"""The recipe of the adaptation benchmark, and the result read from a finished run."""

import dataclasses
import json
from pathlib import Path

import pytest

from kerastl import augment, models
from kerastl import recipe as recipes

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import adaptation_runs

    return adaptation_runs


@pytest.fixture
def plan(runs):
    sizes = runs.Sizes(images=10, patients=(12, 6), mnist=None)
    return runs.Plan("adabn,shot", epochs=3, adapt_epochs=2, batch_size=8, sizes=sizes, peers=())


def checked(text):
    return recipes.check(
        text, name="case",tables=models,
        policy_of=augment.named_policy,
    )  # fmt: skip


def test_the_recipe_is_valid_and_follows_the_plan(runs, plan, tmp_path):
    task = runs.make_task("a to b", tmp_path, plan.sizes, seed=4)
    recipe = checked(runs.format_recipe(task, 4, plan))
    assert (recipe.seed, recipe.target.labels) == (4, "none")
    assert [phase.epochs for phase in recipe.phases] == [3, 2]
    assert (recipe.data.reader.options.patients, recipe.target.reader.options.patients) == (12, 6)


def test_without_source_epochs_methods_start_from_random_weights(runs, plan, tmp_path):
    task = runs.make_task("a to b", tmp_path, plan.sizes, seed=4)
    (phase,) = checked(runs.format_recipe(task, 4, dataclasses.replace(plan, epochs=0))).phases
    assert (phase.domain, phase.epochs, phase.learning_rate) == ("target", 2, 1e-3)


def write_run(folder, **changes):
    guards = {"nothing_to_adapt": {"fired": False}, "other_prevalence": {"fired": True}}
    result = {"chosen": "shot", "verdict": "adapt", "guards": guards}
    (folder / "adaptation.json").write_text(json.dumps({**result, **changes}))


def test_the_result_is_read_from_the_run_folder(runs, tmp_path):
    oracle = {"source_only": {"group_auc": {"value": 0.6}}, "shot": {"group_auc": {"value": 0.8}}}
    write_run(tmp_path, oracle=oracle, target_test={"difference": {"outcome": "better"}})
    assert runs.read_result(tmp_path, "group_auc") == {
        "values": {"source_only": 0.6, "shot": 0.8}, "chosen": "shot", "verdict": "adapt",
        "guards": ["other_prevalence"], "outcome": "better",
    }  # fmt: skip


def test_an_unlabeled_target_has_no_values_and_no_outcome(runs, tmp_path):
    write_run(tmp_path, oracle=None, target_test=None)
    result = runs.read_result(tmp_path, "balanced_accuracy")
    assert (result["values"], result["outcome"]) == ({}, None)


def test_a_folder_with_a_run_of_another_recipe_is_refused(runs, plan, tmp_path):
    (tmp_path / "recipe.yaml").write_text("format: 1\n")
    with pytest.raises(SystemExit, match="another recipe"):
        runs.run_case("a to b", 1, tmp_path, plan)
