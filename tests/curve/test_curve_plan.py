"""The runs of a curve: their recipes, initial weights and training data, and that each can be run alone."""

from pathlib import Path

import pytest
from make_curves import hospitals

from kerastl import augment, models
from kerastl import recipe as recipes
from kerastl.workflows import Job, Plan

RUNS = Path("/curve/runs")


def plan_of(recipe, labels=(0, 1, 3), seeds=(7, 8)) -> Plan:
    return Plan(recipe, labels, seeds, 40)


def test_every_run_is_planned_once_and_after_the_runs_it_starts_from():
    plan = plan_of(hospitals())
    jobs = plan.jobs()
    assert len({job.name for job in jobs}) == len(jobs) == 2 * (2 + 3 * 2)
    finished: set[Path] = set()
    for job in jobs:
        weights = plan.recipe_of(job, RUNS).backbone.weights
        assert weights == "none" or weights in finished or weights.parents[1] in finished
        finished.add(RUNS / job.name)
    assert sum(job.strategy == "source" for job in jobs) == 2


@pytest.mark.parametrize("name", ["hospital-adaptation", "hospital-unlabelled", "quickstart"])
def test_the_recipe_of_every_run_is_valid(name):
    plan = plan_of(hospitals(name))
    for job in plan.jobs():
        derived = plan.recipe_of(job, RUNS)
        again = recipes.check(
            recipes.write(derived), name="again",
            tables=models, policy_of=augment.named_policy,
        )  # fmt: skip
        assert again.model_copy(update={"adaptation": None}) == derived.model_copy(
            update={"adaptation": None}
        )
        assert (again.adaptation is None) == (job.strategy != "adapted")
        assert derived.export.formats == ()
        assert derived.seed == job.seed


def test_runs_differ_only_in_their_labels_and_initial_weights():
    plan = plan_of(hospitals("hospital-unlabelled"))
    smaller, larger = (plan.recipe_of(Job("fine_tune", 7, n), RUNS) for n in (1, 3))
    assert smaller.target.labels == "few"
    assert smaller.model_copy(update={"target": None}) == larger.model_copy(update={"target": None})
    assert (smaller.target.few.groups_per_class, larger.target.few.groups_per_class) == (1, 3)
    first = plan.recipe_of(Job("adapt_then_fine_tune", 7, 3), RUNS)
    assert first.model_copy(update={"backbone": None}) == larger.model_copy(update={"backbone": None})
    assert larger.backbone.weights == RUNS / "seed_7_source"
    assert first.backbone.weights == RUNS / "seed_7_adapted"
    (phase,) = larger.phases
    # B has no labelled patient left to steer by, and no optimizer to go on with.
    assert (phase.keep, phase.early_stopping, phase.optimizer_state) == ("last", None, "reset")


def test_the_default_method_is_adabn_with_target_statistics():
    frozen = "phases[1].batch_norm=frozen"
    plan = plan_of(hospitals("hospital-adaptation", frozen, "adaptation=null"))
    adapted = plan.recipe_of(Job("adapted", 7), RUNS)
    assert [method.name for method in adapted.adaptation.methods] == ["adabn"]
    assert [phase.batch_norm for phase in adapted.phases] == ["statistics"]
    assert adapted.target.labels == "none"
    assert plan.recipe_of(Job("fine_tune", 7, 1), RUNS).phases[0].batch_norm == "frozen"
    first = plan.recipe_of(Job("adapt_then_fine_tune", 7, 1), RUNS)
    assert first.backbone.weights == RUNS / "seed_7_adapted" / "runs" / "adabn"


def test_training_from_scratch_uses_the_same_network_fully_trainable_with_its_own_epochs():
    plan = plan_of(hospitals())
    scratch = plan.recipe_of(Job("scratch", 8, 3), RUNS)
    (phase,) = scratch.phases
    assert scratch.backbone == plan.recipe.backbone.model_copy(update={"weights": "none"})
    assert (phase.domain, phase.trainable, phase.batch_norm) == ("target", "all", "trainable")
    assert (phase.epochs, phase.learning_rate) == (40, 1e-3)
    assert scratch.target == plan.recipe_of(Job("fine_tune", 8, 3), RUNS).target
