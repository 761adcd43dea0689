"""Answers for picture files, a batch at a time: what cannot be read is named and does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from kerastl.data.reading import read_picture
from kerastl.data.unreadable import UnreadableError
from kerastl.export.files import shown

BATCH_SIZE = 32


class Predictor(Protocol):
    """What answers: a trained model, or an export."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the probabilities."""

    @property
    def max_pixels(self) -> int:
        """Height times width above which a picture is refused."""

    def probabilities(self, encoded: Sequence[bytes]) -> Any:
        """Return `[n, classes]` float32 for whole files."""


@dataclass(frozen=True)
class Answer:
    """The answer for one file.

    Args:
        path: the file, as it was named; odd bytes and control characters escaped.
        predicted: the class with the largest probability; empty when the file gives no picture.
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
    for batch in _batches(paths, batch_size):
        read = [_read(path, predictor.max_pixels) for path in batch]
        answers = iter(_answers(predictor, [one for one in read if isinstance(one, bytes)]))
        for path, content in zip(batch, read, strict=True):
            if isinstance(content, str):
                yield Answer(shown(path), problem=content)
                continue
            answer = next(answers)
            if isinstance(answer, str):
                yield Answer(shown(path), problem=answer)
            else:
                best = max(range(len(answer)), key=answer.__getitem__)
                yield Answer(shown(path), predictor.class_names[best], answer)


def _batches(paths: Iterable[Path], batch_size: int) -> Iterator[list[Path]]:
    left = iter(paths)
    while batch := list(islice(left, batch_size)):
        yield batch


def _read(path: Path, max_pixels: int) -> bytes | str:
    """Return the bytes of a file, or why there are none."""
    try:
        return read_picture(path, max_pixels=max_pixels)
    except UnreadableError as error:
        return str(error)


def _answers(predictor: Predictor, encoded: list[bytes]) -> list[tuple[float, ...] | str]:
    """Return for each file its probabilities, or why it gives no picture."""
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


def _rows(predictor: Predictor, encoded: list[bytes]) -> list[tuple[float, ...] | str]:
    return [tuple(float(one) for one in row) for row in predictor.probabilities(encoded)]
