"""What a saved graph could do to the machine that runs it, read from the file, before anything is loaded.

A SavedModel is a program. TensorFlow has operations that read and write any file, talk to other processes and
call Python; a classifier of pictures needs none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NEEDED = frozenset({
    "Assert", "AssignVariableOp", "Case", "If", "PartitionedCall", "ReadVariableOp",
    "StatefulPartitionedCall", "VarHandleOp", "VarIsInitializedOp", "While",
})  # fmt: skip
"""Operations that TensorFlow marks as stateful and that stay inside the process."""
FILES = re.compile(r"File|Save|Restore|Checkpoint|Dataset|Print|Debug|Dump")
"""Names of operations that reach files, also where TensorFlow does not mark them as stateful."""
JUDGED_ELSEWHERE = re.compile(r"PyFunc|Random|Rng|Multinomial|Normal|Uniform|Assign|Scatter")
"""Faults of a served graph that harm its answers, not the machine: `verify` tells each by its own name."""


def outside_ops(export: Path) -> list[str]:
    """Return the operations that reach outside the process or keep a hidden state, as `op in function`.

    A damaged graph has none: TensorFlow will not load it either. The functions that save and restore variables are left out: only a trainer calls them.

    Args:
        export: the numbered folder.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((export / "saved_model.pb").read_bytes())
    except DecodeError:
        return []
    found = {
        f"{node.op} in {where}"
        for meta in saved.meta_graphs
        for where, node in run_nodes(meta)
        if _reaches_out(node.op)
    }
    return sorted(found)


def _reaches_out(name: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    if name in NEEDED or JUDGED_ELSEWHERE.search(name):
        return False
    known = op_def_registry.get(name)
    return known is None or known.is_stateful or bool(FILES.search(name))


def run_nodes(meta: Any) -> Iterator[tuple[str, Any]]:
    """Yield every node that loading or asking may run, but for those of the saver."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    saver = {
        name.split(":")[0]
        for name in (meta.saver_def.save_tensor_name, meta.saver_def.restore_op_name)
    }
    waiting = list(meta.object_graph_def.concrete_functions)
    for node in meta.graph_def.node:
        if node.name not in saver:
            yield "the graph", node
            waiting += called(node)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            yield name, node
            waiting += called(node)


def called(node: Any) -> Iterator[str]:
    """Yield the names of the functions that a node calls."""
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        for function in value.list.func:
            yield function.name
