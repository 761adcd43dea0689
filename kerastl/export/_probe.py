"""Ask an exported model the way a stranger would: a script for a fresh process, without kerastl and Keras.

Run as `python -I _probe.py REQUEST.json ANSWER.json`. It imports TensorFlow and NumPy only, so that an
export that leans on this package's code cannot pass. It judges nothing: `verify` does.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCKED = ("kerastl", "keras", "keras_cv", "tf_keras")
# `import tensorflow` imports Keras by itself where it finds it: None makes every import of these fail,
# so that an export can only lean on TensorFlow's own kernels.
NOTHING: dict[str, Any] = dict.fromkeys(BLOCKED)
sys.modules.update(NOTHING)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

REPEATS = 3
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
WRITES = {
    "Assign",
    "AssignVariableOp",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ResourceScatterUpdate",
    "ResourceScatterAdd",
}
RANDOM_OPS = {
    "Multinomial",
    "NonDeterministicInts",
    "ParameterizedTruncatedNormal",
    "RandomCrop",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RngReadAndSkip",
    "RngSkip",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformFullInt",
    "StatefulUniformInt",
    "TruncatedNormal",
}
STATELESS = ("StatelessRandom", "StatelessMultinomial", "StatelessTruncated", "StatelessSample")
"""Augmentation that draws from a seed of its own: the same noise each time is noise all the same."""


def graph_faults(export: Path) -> dict[str, list[str]]:
    """Return the ops that a served graph must not hold, by kind, as `op in function`."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((export / "saved_model.pb").read_bytes())
    found: dict[str, set[str]] = {"python": set(), "random": set(), "writes": set()}
    for meta in saved.meta_graphs:
        for where, node in _all_nodes(meta.graph_def):
            if node.op in PYTHON_OPS:
                found["python"].add(f"{node.op} in {where}")
            if node.op in RANDOM_OPS or node.op.startswith(STATELESS):
                found["random"].add(f"{node.op} in {where}")
        # The functions that save and restore assign variables rightly: look at the endpoints' own only.
        for where, node in _served_nodes(meta):
            if node.op in WRITES:
                found["writes"].add(f"{node.op} in {where}")
    return {kind: sorted(ops) for kind, ops in found.items()}


def _all_nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    for node in graph.node:
        yield "the graph", node
    for function in graph.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _served_nodes(meta: Any) -> Iterator[tuple[str, Any]]:
    """Yield the nodes of every function that an endpoint's answer calls, however deep."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    outputs = [
        info for signature in meta.signature_def.values() for info in signature.outputs.values()
    ]
    waiting = [nodes[name] for info in outputs if (name := info.name.split(":")[0]) in nodes]
    seen: set[str] = set()
    while waiting:
        for name in _called(waiting.pop()):
            if name in seen or name not in functions:
                continue
            seen.add(name)
            for node in functions[name].node_def:
                yield name, node
                waiting.append(node)


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        for function in value.list.func:
            yield function.name


def ask(export: Path, pictures: list[bytes], images: Any) -> dict[str, Any]:
    """Return what the endpoints answer: three times in a batch, alone, and for a wrong size."""
    # The name keeps the model alive: its functions hold it weakly.
    loaded = tf.saved_model.load(str(export))
    from_bytes, from_pixels = (loaded.signatures[name] for name in ("serving_default", "pixels"))
    batch = [_plain(from_bytes(tf.constant(pictures))) for _ in range(REPEATS)]
    alone = [_plain(from_bytes(tf.constant([picture]))) for picture in pictures]
    pixels = _plain(from_pixels(tf.constant(images)))
    asked = {
        "classify": [_example(one) for one in pictures],
        "features": pictures,
        "explain": pictures,
    }
    return {
        "batch": batch,
        "alone": alone,
        "pixels": pixels,
        "wrong_size": _refusal(from_pixels, images),
        "others": {
            name: _plain(loaded.signatures[name](tf.constant(files)))
            for name, files in asked.items()
            if name in loaded.signatures
        },
    }


def _example(picture: bytes) -> bytes:
    """Return a tf.Example as TF Serving's Classify takes it."""
    encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    features = tf.train.Features(feature={"image/encoded": encoded})
    return tf.train.Example(features=features).SerializeToString()


def _refusal(from_pixels: Any, images: Any) -> str | None:
    try:
        from_pixels(tf.constant(np.zeros([1, images.shape[1] + 1, images.shape[2], 3], np.float32)))
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
        return str(error)
    return None


def _plain(answers: dict[str, Any]) -> dict[str, Any]:
    """Return tensors as lists; float32 survives JSON's float64 to the bit, also NaN."""
    return {
        name: _texts((tf.cast(one, tf.float32) if one.dtype.is_floating else one).numpy().tolist())
        for name, one in answers.items()
    }


def _texts(value: Any) -> Any:
    """Return nested lists with bytes as text."""
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    """Read the request, write the answer."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    export = Path(request["export"])
    answer: dict[str, Any] = {"graph": {}, "answers": None, "error": None}
    try:
        answer["graph"] = graph_faults(export)
        pictures = [Path(path).read_bytes() for path in request["pictures"]]
        answer["answers"] = ask(export, pictures, np.load(request["images"], allow_pickle=False))
    except Exception as error:  # whatever an export does wrong is a finding, not a crash
        answer["error"] = f"{type(error).__name__}: {error}"
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
