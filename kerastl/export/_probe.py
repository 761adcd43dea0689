"""Run an export in its runtime: a script for a fresh process without kerastl and Keras.

Run as `python -I _probe.py EXPORT PLUGIN INPUTS.npz RESPONSE.json MODE`. A SavedModel runs in a TensorFlow session, as in
TensorFlow Serving; a converted model runs in its own runtime, without TensorFlow. It reports the outputs and
checks nothing; `kerastl.export.verification` does that, and has checked the graph of a SavedModel before this
process starts.
"""

import gc
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

BLOCKED = ("kerastl", "keras", "keras_cv", "tf_keras")
if __name__ == "__main__":
    EXPORT, PLUGIN, INPUTS, RESPONSE, MODE = sys.argv[1:]
    # An export must not depend on the package that wrote it, on Keras layers or on keras-cv. `import tensorflow` imports
    # Keras if it finds it; with None in sys.modules every such import fails, and TensorFlow continues without Keras.
    sys.modules.update(dict.fromkeys(BLOCKED, cast(Any, None)))
    if PLUGIN:
        sys.modules["tensorflow"] = cast(Any, None)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

REPEATS = 3
QUICK_SIGNATURES = ("serving_default", "pixels")
QUICK, VARIANTS = "quick", "variants"
TAGS = ["serve"]
WARM_UP = "assets.extra/tf_serving_warmup_requests"
MAX_WARM_UP_RECORDS = 1000
"""With more, TensorFlow Serving does not load a version."""
PREAMBLE = re.compile(r"Graph execution error|Detected at|Node: |<stack|\d+ root error|\s*$")
"""The first lines of an error of a session."""
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The entry of a checkpoint that holds no weights."""
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


def read_weights(export: Path) -> dict[str, Any]:
    """Return the `sha256` over name, shape, dtype and bytes of the variables in a SavedModel, and their size.

    `bytes` is the size of all variables, `distinct_bytes` that of the variables with different contents.
    """
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(export / "variables" / "variables"))
    digest, contents, num_bytes = hashlib.sha256(), {}, 0
    for name in sorted(reader.get_variable_to_shape_map().keys() - {OBJECT_GRAPH}):
        values = np.ascontiguousarray(reader.get_tensor(name))
        content = values.tobytes()
        digest.update(f"{name}{values.shape}{values.dtype}".encode())
        digest.update(content)
        num_bytes += len(content)
        contents[hashlib.sha256(content).digest()] = len(content)
    return {"sha256": digest.hexdigest(), "bytes": num_bytes, "distinct_bytes": sum(contents.values())}


def replay_warm_up(session: ServingSession, export: Path, *, is_quick: bool = False) -> dict[str, Any] | None:
    """Run the warm-up requests of an export as TensorFlow Serving does when it loads a version.

    Args:
        session: The export.
        export: The version folder.
        is_quick: Run only the first request of each of `QUICK_SIGNATURES`; the others are checked and not run.

    Returns:
        The number of `records`, and `faults`, one sentence for each wrong record; None without warm-up requests.
    """
    import tensorflow as tf

    if not (export / WARM_UP).is_file():
        return None
    faults: list[str] = []
    records: list[bytes] = []
    try:
        records += tf.data.TFRecordDataset(str(export / WARM_UP)).as_numpy_iterator()
    except tf.errors.OpError as error:
        faults.append(f"the file is damaged after record {len(records)}: {_first_line(error)}")
    if len(records) > MAX_WARM_UP_RECORDS:
        faults.append(f"{len(records)} records, and TensorFlow Serving allows {MAX_WARM_UP_RECORDS}")
    waiting = {*(QUICK_SIGNATURES if is_quick else ())}
    for number, record in enumerate(records[:MAX_WARM_UP_RECORDS], start=1):
        try:
            name, inputs, outputs = _read_request(session, record)
            if not is_quick or name in waiting:
                session.run(name, inputs, outputs)
            waiting.discard(name)
        except Exception as error:  # each operation raises its own exceptions
            faults.append(f"record {number} of {len(records)}: {_first_line(error)}")
    return {"records": len(records), "faults": faults}


def _read_request(session: ServingSession, record: bytes) -> tuple[str, dict[str, Any], list[str]]:
    """Return the signature, the inputs and the names of the outputs of a warm-up record.

    Raises:
        ValueError: TensorFlow Serving would refuse it. A session in Python converts types, and the server does not.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog.FromString(record)
    kind = log.WhichOneof("log_type")
    if kind not in ("predict_log", "classify_log"):
        raise ValueError(f"{kind or 'an empty record'} is not a request for Predict or Classify")
    request = getattr(log, kind).request
    name = request.model_spec.signature_name or "serving_default"
    if name not in session.signatures:
        raise ValueError(f"there is no signature {name!r}")
    signature = session.signatures[name]
    if kind == "classify_log":
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
        if not signature.method_name.endswith("/classify") or not examples:
            raise ValueError(f"a Classify request for {name!r} with {len(examples)} examples")
        return name, {"inputs": examples}, []
    if set(request.inputs) != set(signature.inputs):
        raise ValueError(f"inputs {sorted(request.inputs)}, but {name} takes {sorted(signature.inputs)}")
    if unknown := set(request.output_filter) - set(signature.outputs):
        raise ValueError(f"outputs {sorted(unknown)}, which {name} does not return")
    for key, tensor in request.inputs.items():
        given, wanted = (tf.as_dtype(number).name for number in (tensor.dtype, signature.inputs[key].dtype))
        if given != wanted:
            raise ValueError(f"{key} is {given}, but {name} takes {wanted}")
    return (
        name,
        {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()},
        list(request.output_filter),
    )


def _first_line(error: Exception) -> str:
    """Return the line of an error that states the reason. A session begins with the nodes that failed."""
    lines = [line.strip() for line in str(error).splitlines() if not PREAMBLE.match(line)]
    return (lines or [type(error).__name__])[0][:200]


def probe_saved_model(
    export: Path, encoded: list[bytes], images: Any, *, is_quick: bool = False
) -> dict[str, Any]:
    """Return the outputs of the endpoints for image files and for decoded images, and the facts about its files."""
    weights = read_weights(export)
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
            if name in session.signatures and not is_quick
        }
        return outputs | {"weights": weights, "warm_up": replay_warm_up(session, export, is_quick=is_quick)}


def probe_variants(export: Path, plugin: str, variants: Any) -> list[Any]:
    """Return the probabilities for variants of decoded images, `[variants, n, height, width, 3]` float32."""
    if plugin:
        _, predict = _load_plugin(plugin).load(export)
        return [predict(images).tolist() for images in variants]
    with ServingSession(export) as session:
        names = ["probabilities"]
        return [_plain(session.run("pixels", {"images": images}, names))[names[0]] for images in variants]


def _example(image: bytes) -> bytes:
    """Return a serialized tf.Example, as TensorFlow Serving's Classify API expects it."""
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image)
    return example.SerializeToString()


def probe_converted(export: Path, plugin: str, images: Any, files: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the outputs of a converted model for decoded images.

    Args:
        export: The version folder.
        plugin: The file of the format's module, because its package cannot be imported.
        images: `[n, height, width, 3]` float32 in [0, 255].
        files: For a model that resizes, the first images in their own sizes, `[height, width, 3]`; otherwise empty.
    """
    class_names, predict = _load_plugin(plugin).load(export)

    def run(images: Any) -> dict[str, Any]:
        return {"class_names": [class_names] * len(images), "probabilities": predict(images).tolist()}

    resized = [predict(image[None]).tolist()[0] for image in files]
    return _probe(run, images, run, images) | {"resized": resized}


def _load_plugin(plugin: str) -> Any:
    spec = importlib.util.spec_from_file_location("format", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        gc.disable()  # the process is short, and most of its objects are those of TensorFlow
        if not PLUGIN:
            import tensorflow as tf  # noqa: F401 - takes seconds, while the parent checks the graph
        if not sys.stdin.readline():
            return  # the parent has found a fault, or has ended
        images, *files = np.load(INPUTS, allow_pickle=False).values()
        if MODE == VARIANTS:
            response["outputs"] = probe_variants(Path(EXPORT), PLUGIN, images)
        elif PLUGIN:
            response["outputs"] = probe_converted(Path(EXPORT), PLUGIN, images, files)
        else:
            encoded = [file.tobytes() for file in files]
            response["outputs"] = probe_saved_model(Path(EXPORT), encoded, images, is_quick=MODE == QUICK)
    except Exception as error:  # any fault in an export is a finding, not a crash
        response["error"] = f"{type(error).__name__}: {error}"
    import resource

    # Peak memory in KiB, on macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    response["memory_bytes"] = peak if sys.platform == "darwin" else peak * 1024
    Path(RESPONSE).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
