"""Which runs a curve is made of, and the recipe of each. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerastl import recipe as recipes
from kerastl.recipe import Recipe
from kerastl.report.label_budget_page import ADAPT_THEN_FINE_TUNE, SCRATCH, WAYS

SOURCE, ADAPTED = "source", "adapted"
FALLBACK = "adabn"
"""How the model is adapted without labels where the recipe does not say."""


@dataclass(frozen=True)
class Job:
    """One run of a curve.

    Args:
        way: `source` (A's model), `adapted` (that model adapted without labels), or one of `WAYS`.
        seed: of everything that is random in it.
        groups_per_class: labelled groups (patients) of each class of B; 0 where none is.
    """

    way: str
    seed: int
    groups_per_class: int = 0

    @property
    def name(self) -> str:
        """Its folder under `runs/`."""
        number = f"_{self.groups_per_class}" if self.groups_per_class else ""
        return f"seed_{self.seed}_{self.way}{number}"

    @property
    def words(self) -> str:
        """What it is, for people; the unit is told elsewhere."""
        if self.way == SOURCE:
            return f"seed {self.seed}, A's model"
        if self.way == ADAPTED:
            return f"seed {self.seed}, A's model adapted without labels"
        return f"seed {self.seed}, {self.way}, {self.groups_per_class}"


@dataclass(frozen=True)
class Plan:
    """A curve.

    Args:
        recipe: checked; its labels at the target are replaced by the curve's.
        labels: labelled groups per class, ascending, 0 first.
        seeds: ascending.
        scratch_epochs: of each run from random weights.
    """

    recipe: Recipe
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    scratch_epochs: int

    def jobs(self) -> list[Job]:
        """Return all runs, each behind those that it begins with."""
        found = []
        for seed in self.seeds:
            found += [Job(SOURCE, seed), Job(ADAPTED, seed)]
            found += [Job(way, seed, number) for way in WAYS for number in self.labels if number]
        return found

    def recipe_of(self, job: Job, runs: Path) -> Recipe:
        """Return the recipe of one run.

        Args:
            job: which.
            runs: folder of all runs; the model that a run begins with lies there.
        """
        bare = self.recipe.model_copy(
            update={
                "seed": job.seed,
                "adaptation": None,
                "export": self.recipe.export.model_copy(update={"formats": ()}),
                "target": self._target(job.groups_per_class),
            }
        )
        if job.way == SOURCE:
            return bare.model_copy(update={"phases": self._phases("source")})
        if job.way == SCRATCH:
            weights = bare.backbone.model_copy(update={"weights": "none"})
            scratch = (scratch_phase(self.scratch_epochs),)
            return bare.model_copy(update={"backbone": weights, "phases": scratch})
        start = bare.backbone.model_copy(update={"weights": self.start_of(job, runs)})
        phases = tuple(_steered_by_nothing(one) for one in self._phases("target"))
        phases = (phases[0].model_copy(update={"optimizer_state": "reset"}), *phases[1:])
        if job.way != ADAPTED:
            return bare.model_copy(update={"backbone": start, "phases": phases})
        adaptation = self.recipe.adaptation
        if adaptation is None:
            adaptation = recipes.Adaptation(methods=(recipes.Method(name=FALLBACK),))
            phases = tuple(_with_statistics(one) for one in phases)
        return bare.model_copy(
            update={"backbone": start, "phases": phases, "adaptation": adaptation}
        )

    def start_of(self, job: Job, runs: Path) -> Path:
        """Return the run that another begins with."""
        if job.way != ADAPT_THEN_FINE_TUNE:
            return runs / Job(SOURCE, job.seed).name
        return self.adapted_of(job.seed, runs)

    def adapted_of(self, seed: int, runs: Path) -> Path:
        """Return the run folder of the model that was adapted without labels.

        Where the recipe names ways to adapt, it is the chosen one; else AdaBN's, which is not chosen but taken.
        """
        adapted = runs / Job(ADAPTED, seed).name
        return adapted if self.recipe.adaptation else adapted / "runs" / FALLBACK

    def _phases(self, domain: str) -> tuple[recipes.Phase, ...]:
        return tuple(one for one in self.recipe.phases if one.domain == domain)

    def _target(self, groups_per_class: int) -> recipes.Target:
        target = self.recipe.target
        assert target is not None
        if not groups_per_class:
            return target.model_copy(update={"labels": "none", "few": None})
        few = recipes.Few(groups_per_class=groups_per_class)
        return target.model_copy(update={"labels": "few", "few": few})


def scratch_phase(epochs: int) -> recipes.Phase:
    """Return the phase of random weights: a rate and a length of its own, or it is no comparison."""
    return recipes.Phase(
        name="scratch", domain="target", epochs=epochs, learning_rate=1e-3, trainable="all",
        batch_norm="trainable", keep="last",
    )  # fmt: skip


def _steered_by_nothing(phase: recipes.Phase) -> recipes.Phase:
    """Return a phase that ends with its last epoch: a few labelled patients leave none to validate with."""
    return phase.model_copy(update={"keep": "last", "early_stopping": None})


def _with_statistics(phase: recipes.Phase) -> recipes.Phase:
    if phase.batch_norm != "frozen":
        return phase
    return phase.model_copy(update={"batch_norm": "statistics"})
