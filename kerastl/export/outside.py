"""What a saved graph could do to the machine that runs it, read from the file, before anything is loaded.

A SavedModel is a program. TensorFlow has operations that read and write any file, talk to other processes and
call Python; a classifier of pictures needs none of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerastl.export.graph_file import read_graph

NEEDED = frozenset({
    "Assert", "AssignVariableOp", "Case", "If", "PartitionedCall", "ReadVariableOp",
    "StatefulPartitionedCall", "VarHandleOp", "VarIsInitializedOp", "While",
})  # fmt: skip
"""Operations that TensorFlow marks as stateful and that stay inside the process."""
FILES = re.compile(
    r"File|Save|Restore|Checkpoint|Dataset|Print|Debug|Dump|ImmutableConst|codeProto|CustomCall|Abort"
)
"""Names of operations that reach files or end the process, also where TensorFlow does not mark them as stateful."""
JUDGED_ELSEWHERE = re.compile(r"PyFunc|Random|Rng|Multinomial|Normal|Uniform|Assign|Scatter")
"""Faults of a served graph that harm its answers, not the machine: `verify` tells each by its own name."""


def outside_ops(export: Path) -> list[str]:
    """Return the operations that reach outside the process or keep a hidden state, as `op in function`.

    A damaged graph has none: TensorFlow will not load it either. The node that saves variables is left out where nothing
    leads to it: only a trainer calls it. That which restores them runs as a server loads, and may read the file it is given.

    Args:
        export: the numbered folder.
    """
    try:
        saved = read_graph(export)
    except ValueError:
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
    """Yield every node that loading or asking may run, but for what reads the variables where they lie."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    restoring, saving = _restoring(meta), _saving(meta)
    waiting = list(meta.object_graph_def.concrete_functions)
    for node in meta.graph_def.node:
        if node.name != saving:
            yield "the graph", node
            waiting += called(node)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        arguments = {one.name for one in functions[name].signature.input_arg}
        for node in functions[name].node_def:
            if not (name == restoring and node.op == "RestoreV2" and node.input[0] in arguments):
                yield name, node
            waiting += called(node)


def _saving(meta: Any) -> str | None:
    """Return the node that saves variables; None: there is none, or something that a server runs leads to it."""
    graph, saver = meta.graph_def, meta.saver_def
    name = _node(saver.save_tensor_name)
    entries = (*meta.signature_def.values(), *meta.collection_def.values())
    told = b"\n".join(one.SerializeToString() for one in entries)
    leads = name in {_node(one) for node in graph.node for one in node.input}
    named = re.search(re.escape(name.encode()) + rb"(?!\w)", told)
    return None if not name or leads or named or name == _node(saver.restore_op_name) else name


def _restoring(meta: Any) -> str | None:
    """Return the function that reads variables from the file that the loader names; None: there is none, or others call it."""
    graph, saver = meta.graph_def, meta.saver_def
    bodies = (graph.node, *(function.node_def for function in graph.library.function))
    calls = Counter(name for nodes in bodies for node in nodes for name in called(node))
    for node in graph.node:
        given = [_node(one) for one in node.input[:1]]
        if node.name == saver.restore_op_name and given == [_node(saver.filename_tensor_name)]:
            return next((name for name in called(node) if calls[name] == 1), None)
    return None


def _node(tensor: str) -> str:
    """Return the name of the node that a tensor, or an input of a node, comes from."""
    return tensor.removeprefix("^").split(":")[0]


def called(node: Any) -> Iterator[str]:
    """Yield the names of the functions that a node calls."""
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        for function in value.list.func:
            yield function.name
