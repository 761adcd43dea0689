"""Run a SavedModel in a TensorFlow session, as TensorFlow Serving does: a script for a fresh process.

Run as `python -I _probe.py REQUEST.json RESPONSE.json`. It reports the outputs of the endpoints and checks nothing;
`kerastl.export.verification` does that, and has checked the graph before this process starts.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

BLOCKED = ("kerastl", "keras", "keras_cv", "tf_keras")
if __name__ == "__main__":
    # An export must not depend on the package that wrote it, on Keras layers or on keras-cv. `import tensorflow` imports
    # Keras if it finds it; with None in sys.modules every such import fails, and TensorFlow continues without Keras.
    sys.modules.update(dict.fromkeys(BLOCKED, cast(Any, None)))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import tensorflow as tf  # noqa: E402

REPEATS = 3
TAGS = ["serve"]
Outputs = dict[str, npt.NDArray[Any]]


class ServingSession:
    """A SavedModel in a TensorFlow session.

    `tf.compat.v1.saved_model.load` imports the graph, restores the variables and runs the initializer in the C++ session
    that TensorFlow Serving builds; no Python object of the model is created. The graph must have been checked.

    Args:
        export: the numbered folder.
        threads: within and between operations; 0 lets TensorFlow choose.
        meta: a `MetaGraphDef` to run with the export's variables instead of its own graph; None for its own.
    """

    def __init__(self, export: Path, threads: int = 0, meta: Any = None) -> None:
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=threads,
            device_count={"GPU": 0},
        )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        with graph.as_default():
            if meta is None:
                meta = tf.compat.v1.saved_model.load(self._session, TAGS, str(export))
            else:
                saver = tf.compat.v1.train.import_meta_graph(meta)
                saver.restore(self._session, str(export / "variables" / "variables"))
        self.signatures = dict(meta.signature_def)

    def __enter__(self) -> "ServingSession":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Outputs:
        """Return the outputs of one call.

        Args:
            signature: its name.
            inputs: an array, or a sequence of bytes, by name.
            outputs: names; None for all.
        """
        tensors = self.signatures[signature]
        fetches = {name: tensors.outputs[name].name for name in outputs or tensors.outputs}
        feeds = {tensors.inputs[name].name: _array(values) for name, values in inputs.items()}
        results: Outputs = self._session.run(fetches, feeds)
        return results


def _array(values: Any) -> npt.NDArray[Any]:
    # NumPy's fixed-width bytes would drop trailing zero bytes of a file.
    return values if isinstance(values, np.ndarray) else np.array(list(values), dtype=object)


def probe(export: Path, encoded: list[bytes], images: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return the outputs of the endpoints: three times for the batch, for single images, and for a wrong size."""
    examples = [_example(image) for image in encoded]
    extra = {
        "classify": {"inputs": examples},
        "features": {"image_bytes": encoded},
        "explain": {"image_bytes": encoded},
    }
    with ServingSession(export) as session:

        def run(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return _plain(session.run(name, inputs))

        return {
            "batch": [run("serving_default", {"image_bytes": encoded}) for _ in range(REPEATS)],
            "single": [run("serving_default", {"image_bytes": [image]}) for image in encoded],
            "pixels": run("pixels", {"images": images}),
            "wrong_size": _refusal(session, images),
            "extra": {
                name: [run(name, inputs) for _ in range(REPEATS)]
                for name, inputs in extra.items()
                if name in session.signatures
            },
        }


def _example(image: bytes) -> bytes:
    """Return a serialized tf.Example as TensorFlow Serving's Classify takes it."""
    encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    features = tf.train.Features(feature={"image/encoded": encoded})
    serialized: bytes = tf.train.Example(features=features).SerializeToString()
    return serialized


def _refusal(session: ServingSession, images: npt.NDArray[np.float32]) -> str | None:
    """Return the message for an image that is one pixel too tall; None if it is not refused."""
    taller = np.zeros([1, images.shape[1] + 1, images.shape[2], 3], np.float32)
    try:
        session.run("pixels", {"images": taller})
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        return str(error)
    return None


def _plain(outputs: Outputs) -> dict[str, Any]:
    """Return arrays as lists; float32 survives JSON's float64 to the bit, including NaN."""
    return {
        name: _texts((values.astype(np.float32) if values.dtype.kind in "fV" else values).tolist())
        for name, values in outputs.items()
    }


def _texts(value: Any) -> Any:
    """Return nested lists with bytes as text."""
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    """Read the request, write the response."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    response: dict[str, Any] = {"outputs": None, "error": None}
    try:
        encoded = [Path(path).read_bytes() for path in request["encoded"]]
        images = np.load(request["images"], allow_pickle=False)
        response["outputs"] = probe(Path(request["export"]), encoded, images)
    except Exception as error:  # any fault of an export is a finding, not a crash
        response["error"] = f"{type(error).__name__}: {error}"
    Path(sys.argv[2]).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
