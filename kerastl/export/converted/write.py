"""Write a trained model as the file of another runtime, with its manifest."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError
from kerastl.evaluation.trained_model import Answering, Trained
from kerastl.export.converted.graph import INPUT, OUTPUT, Network, network_of
from kerastl.export.converted.packages import check_formats
from kerastl.export.numbered import write_numbered
from kerastl.export.saved_model import weights_fingerprint
from kerastl.export.serving.facts import read_facts

EVERYWHERE = {"Const", "Identity", "NoOp", "Placeholder"}
"""Operations of every graph: none is why a converter fails."""
LOUD = ("tensorflow", "tf2onnx", "absl")


def write_converted(
    trained: Trained,
    out: Path,
    name: str,
    convert: Callable[[Network, Path], dict[str, Any] | None],
    answering: Answering,
    version: int | None = None,
) -> Path:
    """Write one format under the next free number of a folder.

    Args:
        trained: the model and what it takes.
        out: the folder of all numbers; nothing in it is overwritten.
        name: of the format.
        convert: writes the file into a folder; returns what the manifest tells beside.
        answering: temperature and prevalence that probabilities are told at; its threshold is told by the manifest alone.
        version: the number to write; None: the one after the highest there.

    Returns:
        The folder written, e.g. `out/1`.

    Raises:
        RequestError: packages are missing, or the model cannot be converted; the reason is told, nothing was written.
        OSError: the disk is full; no half export is left.
    """
    check_formats([name])
    facts, size = read_facts(trained.folder), trained.image_size_px
    told: dict[str, Any] = {
        "format": name,
        "input": {"name": INPUT, "shape": [None, size, size, 3], "dtype": "float32", "range": [0, 255], "colours": "RGB"},
        "output": {"name": OUTPUT, "shape": [None, len(trained.class_names)], "dtype": "float32"},
    }  # fmt: skip

    def fill(folder: Path) -> None:
        with _quiet():
            network = network_of(
                trained.model,
                class_names=trained.class_names,
                image_size_px=size,
                answering=answering,
            )
            try:
                more = convert(network, folder)
            except OSError:
                raise
            except Exception as error:  # whatever a converter raises is its refusal of this model
                raise RequestError(_refusal(name, str(error), network)) from error
        told.update(more or {})
        told["bytes"] = sum(one.stat().st_size for one in folder.iterdir())

    return write_numbered(
        out, fill, version=version, class_names=trained.class_names, image_size_px=size, window=trained.window,
        max_pixels=trained.max_pixels, model_sha256=weights_fingerprint(trained.model), answering=answering.to_json(trained.class_names), conversion=told,
        scores=facts.scores, training=facts.training,
    )  # fmt: skip


def _refusal(name: str, said: str, network: Network) -> str:
    """Return the letter that says why a model cannot be had in a format."""
    kinds = {node.op for node in network.graph_def.node} - EVERYWHERE
    named = sorted(kind for kind in kinds if re.search(rf"\b{re.escape(kind)}\b", said))
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = "; ".join(lines[:3])[:300] or "its converter gives no reason"
    if named:
        reason = f"it has no counterpart of TensorFlow's {', '.join(named[:3])}"
    return (
        f"This model cannot be written as {name}: {reason}. Nothing was written. "
        "What always can: --format saved_model"
    )


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Hold back what converters say of themselves: deprecations of their own calls, and lines past Python to the terminal."""
    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with Path(os.devnull).open("wb") as nowhere, warnings.catch_warnings():
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            warnings.simplefilter("ignore")
            yield
    finally:
        for number, file in zip((1, 2), kept, strict=True):
            os.dup2(file, number)
            os.close(file)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
