"""What is asked and answered, in the binary form that `ask_export.c` describes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FLOAT, STRING = 1, 7
"""Numbers of TensorFlow's DataType."""
Place = tuple[str, int]
"""An operation of the graph, and which of its outputs."""


@dataclass(frozen=True)
class Asked:
    """One question, its tensors already found in the graph.

    Args:
        inputs: places with their values: float32 of any shape, or a sequence of bytes.
        outputs: places to read.
        warm_up: how many times it is asked before time is taken.
        repeats: how many times it is asked and timed, 1 or more.
    """

    inputs: Sequence[tuple[Place, Array | Sequence[bytes]]]
    outputs: Sequence[Place]
    warm_up: int
    repeats: int


@dataclass(frozen=True)
class Answered:
    """What came back.

    Args:
        code: a TF_Code, 0 where it was answered.
        message: TensorFlow's, where it was refused.
        nanoseconds: of each repeat.
        values: of each output; strings as arrays of bytes objects.
    """

    code: int
    message: str
    nanoseconds: tuple[int, ...]
    values: tuple[Array, ...]


class CutShort(Exception):
    """The answers end before the last question: the program was ended."""


def questions_of(export: str, config: bytes, questions: Sequence[Asked]) -> bytes:
    """Return the file of questions."""
    parts = [_bytes(export.encode()), _bytes(config), _int(len(questions))]
    for one in questions:
        parts += [_int(one.warm_up), _int(one.repeats), _int(len(one.inputs))]
        for place, values in one.inputs:
            parts += [_place(place), _tensor(values)]
        parts += [_int(len(one.outputs)), *(_place(place) for place in one.outputs)]
    return b"".join(parts)


def _int(value: int) -> bytes:
    return struct.pack("=q", value)


def _bytes(content: bytes) -> bytes:
    return _int(len(content)) + content


def _place(place: Place) -> bytes:
    return _bytes(place[0].encode()) + _int(place[1])


def _tensor(values: Array | Sequence[bytes]) -> bytes:
    if isinstance(values, np.ndarray):
        sides = b"".join(_int(side) for side in values.shape)
        floats = np.ascontiguousarray(values, np.float32).tobytes()
        return _int(FLOAT) + _int(values.ndim) + sides + _bytes(floats)
    strings = b"".join(_bytes(one) for one in values)
    return _int(STRING) + _int(1) + _int(len(values)) + strings


class Reader:
    """Reads the file of answers from its beginning.

    Raises:
        CutShort: by every method, where the file ends.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def status(self) -> tuple[int, str]:
        """Return a code and its message."""
        return self.number(), self._bytes().decode(errors="replace")

    def number(self) -> int:
        """Return the next int."""
        value: int = struct.unpack("=q", self._take(8))[0]
        return value

    def answered(self) -> Answered:
        """Return the answer to the next question."""
        code, message = self.status()
        nanoseconds = tuple(self.number() for _ in range(self.number()))
        values = tuple(self._tensor() for _ in range(self.number())) if code == 0 else ()
        return Answered(code, message, nanoseconds, values)

    def _take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise CutShort
        return self._content[self._at - size : self._at]

    def _bytes(self) -> bytes:
        return self._take(self.number())

    def _tensor(self) -> Array:
        import tensorflow as tf

        dtype = self.number()
        shape = [self.number() for _ in range(self.number())]
        if dtype == STRING:
            strings = np.empty(int(np.prod(shape)), object)
            strings[:] = [self._bytes() for _ in range(strings.size)]
            return strings.reshape(shape)
        known = tf.dtypes.as_dtype(dtype).as_numpy_dtype
        return np.frombuffer(self._bytes(), known).reshape(shape)
