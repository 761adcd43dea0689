"""What is done with each batch: asked of the model, and told in lines. One process, or several that do the same."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kerastl.data.convert import no_pillow_warnings
from kerastl.export.predicting.answering import answer_batch, in_order
from kerastl.export.predicting.models import AskedModel
from kerastl.export.predicting.rows import rows


@dataclass(frozen=True)
class Answered:
    """What one batch gave.

    Args:
        text: its rows, whole lines.
        num_files: how many were asked for.
        problems: `(path, why)` of each file that gave no picture.
    """

    text: str
    num_files: int
    problems: tuple[tuple[str, str], ...] = ()


Ask = Callable[[Sequence[Path]], Answered]


class Work(Protocol):
    """What a process can be sent, to open there what it will ask."""

    def open(self) -> Ask:
        """Return what answers a batch, to be called inside `no_pillow_warnings`."""


@dataclass(frozen=True)
class ModelWork:
    """Ask a model, write rows.

    Args:
        model: on disk.
        kind: of the rows.
        prepare: is called before TensorFlow is loaded; a function of a module, as other processes import it.
    """

    model: AskedModel
    kind: str
    prepare: Callable[[], None]

    def open(self) -> Ask:
        """Load the model.

        Raises:
            RequestError: it is damaged or unsafe.
        """
        self.prepare()
        predictor = self.model.open()

        def ask(paths: Sequence[Path]) -> Answered:
            answers = answer_batch(predictor, paths)
            problems = tuple((one.path, one.problem) for one in answers if one.problem)
            text = rows(self.kind, answers, self.model.class_names)
            return Answered(text, len(answers), problems)

        return ask


def answer(
    work: Work, batches: Iterable[list[Path]], *, processes: int
) -> Generator[Answered, None, None]:
    """Yield what each batch gave, in their order and the same whoever answers it.

    Args:
        work: opened once in each process.
        batches: taken as they are needed.
        processes: 1 answers in this very process; more are started, and end with this one.

    Raises:
        KerastlError: the model cannot be opened, or a process died.
    """
    if processes > 1:
        from kerastl.export.predicting.processes import answer_in_processes

        yield from answer_in_processes(work, batches, processes)
        return
    ask = work.open()
    with no_pillow_warnings():
        yield from in_order(ask, batches)
