"""Helpers for tests of converted models: the formats, writing an export, and reading its class names with the format's own tools."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.export import check_formats
from kerastl.export.converted import write_converted
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing
from tests.export.conftest import CLASS_NAMES

FORMATS = ("litert", "onnx", "openvino")
FORMATS_ONE_FAST = ["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in ("litert", "openvino"))]


def need(*names: str) -> None:
    """Skip where the packages of formats are not installed: they are extras. CI must not skip."""
    try:
        check_formats(names)
    except RequestError as error:
        if os.environ.get("KERASTL_REQUIRE_ASSETS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def write_format(
    trained: Trained, out: Path, name: str, postprocessing: Postprocessing = NO_POSTPROCESSING
) -> Path:
    return write_converted(trained, out, name, postprocessing)


def read_class_names(folder: Path, name: str) -> list[str]:
    """The class names as others read them: by the format's own tools."""
    if name == "onnx":
        import onnx

        proto = onnx.load(folder / "model.onnx")
        assert [tensor.name for tensor in proto.graph.input] == ["images"]
        return json.loads({entry.key: entry.value for entry in proto.metadata_props}["class_names"])
    if name == "litert":
        with zipfile.ZipFile(folder / "model.tflite") as archive:
            return archive.read("labels.txt").decode().splitlines()
    (element,) = ET.parse(folder / "model.xml").getroot().findall("rt_info/kerastl/class_names")
    return json.loads(element.get("value"))


WITHOUT_KERASTL = """
import runpy, sys
sys.modules.update(dict.fromkeys(["kerastl", "keras", "keras_cv", "tensorflow"]))
client, *images = sys.argv[1:]
for image in images or [None]:
    sys.argv[1:] = [image] if image else []
    runpy.run_path(client, run_name="__main__")
"""


def run_client(folder: Path, *images: Path) -> list[list[float]]:
    """Run the client in a process that can import neither kerastl, Keras nor TensorFlow, and return its probabilities."""
    words = [sys.executable, "-I", "-c", WITHOUT_KERASTL, str(folder / "client.py"), *map(str, images)]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads("[" + done.stdout.replace("}\n{", "},{") + "]")
    assert [list(row) for row in printed] == [list(CLASS_NAMES)] * len(printed)
    return [list(row.values()) for row in printed]
