"""LiteRT (.tflite), for phones and small boards. The file contains the class names as `labels.txt`.

`unzip model.tflite labels.txt` extracts them, as from other LiteRT files with labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerastl.export.converted import InferenceGraph

FILE = "model.tflite"
FILES = (FILE,)
REQUIRED_PACKAGES = ("ai_edge_litert",)
QUANTIZE_CHOICES = ("float16", "int8")
LABELS = "labels.txt"
TITLE = "LiteRT"
PACKAGE = "ai-edge-litert"
CLIENT_IMPORT = "from ai_edge_litert.interpreter import Interpreter"
CLIENT_PREDICT = """\
predict = Interpreter(str(folder / "model.tflite")).get_signature_runner()
probabilities = predict(images=images)["probabilities"][0]"""


def convert(graph: InferenceGraph, folder: Path, *, quantize: str | None = None) -> dict[str, Any]:
    """Write a graph to `model.tflite` in a folder, and return details for the manifest.

    Args:
        graph: The graph. `int8` is calibrated on the training images of its run, and the effect of quantization
            is measured on the test images.
        folder: The version folder.
        quantize: `float16` for weights of half the size; `int8` for weights and computation in 8 bits, with
            the softmax in float32. Images and probabilities are float32 in each case. None for float32.
    """
    from kerastl.export.litert_conversion import convert_to_litert, measure_effect, read_calibration

    trained, plain = graph.trained, convert_to_litert(graph)
    _write_file(folder, plain, trained.class_names)
    if quantize is None:
        return {"quantize": None}
    size = (folder / FILE).stat().st_size
    images, calibration = read_calibration(trained) if quantize == "int8" else (None, None)
    _write_file(folder, convert_to_litert(graph, quantize, images), trained.class_names)
    return {
        "quantize": quantize,
        "calibration": calibration,
        "float32_bytes": size,
        "effect": measure_effect(
            trained, graph.postprocessing, before=_predictor(plain), after=load(folder)[1]
        ),
    }


def _write_file(folder: Path, content: bytes, class_names: tuple[str, ...]) -> None:
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
