"""The runs of a curve: their recipes, initial weights and training data, and that each can be run alone."""

from pathlib import Path

import pytest
from curves_drawn import hospitals

from kerastl import augment, models, registry
from kerastl import recipe as recipes
from kerastl.workflows import Job, Plan

RUNS = Path("/curve/runs")


def plan_of(recipe, labels=(0, 1, 3), seeds=(7, 8)) -> Plan:
    return Plan(recipe, labels, seeds, 40)


def test_every_run_is_there_once_and_behind_those_that_it_begins_with():
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
def test_the_recipe_of_every_run_is_one_that_check_takes(name):
    plan = plan_of(hospitals(name))
    for job in plan.jobs():
        derived = plan.recipe_of(job, RUNS)
        again = recipes.check(
            recipes.write(derived), name="again",
            tables=models, read_domains=registry.read_domains, policy_of=augment.named_policy,
        )  # fmt: skip
        assert again.model_copy(update={"adaptation": None}) == derived.model_copy(
            update={"adaptation": None}
        )
        assert (again.adaptation is None) == (job.strategy != "adapted")
        assert derived.export.formats == ()
        assert derived.seed == job.seed


def test_only_the_labels_differ_between_two_numbers_and_the_start_between_two_ways():
    plan = plan_of(hospitals("hospital-unlabelled"))
    with_one_label, with_three_labels = (plan.recipe_of(Job("fine_tune", 7, n), RUNS) for n in (1, 3))
    assert with_one_label.target.labels == "few"
    assert with_one_label.model_copy(update={"target": None}) == with_three_labels.model_copy(
        update={"target": None}
    )
    assert (with_one_label.target.few.groups_per_class, with_three_labels.target.few.groups_per_class) == (
        1,
        3,
    )
    first = plan.recipe_of(Job("adapt_then_fine_tune", 7, 3), RUNS)
    assert first.model_copy(update={"backbone": None}) == with_three_labels.model_copy(
        update={"backbone": None}
    )
    assert with_three_labels.backbone.weights == RUNS / "seed_7_source"
    assert first.backbone.weights == RUNS / "seed_7_adapted"
    (phase,) = with_three_labels.phases
    # B has no labelled patient left to steer by, and no optimizer to go on with.
    assert (phase.keep, phase.early_stopping, phase.optimizer_state) == ("last", None, "reset")


def test_without_ways_to_adapt_in_the_recipe_adabn_is_taken_and_its_statistics_may_follow():
    frozen = "phases[1].batch_norm=frozen"
    plan = plan_of(hospitals("hospital-adaptation", frozen, "adaptation=null"))
    adapted = plan.recipe_of(Job("adapted", 7), RUNS)
    assert [method.name for method in adapted.adaptation.methods] == ["adabn"]
    assert [phase.batch_norm for phase in adapted.phases] == ["statistics"]
    assert adapted.target.labels == "none"
    assert plan.recipe_of(Job("fine_tune", 7, 1), RUNS).phases[0].batch_norm == "frozen"
    first = plan.recipe_of(Job("adapt_then_fine_tune", 7, 1), RUNS)
    assert first.backbone.weights == RUNS / "seed_7_adapted" / "runs" / "adabn"


def test_from_scratch_is_the_same_network_with_everything_free_and_a_length_of_its_own():
    plan = plan_of(hospitals())
    scratch = plan.recipe_of(Job("scratch", 8, 3), RUNS)
    (phase,) = scratch.phases
    assert scratch.backbone == plan.recipe.backbone.model_copy(update={"weights": "none"})
    assert (phase.domain, phase.trainable, phase.batch_norm) == ("target", "all", "trainable")
    assert (phase.epochs, phase.learning_rate) == (40, 1e-3)
    assert scratch.target == plan.recipe_of(Job("fine_tune", 8, 3), RUNS).target
