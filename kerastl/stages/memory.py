"""Whether each phase fits the memory that is free, and the batch size that does; decided before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerastl import training
from kerastl.errors import Problem, Problems
from kerastl.progress import say
from kerastl.recipe import Recipe
from kerastl.runs import size_in_words
from kerastl.stages.phases import changes_pixels
from kerastl.stages.plan import Plan
from kerastl.training import Need
from kerastl.training import Phase as TrainingPhase

AUTO_SHARE = 0.5
"""What `batch_size: auto` may take of the memory that is free: others work on the machine, too."""


@dataclass(frozen=True)
class Free:
    """Bytes that can still be taken; None: it cannot be known, so everything is let pass."""

    host: int | None
    device: int | None

    def holds(self, need: Need, share: float = 1.0) -> bool:
        """Tell whether a phase fits a share of it."""
        pairs = (need.host, self.host), (need.device, self.device)
        return all(free is None or wanted <= share * free for wanted, free in pairs)


def within_memory(recipe: Recipe, plan: Plan) -> Recipe:
    """Return the recipe with its batch size decided; say what each phase takes.

    Args:
        recipe: its `data.batch_size` may be `auto`.
        plan: phases, model and pictures.

    Raises:
        Problems: phases that take more than is free; nothing was trained.
    """
    free = Free(training.free_memory(), training.free_gpu_memory())
    on_gpu = free.device is not None

    def needs(batch: int) -> list[Need]:
        return [
            training.memory_of(
                plan.start.model, one, plan.trains.get(one.domain), plan.vals.get(one.domain),
                target=target, batch_size=batch, on_gpu=on_gpu,
                changes_pixels=target is not None and changes_pixels(recipe),
            )
            for one, target in zip(plan.phases, plan.beside, strict=True)
        ]  # fmt: skip

    batch = _decided(recipe, needs, free, plan.began)
    found = needs(batch)
    for phase, need in zip(plan.phases, found, strict=True):
        say(_line(phase, need, batch, free))
    if plan.began is None and not all(free.holds(need) for need in found):
        raise _too_much(plan.phases, needs, batch, free)
    data = recipe.data.model_copy(update={"batch_size": batch})
    return recipe.model_copy(update={"data": data})


def _decided(
    recipe: Recipe,
    needs: Callable[[int], list[Need]],
    free: Free,
    began: Mapping[str, Any] | None,
) -> int:
    """Return the recipe's batch size, or the one that fits."""
    wanted = recipe.data.batch_size
    if wanted != "auto":
        return wanted
    if began is not None:
        return int(began["data"]["batch_size"])
    batch, least = recipe.data.known_batch_size, 2 if recipe.augment.mixing else 1
    while batch > least and not all(free.holds(one, AUTO_SHARE) for one in needs(batch)):
        batch //= 2
    say(f"data.batch_size: auto is {batch} here")
    return batch


def _line(phase: TrainingPhase, need: Need, batch: int, free: Free) -> str:
    """Return one line for people: `phase head: about 1.9 GB at batch size 32 (of 20.0 GB free)`."""
    taken, there = [size_in_words(need.host)], [_words(free.host)]
    if free.device is not None:
        taken.append(f"{size_in_words(need.device)} of the GPU's")
        there.append(_words(free.device))
    known = f" (of {' and '.join(there)} free)" if free.host is not None else ""
    return f"phase {phase.name}: about {' and '.join(taken)} at batch size {batch}{known}"


def _words(num_bytes: int | None) -> str:
    return "an unknown size" if num_bytes is None else size_in_words(num_bytes)


def _too_much(
    phases: Sequence[TrainingPhase], needs: Callable[[int], list[Need]], batch: int, free: Free
) -> Problems:
    """Return the error that names all phases that do not fit, and what to type."""
    problems, fits = [], []
    for at, (phase, need) in enumerate(zip(phases, needs(batch), strict=True)):

        def fit(size: int, at: int = at) -> bool:
            return free.holds(needs(size)[at])

        fits.append(training.largest_batch(fit, batch))
        if fits[-1] == batch:
            continue
        takes = _line(phase, need, batch, free).removeprefix(f"phase {phase.name}: ")
        least = needs(1)[at]
        largest = (
            f"The largest batch size that fits is {fits[-1]}."
            if fits[-1]
            else f"Even one picture a step takes {size_in_words(least.device or least.host)}."
        )
        problems.append(Problem(f"phase {phase.name}", f"takes {takes}. {largest}"))
    footer = _smaller(phases, batch, min(fits)) if min(fits) else _other_ways(needs(1))
    known = "Where the reckoning is wrong, say what is free: export KERASTL_MEMORY=8GB."
    return Problems("The training", problems, f"{footer}\n{known} Nothing was trained.")


def _smaller(phases: Sequence[TrainingPhase], batch: int, fits: int) -> str:
    """Return what to type for a batch that fits and as many pictures an update as before."""
    times = -(-batch // fits)
    words = [f"--set data.batch_size={-(-batch // times)}"]
    if any(phase.is_part for phase in phases):
        # Their places are not those of the recipe that was written.
        return f"{words[0]}, and accumulate: {times} in each phase for {batch} pictures an update."
    words += [
        f"--set phases[{at}].accumulate={times * phase.accumulate}"
        for at, phase in enumerate(phases)
    ]
    return f"As many pictures an update as before: {' '.join(words)}"


def _other_ways(needs: Sequence[Need]) -> str:
    """Return what else makes a phase smaller."""
    ways = ["--set data.image_size_px=... (smaller pictures)", "fewer layers that learn"]
    kept = max(need.parts["pictures kept"] for need in needs)
    if kept:
        ways.insert(0, f"--set data.cache=none ({size_in_words(kept)} less)")
    return f"What takes less: {', '.join(ways)}."
