"""Answers for picture files, a batch at a time: what cannot be read is named and does not stop the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kerastl.data.convert import no_pillow_warnings
from kerastl.data.reading import decodable, read_content
from kerastl.data.unreadable import UnreadableError
from kerastl.export.predicting.finding import shown

BATCH_SIZE = 32
READERS = 8
AT_ONCE = 2

Batch = TypeVar("Batch")
Result = TypeVar("Result")
Named = tuple[str, tuple[float, ...]]


class Predictor(Protocol):
    """What answers: a trained model, or an export."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""

    @property
    def max_pixels(self) -> int:
        """Height times width above which a picture is refused."""

    def answers(self, encoded: Sequence[bytes]) -> tuple[list[str], Any]:
        """Return the predicted class of each whole file, and `[n, classes]` float32; two threads may ask at a time."""


@dataclass(frozen=True)
class Answer:
    """The answer for one file.

    Args:
        path: the file, as it was named; odd bytes and control characters escaped.
        predicted: the class that the model names; empty when the file gives no picture.
        probabilities: one for each class; empty when the file gives no picture.
        problem: why there is no answer; empty when there is one.
    """

    path: str
    predicted: str = ""
    probabilities: tuple[float, ...] = ()
    problem: str = ""


def predict_files(
    predictor: Predictor, paths: Iterable[Path], *, batch_size: int = BATCH_SIZE
) -> Iterator[Answer]:
    """Yield an answer for each file, in order; memory holds one batch, however many there are."""
    left = iter(paths)
    while batch := list(islice(left, batch_size)):
        with no_pillow_warnings():
            answers = answer_batch(predictor, batch)
        yield from answers


def in_order(
    ask: Callable[[Batch], Result], batches: Iterable[Batch]
) -> Generator[Result, None, None]:
    """Yield what `ask` returns for each batch, in their order; while one is answered, the next is read.

    Args:
        ask: is called from two threads at a time.
        batches: taken as they are needed: at most two more than were yielded.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for batch in batches:
            waiting.append(pool.submit(ask, batch))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def answer_batch(predictor: Predictor, batch: Sequence[Path]) -> list[Answer]:
    """Return one answer a file; to be called inside `no_pillow_warnings`.

    The pictures of a batch are asked for together: answers may differ by about 1e-7 where the same
    file lies in another batch.
    """
    with ThreadPoolExecutor(min(READERS, len(batch))) as pool:
        read = list(pool.map(lambda path: _read(path, predictor.max_pixels), batch))
    answers = iter(_answers(predictor, [one for one in read if isinstance(one, bytes)]))
    told = [next(answers) if isinstance(one, bytes) else one for one in read]
    return [_told(path, one) for path, one in zip(batch, told, strict=True)]


def _told(path: Path, answer: Named | str) -> Answer:
    if isinstance(answer, str):
        return Answer(shown(path), problem=answer)
    return Answer(shown(path), *answer)


def _read(path: Path, max_pixels: int) -> bytes | str:
    """Return the bytes of a file, or why there are none."""
    try:
        if path.is_dir():
            return "it is a folder, which cannot be listed or stands in a list of files"
        return decodable(read_content(path, max_pixels=max_pixels), max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def _answers(predictor: Predictor, encoded: list[bytes]) -> list[Named | str]:
    """Return for each file its class and probabilities, or why it gives no picture."""
    import tensorflow as tf

    from kerastl.data.reasons import reason_of_content

    if not encoded:
        return []
    try:
        return _rows(predictor, encoded)
    except tf.errors.InvalidArgumentError:
        # One bad picture fails its whole batch: find out which, and ask again without.
        reasons = [
            reason_of_content(one, window=None, max_pixels=predictor.max_pixels) for one in encoded
        ]
        if not any(reasons):
            raise
    good = [one for one, reason in zip(encoded, reasons, strict=True) if reason is None]
    rows = iter(_rows(predictor, good) if good else [])
    return [reason if reason is not None else next(rows) for reason in reasons]


def _rows(predictor: Predictor, encoded: list[bytes]) -> list[Named | str]:
    names, probabilities = predictor.answers(encoded)
    rows = (tuple(row) for row in probabilities.tolist())
    return list(zip(names, rows, strict=True))
