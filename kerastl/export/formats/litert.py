"""LiteRT (.tflite), for phones and small boards; in the file as `labels.txt`: the class names.

`unzip model.tflite labels.txt` takes them out, as from other LiteRT files that carry their labels.
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
NEEDS = ("ai_edge_litert",)
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
    """Export a trained model under `out`, as `version` or the next number, and return the folder written.

    Args:
        trained: the model and the run folder: `int8` is calibrated on its training images, and what quantizing costs
            is measured on its test images.
        out: the folder of all numbers.
        postprocessing: temperature and prevalence that probabilities are told at.
        version: the number to write; None: the one after the highest there.
        quantize: `float16`: weights of half the size; `int8`: weights and computation in 8 bits, the softmax in float32.
            Images and probabilities stay float32, so that every file is called alike. None: float32.
    """
    from kerastl.console import print_status
    from kerastl.export.converted import write_converted
    from kerastl.export.litert_conversion import calibration_of, converted, cost_of

    if quantize is not None:
        print_status(f"Quantizing to {quantize}; what it costs is measured on the run's test images")
    calibration = calibration_of(trained) if quantize == "int8" else None

    def convert(network: InferenceGraph, folder: Path) -> dict[str, Any]:
        plain = converted(network)
        _write(folder, plain, network.class_names)
        if quantize is None:
            return {"quantize": None}
        size = (folder / FILE).stat().st_size
        images = None if calibration is None else calibration.images
        _write(folder, converted(network, quantize, images), network.class_names)
        return {
            "quantize": quantize,
            "calibration": None if calibration is None else calibration.told,
            "float32_bytes": size,
            "cost": cost_of(trained, before=_asker(plain), after=opened(folder)[1]),
        }

    return write_converted(trained, out, "litert", convert, postprocessing, version)


def _write(folder: Path, content: bytes, names: tuple[str, ...]) -> None:
    if any(len(name.splitlines()) != 1 for name in names):
        raise ValueError(f"a class name is empty or has a line break, and {LABELS} holds one a line")
    file = folder / FILE
    file.write_bytes(content)
    # Behind the model, as LiteRT's own tools put associated files; with one date, so that equal models are equal files.
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr(zipfile.ZipInfo(LABELS), "".join(f"{name}\n" for name in names))


def opened(folder: Path) -> tuple[list[str], Callable[[Any], Any]]:
    """Return the class names in the file, and what answers for images, on the CPU.

    Operations are LiteRT's own: a file that asks for TensorFlow's, which may read files, is refused by the runtime.
    """
    with zipfile.ZipFile(folder / FILE) as packed:
        names = packed.read(LABELS).decode().splitlines()
    return names, _asker((folder / FILE).read_bytes())


def _asker(content: bytes) -> Callable[[Any], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()

    def ask(images: Any) -> Any:
        # Strict: only the number of images may change. Without it another size is computed, and answered.
        interpreter.resize_tensor_input(takes["index"], list(images.shape), strict=True)
        interpreter.allocate_tensors()
        interpreter.set_tensor(takes["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(gives["index"])

    return ask
