"""Write a trained model as the file of another runtime, with its manifest."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerastl import registry
from kerastl.data.convert import UnreadableError, read_image
from kerastl.data.decode import DecodeSettings, decode_images
from kerastl.errors import RequestError, first_line, join_words
from kerastl.evaluation.trained_model import NO_POSTPROCESSING, Postprocessing, Trained
from kerastl.export.endpoints import answered_probabilities
from kerastl.export.findings import (
    SAME_ANSWER,
    Expected,
    Finding,
    judge_alone,
    judge_numbers,
    judge_repeats,
    judge_told_apart,
    largest_gap,
)
from kerastl.export.loaded_export import Opened
from kerastl.export.manifest import Manifest, read_manifest
from kerastl.export.model_card import read_facts
from kerastl.export.saved_model import weights_fingerprint, write_numbered
from kerastl.export.verification import ask_in_fresh_process, check_files, check_settings
from kerastl.models import for_inference

INPUT = "images"
OUTPUT = "probabilities"
WHOLE = ("_XlaMustCompile", "_noinline")


@dataclass(frozen=True)
class Network:
    """A graph from `images` `[n, size, size, 3]` float32 in [0, 255] to `probabilities` `[n, classes]` float32.

    Args:
        graph_def: holds no variable, only constants.
        image_size_px: side of the images, in pixels.
        class_names: in the order of the probabilities.
    """

    graph_def: Any
    image_size_px: int
    class_names: tuple[str, ...]

    def function(self) -> Any:
        """Return the graph as a concrete function with named input and output."""
        shape = [None, self.image_size_px, self.image_size_px, 3]

        def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            (found,) = tf.graph_util.import_graph_def(
                self.graph_def, {INPUT: images}, [f"{OUTPUT}:0"], name=""
            )
            return {OUTPUT: tf.ensure_shape(found, [None, len(self.class_names)])}

        spec = tf.TensorSpec(shape, tf.float32, name=INPUT)
        return tf.function(answer, input_signature=[spec], autograph=False).get_concrete_function()


def network_of(
    model: keras.Model, *, class_names: Sequence[str], image_size_px: int, answering: Postprocessing = NO_POSTPROCESSING
) -> Network:
    """Return a model in inference as one graph, its BatchNorms folded where that is the same computation.

    Args:
        model: `[n, size, size, 3]` float32 in [0, 255] to logits `[n, classes]`; without augmentation.
        class_names: in the order of the logits.
        image_size_px: side of the square image that the model takes, in pixels.
        answering: temperature and prevalence that probabilities are told at. A threshold has no place in the graph, which
            answers no label.
    """
    folded = for_inference(model)

    def answer(images: tf.Tensor) -> tf.Tensor:
        # In float32: the runtimes of phones know no float64.
        logits = tf.cast(folded(images, training=False), tf.float32)
        return tf.identity(answered_probabilities(logits, answering), name=OUTPUT)

    spec = tf.TensorSpec([None, image_size_px, image_size_px, 3], tf.float32, name=INPUT)
    traced = tf.function(answer, input_signature=[spec], autograph=False).get_concrete_function()
    network = Network(_frozen(traced), image_size_px, tuple(class_names))
    if not _free_functions(network.graph_def):
        return network
    return replace(network, graph_def=_frozen(network.function()))


def _frozen(function: Any) -> Any:
    """Return a concrete function as a graph of constants, with the functions that it calls put in their places."""
    frozen = convert_variables_to_constants_v2(function)
    graph_def = frozen.graph.as_graph_def()
    # Arrays that a layer holds beside its weights, as Normalization its mean, come as inputs: tf2onnx leaves them so.
    places = (tensor.name.split(":")[0] for tensor in frozen.inputs[1:])
    captured = dict(zip(places, frozen.captured_inputs, strict=True))
    for node in graph_def.node:
        if node.name in captured:
            _make_constant(node, captured[node.name].numpy())
    return graph_def


def _free_functions(graph_def: Any) -> bool:
    """Let functions be put in place that were to stay whole, and tell whether there are any.

    Keras computes a convolution in groups, as in ConvNeXt, in a function for XLA alone; no other runtime knows such.
    """
    for function in graph_def.library.function:
        for name in WHOLE:
            function.attr.pop(name, None)
    for node in graph_def.node:
        for name in WHOLE:
            node.attr.pop(name, None)
    return bool(graph_def.library.function)


def _make_constant(node: Any, value: Any) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


@dataclass(frozen=True)
class Converted:
    """A folder that holds a converted model.

    Args:
        folder: the numbered folder.
        format_name: one of `kerastl.registry.names("format")`.
    """

    folder: Path
    format_name: str

    @property
    def module(self) -> ModuleType:
        """The plug-in of the format."""
        return registry.module("format", self.format_name)


def find_converted(path: Path) -> Converted | None:
    """Return the converted model that is meant: in `path` itself, or under the highest number in it; None: there is none."""
    if not path.is_dir():
        return None
    numbered = [one for one in path.iterdir() if one.name.isdecimal() and one.is_dir()]
    for folder in (path, *sorted(numbered, key=lambda one: int(one.name), reverse=True)):
        for name in registry.names("format"):
            module = registry.module("format", name)
            if hasattr(module, "opened") and (folder / module.FILE).is_file():
                return Converted(folder, name)
    return None


def check_formats(names: Iterable[str], quantize: str | None = None) -> None:
    """Check that formats can be written. Loads nothing.

    Args:
        names: of formats.
        quantize: what those of them that offer it are asked for; None: nothing.

    Raises:
        RequestError: packages are missing, the text names the extras; or no format offers `quantize`.
    """
    asked = list(names)
    problems = [problem for name in asked if (problem := _lacking(name))]
    if quantize is not None and not any(quantize in choices_of(name) for name in asked):
        problems.append(_cannot_quantize(asked, quantize))
    if problems:
        raise RequestError("\n".join(problems))


def choices_of(name: str) -> tuple[str, ...]:
    """Return what a format can be quantized to."""
    return tuple(getattr(registry.module("format", name), "QUANTIZES", ()))


def _lacking(name: str) -> str:
    needs = getattr(registry.module("format", name), "NEEDS", ())
    missing = [package for package in needs if find_spec(package) is None]
    if not missing:
        return ""
    verb = "are" if len(missing) > 1 else "is"
    return (
        f"The format {name} needs {join_words(missing, 'and')}, which {verb} not installed: "
        f"pip install 'kerastl[{name}]'"
    )


def _cannot_quantize(asked: list[str], quantize: str) -> str:
    offers = {name: choices_of(name) for name in registry.names("format")}
    known = "; ".join(f"{name}: {', '.join(found)}" for name, found in offers.items() if found)
    return (
        f"{', '.join(asked) or 'No format'} cannot be quantized to {quantize}. What can be quantized: {known}. "
        "Leave it out, or name such a format."
    )


EVERYWHERE = {"Const", "Identity", "NoOp", "Placeholder"}
"""Operations of every graph: none is why a converter fails."""
LOUD = ("tensorflow", "tf2onnx", "absl")


def write_converted(
    trained: Trained,
    out: Path,
    name: str,
    convert: Callable[[Network, Path], dict[str, Any] | None],
    answering: Postprocessing,
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
                trained.model, class_names=trained.class_names, image_size_px=size, answering=answering
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


Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ConvertedExport(Opened):
    """A converted model in its runtime.

    Args:
        ask: from images `[n, size, size, 3]` float32 in [0, 255] to probabilities `[n, classes]` float32.
    """

    ask: Callable[[Floats], Floats]

    def probabilities(self, encoded: Sequence[bytes]) -> Floats:
        """Return `[n, classes]` float32 for at least one whole image file.

        Raises:
            tf.errors.InvalidArgumentError: an image cannot be decoded.
        """
        return self.ask(decode_images(encoded, self.manifest))

    def answers(self, encoded: Sequence[bytes]) -> tuple[list[str], Floats]:
        """Return for whole image files the class that is answered, by the threshold of the manifest too, and `probabilities`.

        Raises:
            tf.errors.InvalidArgumentError: as `probabilities`.
        """
        answered, how = self.probabilities(encoded), self.manifest.how
        return how.predicted(how.invert(answered), self.class_names), answered


def read_converted(found: Converted) -> ConvertedExport:
    """Open a converted model.

    Raises:
        RequestError: its runtime is not installed, it is damaged, or it names other classes than its manifest.
    """
    manifest = read_manifest(found.folder)
    check_formats([found.format_name])
    opened: tuple[list[str], Callable[[Any], Any]]
    try:
        opened = found.module.opened(found.folder)
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{found.folder} cannot be opened: {first_line(error)}") from error
    names, ask = opened
    if tuple(names) != manifest.class_names:
        raise RequestError(
            f"{found.folder} is damaged: it answers for {names}, its manifest says "
            f"{list(manifest.class_names)}. Export the run again."
        )
    turn = Lock()

    def in_turn(images: Floats) -> Floats:
        # Neither LiteRT's interpreter nor one request of OpenVINO can be asked by two threads at a time.
        with turn:
            return cast(Floats, ask(images))

    return ConvertedExport(manifest, in_turn)


def pixels_of(files: Iterable[Path], sized: DecodeSettings) -> Iterator[npt.NDArray[np.float32]]:
    """Yield `[size, size, 3]` float32 for each file that gives an image; others are passed over."""
    import tensorflow as tf

    for file in files:
        try:
            yield decode_images([read_image(file, max_pixels=sized.max_pixels)], sized)[0]
        except (UnreadableError, tf.errors.InvalidArgumentError):
            continue


OTHER_LABELS = 0.02
"""Share of images that a quantized model may call otherwise; one image it may in any case."""


def judge_converted(answers: dict[str, Any], manifest: Manifest, expected: Expected | None) -> list[Finding]:
    """Judge the answers of a fresh process.

    Args:
        answers: as `_ask.py` writes them.
        manifest: tells the classes, and whether the model was quantized.
        expected: what kerastl itself answers; None: not at hand.
    """
    repeats = [np.asarray(one, np.float32) for one in answers["batch"]]
    first, alone = repeats[0], np.asarray(answers["alone"], np.float32)
    quantize = (manifest.conversion or {}).get("quantize")
    return [
        _judge_names(answers["class_names"], manifest, expected),
        _judge_numbers(first, len(manifest.class_names)),
        judge_equal(first, quantize, expected.probabilities if expected else None),
        judge_repeats(repeats),
        judge_alone(first, alone),
        _judge_size(answers["wrong_size"]),
        judge_told_apart(first),
    ]


def _judge_names(names: list[str], manifest: Manifest, expected: Expected | None) -> Finding:
    wanted = list(expected.class_names if expected else manifest.class_names)
    whose = "the model's" if expected else "the manifest's"
    for where, found in (("the file", names), ("the manifest", list(manifest.class_names))):
        if found != wanted:
            return Finding("class names", False, f"{found} in {where}, {whose} are {wanted}")
    return Finding("class names", True, f"{len(wanted)} names in {whose} order")


def _judge_numbers(first: Floats, num_classes: int) -> Finding:
    if first.ndim != 2 or first.shape[1] != num_classes:
        told = f"{list(first.shape)}, and there are {num_classes} classes"
        return Finding("probabilities", False, told)
    return judge_numbers(first)


def judge_equal(first: Floats, quantize: str | None, wanted: Any) -> Finding:
    """Compare with kerastl's own answers: in float32 within `SAME_ANSWER`, quantized by the labels.

    Args:
        first: `[n, classes]`, of the export.
        quantize: what it was quantized to; None: not.
        wanted: `[n, classes]`, what it should answer; None: not at hand.
    """
    check = "equal to kerastl predict" if quantize is None else "near kerastl predict"
    if wanted is None:
        return Finding(check, None, "not compared: the model is not at hand. Give --run RUN")
    if first.shape != wanted.shape:
        return Finding(check, False, f"{first.shape} probabilities against {wanted.shape}")
    gap = largest_gap(first, wanted)
    others = int((first.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    detail = f"{len(first)} images, largest difference {gap:.1e}, labels that differ: {others}"
    if quantize is None:
        return Finding(check, gap <= SAME_ANSWER, detail)
    allowed = max(1, int(OTHER_LABELS * len(first)))
    passed = bool(np.isfinite(gap)) and others <= allowed
    return Finding(check, passed, f"{detail} (by {quantize} up to {allowed} may)")


def _judge_size(refusal: str | None) -> Finding:
    if refusal is None:
        return Finding("another size refused", False, "it answers for images of a wrong size")
    return Finding("another size refused", True, "by its runtime")


SCRIPT = Path(__file__).with_name("_converted_probe.py")


def verify_converted(
    found: Converted, *, images: Sequence[bytes], expected: Expected | None
) -> list[Finding]:
    """Check a converted model on real images.

    Args:
        found: its folder and format.
        images: whole files that can be decoded; two or more that the model tells apart.
        expected: what kerastl itself answers for them; None: that comparison is not made.

    Returns:
        One finding for each check, in a fixed order; `passed` is None where it was not made.

    Raises:
        RequestError: not an export of kerastl, no image, or the runtime is not installed.
    """
    manifest = read_manifest(found.folder)
    check_formats([found.format_name])
    if not images:
        raise RequestError("An export is verified on images, and there is none.")
    findings = [check_files(found.folder, manifest)]
    if expected is not None and expected.settings:
        findings.append(check_settings(manifest, expected.settings))
    request = {"plugin": str(found.module.__file__), "export": str(found.folder.resolve())}
    answer = ask_in_fresh_process(SCRIPT, request, images=decode_images(images, manifest))
    if answer["error"] is not None:
        return [*findings, Finding("fresh process", False, f"no answer: {answer['error'][:600]}")]
    findings.append(Finding("fresh process", True, "opens and answers without TensorFlow, Keras and kerastl"))
    return [*findings, *judge_converted(answer["answers"], manifest, expected)]


Array = np.ndarray[Any, Any]


def compare_converted(found: Converted, *, pixels: Array, probabilities: Array) -> dict[str, Any]:
    """Give a converted model the pixels of a run, and compare with what the run made of them.

    Args:
        found: its folder and format.
        pixels: `[n, size, size, 3]` float32, as the run's pipeline hands them to its model.
        probabilities: `[n, classes]`, the run's own answers; the export may tell them at a temperature and for another
            prevalence, as its manifest says.

    Returns:
        As `compare_with_run`, with pixels that were not compared. Of a quantized model `differ` counts labels, and no
        difference of a probability is a fault: `allowed` is None.
    """
    told: dict[str, Any] = {
        "pixels": {"compared": False, "reason": "it takes decoded images"},
        "answers": None,
        "faults": [],
    }
    try:
        opened = read_converted(found)
        answers = opened.ask(np.asarray(pixels, np.float32))
    except Exception as error:  # each runtime has errors of its own
        told["faults"].append(f"it gives no answer for images of the run: {first_line(error)}")
        return told
    quantize = (opened.manifest.conversion or {}).get("quantize")
    expected = opened.manifest.how.applied(probabilities)
    finding = judge_equal(answers, quantize, expected)
    if answers.shape == expected.shape:
        told["answers"] = _counted(answers, expected, quantize)
    if not finding.good:
        told["faults"].append(f"it is not {finding.check}: {finding.detail}")
    return told


def _counted(answers: Array, expected: Array, quantize: str | None) -> dict[str, Any]:
    gaps = np.abs(answers - expected).max(axis=1)
    labels = answers.argmax(axis=1) != expected.argmax(axis=1)
    return {
        "differ": int((~(gaps <= SAME_ANSWER) if quantize is None else labels).sum()),
        "largest_difference": float(gaps.max()) if np.isfinite(gaps).all() else None,
        "allowed": SAME_ANSWER if quantize is None else None,
    }
