"""LiteRT (.tflite), for phones and small boards. The file contains the class names as `labels.txt`.

`unzip model.tflite labels.txt` extracts them, as from other LiteRT files with labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.evaluation.trained_model import Trained
    from kerastl.export.converted import InferenceGraph
    from kerastl.export.postprocess import Postprocessing

FILE = "model.tflite"
FILES = (FILE,)
REQUIRED_PACKAGES = ("ai_edge_litert",)
QUANTIZE_CHOICES = ("float16", "int8")
LABELS = "labels.txt"


def write(
    trained: Trained,
    out: Path,
    *,
    postprocessing: Postprocessing,
    version: int | None = None,
    quantize: str | None = None,
) -> Path:
    """Export a trained model as a new version, and return its folder.

    Args:
        trained: The model and its run folder: `int8` is calibrated on its training images, and the effect of
            quantization is measured on its test images.
        out: The folder of all versions.
        postprocessing: The postprocessing. Its temperature and prevalence become part of the model.
        version: The version to write; None for the one after the highest.
        quantize: `float16` for weights of half the size; `int8` for weights and computation in 8 bits, with
            the softmax in float32. Images and probabilities are float32 in each case. None for float32.
    """
    from kerastl.console import print_status
    from kerastl.export.converted import write_converted
    from kerastl.export.litert_conversion import convert_to_litert, measure_effect, read_calibration

    if quantize is not None:
        print_status(f"Quantizing to {quantize} and measuring the effect on the run's test images")
    images, calibration = read_calibration(trained) if quantize == "int8" else (None, None)

    def convert(graph: InferenceGraph, folder: Path) -> dict[str, Any]:
        plain = convert_to_litert(graph)
        _write_file(folder, plain, graph.class_names)
        if quantize is None:
            return {"quantize": None}
        size = (folder / FILE).stat().st_size
        _write_file(folder, convert_to_litert(graph, quantize, images), graph.class_names)
        return {
            "quantize": quantize,
            "calibration": calibration,
            "float32_bytes": size,
            "effect": measure_effect(trained, before=_predictor(plain), after=load(folder)[1]),
        }

    return write_converted(trained, out, "litert", convert, postprocessing, version)


def _write_file(folder: Path, content: bytes, class_names: tuple[str, ...]) -> None:
    if any(len(name.splitlines()) != 1 for name in class_names):
        raise ValueError(f"a class name is empty or has a line break, and {LABELS} has one name per line")
    file = folder / FILE
    file.write_bytes(content)
    # Appended to the model, as by LiteRT's own tools; with a fixed date, so that equal models are equal files.
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in class_names))


def load(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names and a function from images to probabilities, on the CPU.

    Only LiteRT's own operations are available: the runtime refuses a file with TensorFlow operations, which
    could read files.
    """
    with zipfile.ZipFile(folder / FILE) as archive:
        class_names = archive.read(LABELS).decode().splitlines()
    return class_names, _predictor((folder / FILE).read_bytes())


def _predictor(content: bytes) -> Callable[[Any], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: Any) -> Any:
        # Strict: only the batch size may change. Otherwise images of another size would be accepted.
        interpreter.resize_tensor_input(inputs["index"], list(images.shape), strict=True)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return predict
