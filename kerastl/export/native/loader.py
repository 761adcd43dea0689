"""Ask an export through TensorFlow's C++ loader, in a process that holds no Python."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.export.graph_file import SERVE, served_signatures
from kerastl.export.native.build import loader_program
from kerastl.export.native.wire import Answered, Array, Asked, CutShort, Place, Reader, questions_of

TIME_LIMIT_S = 1200
GREETINGS = ("I0000", "WARNING: All log messages")


@dataclass(frozen=True)
class Question:
    """One request to one signature.

    Args:
        signature: its name.
        inputs: float32 of any shape, or a sequence of bytes, by name.
        outputs: names; None: all that the signature has.
        warm_up: how many times it is asked before time is taken.
        repeats: how many times it is asked and timed, 1 or more.
    """

    signature: str
    inputs: Mapping[str, Array | Sequence[bytes]]
    outputs: tuple[str, ...] | None = None
    warm_up: int = 0
    repeats: int = 1


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Args:
        outputs: by name; strings are arrays of bytes objects. Empty where it was refused.
        refusal: code and message of TensorFlow, as `INVALID_ARGUMENT: ...`; empty where it was answered.
        nanoseconds: of each repeat.
    """

    outputs: dict[str, Array] = field(default_factory=dict)
    refusal: str = ""
    nanoseconds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Told:
    """What the program told.

    Args:
        answers: in the order of the questions; fewer where the program crashed.
        fault: why the export could not be loaded, or how the program ended; empty: all went well.
        load_ns: how long loading took.
    """

    answers: tuple[Answer, ...] = ()
    fault: str = ""
    load_ns: int = 0


def ask_without_python(
    export: Path, questions: Sequence[Question], *, intra_threads: int = 0, inter_threads: int = 0
) -> Told:
    """Load an export once and ask it everything, one question after the other.

    An export is a program: whoever has it from others looks at `outside_ops` first.

    Args:
        export: the numbered folder.
        questions: at least one; each is refused or answered by itself.
        intra_threads, inter_threads: of TensorFlow's session; 0: its own choice.

    Raises:
        Unavailable: the program cannot be built on this machine.
        RequestError: the graph cannot be read, or has no such signature, input or output.
    """
    from tensorflow.core.protobuf import config_pb2

    program = loader_program()
    signatures = signatures_of(export)
    asked = [_asked(signatures, question) for question in questions]
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=intra_threads, inter_op_parallelism_threads=inter_threads
    )
    content = questions_of(str(export.resolve()), config.SerializeToString(), asked)
    with tempfile.TemporaryDirectory(prefix="kerastl.") as scratch:
        files = Path(scratch, "questions"), Path(scratch, "answers")
        files[0].write_bytes(content)
        ended = _run([str(program), *map(str, files)])
        answers = files[1].read_bytes() if files[1].is_file() else b""
    return _read(answers, questions, signatures, ended)


def signatures_of(export: Path) -> dict[str, Any]:
    """Return the signatures of a SavedModel, TensorFlow's SignatureDef by name.

    Raises:
        RequestError: the graph cannot be read, or none is for serving.
    """
    try:
        signatures = served_signatures(export)
    except (OSError, ValueError) as error:
        raise RequestError(f"The graph of {export} cannot be read: {error}") from error
    if signatures is None:
        raise RequestError(f"{export} holds no graph with the tag {SERVE}.")
    return signatures


def _asked(signatures: dict[str, Any], question: Question) -> Asked:
    if question.signature not in signatures:
        known = ", ".join(sorted(signatures))
        raise RequestError(f"There is no signature {question.signature}; there are {known}.")
    signature = signatures[question.signature]
    inputs = [(_place(signature.inputs, name), values) for name, values in question.inputs.items()]
    outputs = [_place(signature.outputs, name) for name in _output_names(signature, question)]
    return Asked(inputs, outputs, question.warm_up, question.repeats)


def _output_names(signature: Any, question: Question) -> list[str]:
    return sorted(signature.outputs if question.outputs is None else question.outputs)


def _place(tensors: Any, name: str) -> Place:
    if name not in tensors:
        raise RequestError(f"There is no tensor {name}; there are {', '.join(sorted(tensors))}.")
    operation, _, index = tensors[name].name.partition(":")
    return operation, int(index or 0)


def _run(command: list[str]) -> str:
    """Run the program; return how it ended, empty where it ended well."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"gave up after {TIME_LIMIT_S} seconds"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").splitlines()
    # TensorFlow greets on stderr whatever its log level is.
    said = " ".join(one for one in lines if not one.startswith(GREETINGS))[-300:]
    if done.returncode < 0:
        # A crash leaves no message of its own.
        return f"crashed ({signal.Signals(-done.returncode).name}) {said}".rstrip()
    return f"ended with {done.returncode}: {said}"


def _read(
    content: bytes, questions: Sequence[Question], signatures: dict[str, Any], ended: str
) -> Told:
    reader, answers, load_ns = Reader(content), [], 0
    try:
        code, message = reader.status()
        load_ns = reader.number()
        if code:
            return Told((), _refusal(code, message), load_ns)
        for question in questions:
            names = _output_names(signatures[question.signature], question)
            answers.append(_answer(reader.answered(), names))
    except CutShort:
        where = f"question {len(answers) + 1} of {len(questions)}" if load_ns else "loading"
        return Told(tuple(answers), f"{where}: {ended or 'no answer'}", load_ns)
    return Told(tuple(answers), ended, load_ns)


def _answer(answered: Answered, names: list[str]) -> Answer:
    if answered.code:
        refusal = _refusal(answered.code, answered.message)
        return Answer(refusal=refusal, nanoseconds=answered.nanoseconds)
    outputs = dict(zip(names, answered.values, strict=True))
    return Answer(outputs, nanoseconds=answered.nanoseconds)


def _refusal(code: int, message: str) -> str:
    from tensorflow.core.protobuf import error_codes_pb2

    return f"{error_codes_pb2.Code.Name(code)}: {message}"
