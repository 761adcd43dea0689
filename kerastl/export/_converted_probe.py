"""Run a converted model in its runtime: a script for a fresh process without TensorFlow, Keras and kerastl.

Run as `python -I _converted_probe.py REQUEST.json RESPONSE.json`. The request names the plug-in's file, the export and the
images. It reports the outputs and checks nothing.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, cast

BLOCKED = ("kerastl", "keras", "keras_cv", "tensorflow", "tf_keras")
# With None in sys.modules every such import fails: the export can only use its own runtime.
sys.modules.update(dict.fromkeys(BLOCKED, cast(Any, None)))

import numpy as np  # noqa: E402

REPEATS = 3


def load_plugin(file: str) -> Any:
    """Load the module of a format from its file: its package cannot be imported."""
    spec = importlib.util.spec_from_file_location("format", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probe(module: Any, export: Path, images: Any) -> dict[str, Any]:
    """Return the class names and the predictions: three times for the batch, for single images, and for a wrong size."""
    class_names, predict = module.load(export)
    outputs = {
        "class_names": class_names,
        "batch": [predict(images).tolist() for _ in range(REPEATS)],
        "single": [predict(images[row : row + 1])[0].tolist() for row in range(len(images))],
        "wrong_size": None,
    }
    taller = np.zeros([1, images.shape[1] + 1, images.shape[2], 3], np.float32)
    try:
        predict(taller)
    except Exception as error:  # each runtime has errors of its own
        outputs["wrong_size"] = str(error) or type(error).__name__
    return outputs


def main() -> None:
    """Read the request, write the response."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    response: dict[str, Any] = {"outputs": None, "error": None}
    try:
        images = np.load(request["images"], allow_pickle=False)
        response["outputs"] = probe(load_plugin(request["plugin"]), Path(request["export"]), images)
    except Exception as error:  # any fault of an export is a finding, not a crash
        response["error"] = f"{type(error).__name__}: {error}"
    Path(sys.argv[2]).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
