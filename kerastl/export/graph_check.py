"""Static checks of `saved_model.pb`, which is parsed as a protocol buffer. Nothing is loaded or run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kerastl.errors import RequestError, first_line
from kerastl.export.findings import CLASSIFY as CLASSIFY
from kerastl.export.findings import ENDPOINTS, PYTHON, RANDOM, REDUCED, TYPES, WRITES, Finding
from kerastl.tasks import SINGLE_LABEL

GRAPH = "saved_model.pb"
SERVE = "serve"
"""The tag of the graph that a server loads."""


def read_graph(export: Path) -> Any:
    """Return the graphs in a SavedModel, as a `SavedModel` protocol buffer.

    Args:
        export: The version folder.

    Raises:
        OSError: The file cannot be read.
        RequestError: It is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        graph = saved_model_pb2.SavedModel.FromString((export / GRAPH).read_bytes())
    except DecodeError as error:
        raise RequestError(f"{export} cannot be loaded: {first_line(error)}") from error
    if not graph.meta_graphs:
        raise RequestError(f"{export} cannot be loaded: {GRAPH} contains no graph.")
    return graph


def served_graph(export: Path) -> Any:
    """Return the graph that a server loads, a `MetaGraphDef`; None if there is no graph for serving.

    Raises:
        OSError, RequestError: As in `read_graph`.
    """
    return next((meta for meta in read_graph(export).meta_graphs if SERVE in meta.meta_info_def.tags), None)


def served_signatures(export: Path) -> dict[str, Any]:
    """Return the signatures of the served graph, without TensorFlow's internal ones: each `SignatureDef`, by name.

    Raises:
        OSError, RequestError: As in `read_graph`.
    """
    meta = served_graph(export)
    return {} if meta is None else without_internal(meta.signature_def)


def without_internal(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Return signatures by name, without TensorFlow's internal ones."""
    return {name: signature for name, signature in signatures.items() if not name.startswith("__")}


VARIABLE_WRITES = frozenset({
    "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "ResourceScatterAdd", "ResourceScatterUpdate",
})  # fmt: skip
ALLOWED_OPS = VARIABLE_WRITES | {
    "Assert", "Case", "If", "ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp", "VarIsInitializedOp", "While",
}  # fmt: skip
"""The stateful operations that a loaded export may run: they stay inside the process."""
SAVING = frozenset({"DisableCopyOnRead", "MergeV2Checkpoints", "SaveV2", "ShardedFilename"})
"""What the function that writes a checkpoint needs as well; a server never calls it."""
FILES = re.compile(
    r"File|Save|Restore|Checkpoint|Dataset|Print|Debug|Dump|ImmutableConst|codeProto|CustomCall|Abort"
)
"""Operations that reach files or end the process, including those that TensorFlow does not mark as stateful."""
RANDOM_OPS = re.compile(
    r"Random|Rng|Multinomial|NonDeterministic|StandardNormal|TruncatedNormal|StatefulUniform|Shuffle|Sobol|SampleDistorted"
)
"""Random operations without a seed argument; those with one are recognized by it."""

HALF_TYPES = frozenset({14, 19})
"""`DT_BFLOAT16` and `DT_HALF` of TensorFlow's `DataType`, which is not imported here."""

BLOCKING = ("python", "random", "compiled", "unknown", "outside")
"""The kinds of fault for which an export is not loaded."""


def graph_faults(export: Path) -> dict[str, list[str]]:
    """Return the operations that a served graph must not contain, by kind, as `operation in function`.

    Every node of the graph and of every function in its library is checked, including the bodies of loops and
    branches and the functions that save and restore variables.

    Args:
        export: The version folder.

    Returns:
        The kinds `python`; `random`; `compiled` (XLA, which TensorFlow Serving does not run on a CPU);
        `unknown` to TensorFlow; `outside` (files, network, hidden state); `writes` (an endpoint changes a
        variable); and `reduced` (an endpoint computes in bfloat16 or float16).

    Raises:
        OSError, RequestError: The graph cannot be read.
    """
    faults: dict[str, set[str]] = {kind: set() for kind in GRAPH_CHECKS}
    for meta in read_graph(export).meta_graphs:
        for kind, fault in _faults_of(meta):
            faults[kind].add(fault)
    return {kind: sorted(operations) for kind, operations in faults.items()}


GRAPH_CHECKS = {
    "python": (PYTHON, "requires the Python process that created it"),
    "random": (RANDOM, "changes the predictions from call to call"),
    "compiled": ("no XLA compilation", "TensorFlow Serving does not run it on a CPU"),
    "unknown": ("no unknown operation", "is unknown to TensorFlow"),
    "outside": ("no file or network access", "could reach files, the network or another process"),
    "writes": (WRITES, "changes the model while it serves"),
    "reduced": (
        REDUCED,
        "computes in bfloat16 or float16, with errors of about 1e-2. Export a model with the dtype policy float32",
    ),
}
"""The name of the check for each kind of `graph_faults`, and why such an operation is a fault."""


def graph_findings(export: Path) -> list[Finding]:
    """Return one finding for each kind of operation that a served graph must not contain.

    Args:
        export: The version folder.
    """
    try:
        faults = graph_faults(export)
    except (OSError, RequestError):
        return [Finding(check, None, "the graph cannot be read") for check, _ in GRAPH_CHECKS.values()]
    return [
        Finding(check, False, f"{', '.join(faults[kind][:5])}: {reason}")
        if faults[kind]
        else Finding(check, True, "every function of the graph was checked")
        for kind, (check, reason) in GRAPH_CHECKS.items()
    ]


def is_safe_to_load(findings: Iterable[Finding]) -> bool:
    """Return whether the findings of `graph_findings` allow loading the export."""
    blocking = {GRAPH_CHECKS[kind][0] for kind in BLOCKING}
    return not any(finding.check in blocking and not finding.passed for finding in findings)


def check_graph(export: Path) -> None:
    """Check that an export may be loaded.

    Raises:
        OSError: The graph cannot be read.
        RequestError: It is damaged, or contains an operation that is not allowed.
    """
    faults = graph_faults(export)
    reasons = [fault for kind in BLOCKING for fault in faults[kind]]
    if reasons:
        raise RequestError(
            f"{export} is not loaded: its graph contains operations that kerastl never exports: "
            f"{', '.join(reasons[:5])}."
        )


def _faults_of(meta: Any) -> Iterator[tuple[str, str]]:
    saving = _saving_functions(meta)
    restoring = _restoring_function(meta)
    for node in meta.graph_def.node:
        yield from _faults_of_node(node, "the graph")
    for function in meta.graph_def.library.function:
        name = function.signature.name
        if _compiles(function.attr):
            yield "compiled", f"function {name}"
        arguments = {argument.name for argument in function.signature.input_arg}
        for node in function.node_def:
            saves = name in saving and node.op in SAVING
            reads_argument = bool(arguments.intersection(node.input[:1]))
            restores = name == restoring and node.op == "RestoreV2" and reads_argument
            yield from _faults_of_node(node, name, is_exempt=saves or restores)
    for where, node in _served_nodes(meta):
        if node.op in VARIABLE_WRITES:
            yield "writes", f"{node.op} in {where}"
        if any(not HALF_TYPES.isdisjoint((value.type, *value.list.type)) for value in node.attr.values()):
            yield "reduced", f"{node.op} in {where}"


def _faults_of_node(node: Any, where: str, *, is_exempt: bool = False) -> Iterator[tuple[str, str]]:
    kind = None if is_exempt else _fault_of_operation(node.op)
    if kind is not None:
        yield kind, f"{node.op} in {where}"
    if _compiles(node.attr):
        yield "compiled", f"{node.op} in {where}"


@cache
def _fault_of_operation(name: str) -> str | None:
    """Return the kind of fault of an operation; None if it is allowed."""
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(name)
    if "PyFunc" in name:
        return "python"
    if "Xla" in name:
        return "compiled"
    if known is None:
        return "unknown"
    arguments = (*known.attr, *known.input_arg)
    if RANDOM_OPS.search(name) or any(argument.name.startswith("seed") for argument in arguments):
        return "random"
    if FILES.search(name) or (known.is_stateful and name not in ALLOWED_OPS):
        return "outside"
    return None


def _compiles(attributes: Mapping[str, Any]) -> bool:
    """Return whether attributes of a node or a function request XLA compilation."""
    return any(
        _requests_compilation(name) and (value.b or value.s or value.i) for name, value in _flat(attributes)
    )


def _requests_compilation(attribute: str) -> bool:
    return attribute.startswith("_Xla") or attribute == "jit_compile"


def _flat(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield attributes by name, with those of the functions that they name."""
    for name, value in attributes.items():
        yield name, value
        for function in _functions_in(value):
            yield from _flat(function.attr)


def _functions_in(value: Any) -> Iterator[Any]:
    """Yield the functions that the value of an attribute names."""
    yield from value.list.func
    if value.HasField("func"):
        yield value.func


def _called(nodes: Iterable[Any]) -> list[str]:
    """Return the names of the functions that nodes call."""
    values = (value for node in nodes for _, value in _flat(node.attr))
    return [function.name for value in values for function in _functions_in(value)]


def _reachable(names: Iterable[str], successors: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the names that are keys of `successors`, and all keys that they lead to, directly or indirectly."""
    waiting = list(names)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in successors and name not in reached:
            reached.add(name)
            waiting += successors[name]
    return reached


def _calls(meta: Any) -> dict[str, list[str]]:
    """Return the names of the functions that each function calls."""
    library = meta.graph_def.library
    return {function.signature.name: _called(function.node_def) for function in library.function}


def _served_nodes(meta: Any) -> Iterator[tuple[str, Any]]:
    """Yield every node that the outputs of an endpoint depend on, with the name of its function."""
    inputs = {node.name: [_node_of(tensor) for tensor in node.input] for node in meta.graph_def.node}
    outputs = [
        _node_of(output.name)
        for signature in meta.signature_def.values()
        for output in signature.outputs.values()
    ]
    served = _reachable(outputs, inputs)
    nodes = [node for node in meta.graph_def.node if node.name in served]
    yield from (("the graph", node) for node in nodes)
    functions = _reachable(_called(nodes), _calls(meta))
    for function in meta.graph_def.library.function:
        if function.signature.name in functions:
            yield from ((function.signature.name, node) for node in function.node_def)


def _saving_functions(meta: Any) -> set[str]:
    """Return the functions that only the node that saves variables calls, if nothing else leads to that node."""
    graph, saver = meta.graph_def, meta.saver_def
    saving = _node_of(saver.save_tensor_name)
    entries = (*meta.signature_def.values(), *meta.collection_def.values())
    named = b"\n".join(entry.SerializeToString() for entry in entries)
    is_input = saving in {_node_of(tensor) for node in graph.node for tensor in node.input}
    is_named = re.search(re.escape(saving.encode()) + rb"(?!\w)", named)
    if not saving or is_input or is_named or saving == _node_of(saver.restore_op_name):
        return set()
    own = _called(node for node in graph.node if node.name == saving)
    others = _called(node for node in graph.node if node.name != saving)
    calls = _calls(meta)
    return _reachable(own, calls) - _reachable([*others, *meta.object_graph_def.concrete_functions], calls)


def _restoring_function(meta: Any) -> str | None:
    """Return the function that reads variables from the file that the loader names; None if others call it too."""
    graph, saver = meta.graph_def, meta.saver_def
    bodies = (graph.node, *(function.node_def for function in graph.library.function))
    calls = Counter(name for nodes in bodies for name in _called(nodes))
    for node in graph.node:
        first = [_node_of(tensor) for tensor in node.input[:1]]
        is_restoring = node.name == saver.restore_op_name
        if is_restoring and first == [_node_of(saver.filename_tensor_name)]:
            return next((name for name in _called([node]) if calls[name] == 1), None)
    return None


def _node_of(tensor: str) -> str:
    """Return the name of the node that a tensor, or an input of a node, comes from."""
    return tensor.removeprefix("^").split(":")[0]


CLASSIFY_METHOD = "tensorflow/serving/classify"
FINGERPRINT = "fingerprint.pb"


def prepare_for_server(folder: Path) -> None:
    """Prepare a SavedModel that was just written for TensorFlow Serving.

    The method name of the signature `classify` is set. Requests for XLA compilation are removed: Keras compiles grouped
    convolutions, as in ConvNeXt, and the server has no XLA on a CPU. The results are the same.
    """
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    saved = read_graph(folder)
    for meta in saved.meta_graphs:
        meta.signature_def[CLASSIFY].method_name = CLASSIFY_METHOD
        functions = meta.graph_def.library.function
        nodes = (node for body in (meta.graph_def.node, *(f.node_def for f in functions)) for node in body)
        for item in (*functions, *nodes):
            for name in filter(_requests_compilation, list(item.attr)):
                del item.attr[name]
    (folder / GRAPH).write_bytes(saved.SerializeToString(deterministic=True))
    (folder / FINGERPRINT).write_bytes(fingerprinting.CreateFingerprintDef(str(folder)))


DEFAULT_SIGNATURE = "serving_default"
ENDPOINT_INPUTS = {DEFAULT_SIGNATURE: "image_bytes", "pixels": "images", CLASSIFY: "inputs"}
"""The name of the one input of each signature. Only `classify` may be missing."""
STRINGS = frozenset(
    {*ENDPOINT_INPUTS.values(), "predicted", "class_names", "top_classes", "classes"} - {"images"}
)
"""Inputs and outputs of type string. All others are float32."""
CLASSIFY_OUTPUTS = ({"classes", "scores"}, {"classes"}, {"scores"})


def check_endpoints(export: Path) -> list[Finding]:
    """Check the version folder, the endpoints with their inputs and outputs, and that REST can send their types.

    Args:
        export: The version folder that holds `saved_model.pb`.
    """
    folder = _check_version_number(export)
    try:
        signatures = served_signatures(export)
    except (OSError, RequestError):
        damaged = "saved_model.pb is damaged: it cannot be read"
        return [folder, Finding(ENDPOINTS, False, damaged), Finding(TYPES, None, damaged)]
    return [folder, _check_endpoints(signatures), _check_types(signatures)]


def _check_version_number(export: Path) -> Finding:
    name = export.resolve().name
    if name.isdecimal() and int(name) > 0:
        return Finding("version folder", True, f"version {name}")
    detail = f"{name!r} is not a number: TensorFlow Serving requires a number, such as 1"
    return Finding("version folder", False, detail)


def _check_endpoints(signatures: dict[str, Any]) -> Finding:
    faults = []
    for name, input_name in ENDPOINT_INPUTS.items():
        signature = signatures.get(name)
        if signature is None:
            faults += [f"endpoint {name} is missing"] if name != CLASSIFY else []
            continue
        if set(signature.inputs) != {input_name}:
            faults.append(f"{name} has the inputs {sorted(signature.inputs)} instead of {input_name}")
        missing = [output for output in SINGLE_LABEL.outputs if output not in signature.outputs]
        if missing and name != CLASSIFY:
            faults.append(f"{name} does not return {', '.join(missing)}")
    if CLASSIFY in signatures:
        method, outputs = signatures[CLASSIFY].method_name, signatures[CLASSIFY].outputs
        if method != CLASSIFY_METHOD:
            faults.append(f"classify has the method {method} instead of {CLASSIFY_METHOD}")
        if set(outputs) not in CLASSIFY_OUTPUTS:
            faults.append(f"classify returns {sorted(outputs)} instead of classes and scores")
    faults += [
        f"output {output} of {name}: TensorFlow Serving would send a name that ends in _bytes as base64"
        for name, signature in sorted(signatures.items())
        for output in signature.outputs
        if output.endswith("_bytes")
    ]
    return Finding(ENDPOINTS, not faults, "; ".join(faults) or ", ".join(sorted(signatures)))


def _check_types(signatures: dict[str, Any]) -> Finding:
    faults = [
        f"{kind} {key} of {name} is {dtype} instead of {wanted}"
        for name, signature in sorted(signatures.items())
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs))
        for key, info in sorted(tensors.items())
        if (dtype := _type_name(info.dtype)) != (wanted := "string" if key in STRINGS else "float32")
    ]
    return Finding(TYPES, not faults, "; ".join(faults) or "float32 and string, as documented")


def _type_name(number: int) -> str:
    import tensorflow as tf

    try:
        return str(tf.as_dtype(number).name)
    except TypeError:  # the graph is untrusted
        return f"unknown type {number}"


ENCODED = "image/encoded"
"""The feature of a `tf.Example` that holds a whole image file."""


def put_image(example: Any, image: bytes) -> None:
    """Put a whole image file into an empty `tf.Example`."""
    example.features.feature[ENCODED].bytes_list.value.append(image)
