"""Ask a converted model the way an app would: a script for a fresh process, without TensorFlow, Keras and kerastl.

Run as `python -I _ask.py REQUEST.json ANSWER.json`. The request names the plug-in's file, the export and the images.
It judges nothing.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

BLOCKED = ("kerastl", "keras", "keras_cv", "tensorflow", "tf_keras")
# None makes every import of these fail, so that an export can only lean on its own runtime.
NOTHING: dict[str, Any] = dict.fromkeys(BLOCKED)
sys.modules.update(NOTHING)

import numpy as np  # noqa: E402

REPEATS = 3


def plugin(file: str) -> Any:
    """Load the file of a format by its path: its package cannot be imported."""
    spec = importlib.util.spec_from_file_location("format", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(module: Any, export: Path, images: Any) -> dict[str, Any]:
    """Return the class names in the file and the answers: three times in a batch, alone, and for a wrong size."""
    names, answer = module.opened(export)
    taller = np.zeros([1, images.shape[1] + 1, images.shape[2], 3], np.float32)
    told = {
        "class_names": names,
        "batch": [answer(images).tolist() for _ in range(REPEATS)],
        "alone": [answer(images[row : row + 1])[0].tolist() for row in range(len(images))],
    }
    try:
        answer(taller)
    except Exception as error:  # each runtime has errors of its own
        return {**told, "wrong_size": str(error) or type(error).__name__}
    return {**told, "wrong_size": None}


def main() -> None:
    """Read the request, write the answer."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer: dict[str, Any] = {"answers": None, "error": None}
    try:
        images = np.load(request["images"], allow_pickle=False)
        answer["answers"] = ask(plugin(request["plugin"]), Path(request["export"]), images)
    except Exception as error:  # whatever an export does wrong is a finding, not a crash
        answer["error"] = f"{type(error).__name__}: {error}"
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
