"""Run an export in its runtime: a script for a fresh process without kerastl and Keras.

Run as `python -I _probe.py EXPORT PLUGIN INPUTS.npz RESPONSE.json`. A SavedModel runs in a TensorFlow session, as in
TensorFlow Serving; a converted model runs in its own runtime, without TensorFlow. It reports the outputs and
checks nothing; `kerastl.export.verification` does that, and has checked the graph of a SavedModel before this
process starts.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

BLOCKED = ("kerastl", "keras", "keras_cv", "tf_keras")
if __name__ == "__main__":
    EXPORT, PLUGIN, INPUTS, RESPONSE = sys.argv[1:]
    # An export must not depend on the package that wrote it, on Keras layers or on keras-cv. `import tensorflow` imports
    # Keras if it finds it; with None in sys.modules every such import fails, and TensorFlow continues without Keras.
    sys.modules.update(dict.fromkeys(BLOCKED, cast(Any, None)))
    if PLUGIN:
        sys.modules["tensorflow"] = cast(Any, None)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

REPEATS = 3
TAGS = ["serve"]
Outputs = dict[str, npt.NDArray[Any]]


class ServingSession:
    """A SavedModel in a TensorFlow session.

    `tf.compat.v1.saved_model.load` imports the graph, restores the variables and runs the initializer in the
    C++ session that TensorFlow Serving builds; no Python object of the model is created. The graph must have
    been checked beforehand.

    Args:
        export: The numbered folder.
        threads: Number of threads within and between operations; 0 lets TensorFlow choose.
        meta: A `MetaGraphDef` to run with the export's variables instead of its own graph; None for its own.
    """

    def __init__(self, export: Path, threads: int = 0, meta: Any = None) -> None:
        import tensorflow as tf

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
            signature: The name of the signature.
            inputs: An array or a sequence of bytes for each input, by name.
            outputs: Names of the outputs; None for all.
        """
        tensors = self.signatures[signature]
        fetches = {name: tensors.outputs[name].name for name in outputs or tensors.outputs}
        feeds = {tensors.inputs[name].name: _array(values) for name, values in inputs.items()}
        return self._session.run(fetches, feeds)


def _array(values: Any) -> npt.NDArray[Any]:
    # NumPy's fixed-width bytes would drop trailing zero bytes of a file.
    return values if isinstance(values, np.ndarray) else np.array(list(values), dtype=object)


def probe_saved_model(export: Path, encoded: list[bytes], images: Any) -> dict[str, Any]:
    """Return the outputs of the endpoints for image files and for decoded images."""
    extra = {
        "classify": {"inputs": [_example(image) for image in encoded]},
        "features": {"image_bytes": encoded},
        "explain": {"image_bytes": encoded},
    }
    with ServingSession(export) as session:

        def run(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return _plain(session.run(name, inputs))

        outputs = _probe(
            lambda files: run("serving_default", {"image_bytes": files}), encoded,
            lambda images: run("pixels", {"images": images}), images,
        )  # fmt: skip
        outputs["pixels"] = run("pixels", {"images": images})
        outputs["extra"] = {
            name: [run(name, inputs) for _ in range(REPEATS)]
            for name, inputs in extra.items()
            if name in session.signatures
        }
        return outputs


def _example(image: bytes) -> bytes:
    """Return a serialized tf.Example, as TensorFlow Serving's Classify API expects it."""
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image)
    return example.SerializeToString()


def probe_converted(export: Path, plugin: str, images: Any) -> dict[str, Any]:
    """Return the outputs of a converted model for decoded images.

    Args:
        export: The version folder.
        plugin: The file of the format's module, because its package cannot be imported.
        images: `[n, size, size, 3]` float32 in [0, 255].
    """
    spec = importlib.util.spec_from_file_location("format", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    class_names, predict = module.load(export)

    def run(images: Any) -> dict[str, Any]:
        return {"class_names": [class_names] * len(images), "probabilities": predict(images).tolist()}

    return _probe(run, images, run, images)


def _probe(predict: Callable[[Any], Any], inputs: Any, predict_images: Any, images: Any) -> dict[str, Any]:
    """Return three outputs for the batch, those for single images, and the error for an oversized image."""
    outputs: dict[str, Any] = {
        "batch": [predict(inputs) for _ in range(REPEATS)],
        "single": [predict(inputs[row : row + 1]) for row in range(len(inputs))],
        "wrong_size": None,
    }
    try:
        predict_images(np.zeros([1, images.shape[1] + 1, images.shape[2], 3], np.float32))
    except Exception as error:  # each runtime raises its own exceptions
        outputs["wrong_size"] = str(error) or type(error).__name__
    return outputs


def _plain(outputs: Outputs) -> dict[str, Any]:
    """Return arrays as lists. float32 values survive the conversion to JSON bit for bit, including NaN."""
    return {
        name: as_texts((values.astype(np.float32) if values.dtype.kind in "fV" else values).tolist())
        for name, values in outputs.items()
    }


def as_texts(value: Any) -> Any:
    """Return nested lists with bytes as text."""
    if isinstance(value, list):
        return [as_texts(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    """Write the outputs of the export, or the error, to the response."""
    response: dict[str, Any] = {"outputs": None, "error": None}
    try:
        images, *files = np.load(INPUTS, allow_pickle=False).values()
        if PLUGIN:
            response["outputs"] = probe_converted(Path(EXPORT), PLUGIN, images)
        else:
            encoded = [file.tobytes() for file in files]
            response["outputs"] = probe_saved_model(Path(EXPORT), encoded, images)
    except Exception as error:  # any fault in an export is a finding, not a crash
        response["error"] = f"{type(error).__name__}: {error}"
    Path(RESPONSE).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
