"""The blocks of a built network: which layers each holds, and what crosses from one to the next."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.models.backbone import Backbone, Block

if TYPE_CHECKING:
    import keras


def block_names(name: str) -> tuple[str, ...]:
    """Return the names of a backbone's blocks from the input on; from its table, nothing is built.

    Raises:
        RequestError: no such backbone.
    """
    return tuple(block for block, _ in _rows(registry.module("backbone", name).BACKBONES[name]))


def get_blocks(model_or_name: keras.Model | str) -> list[Block]:
    """Return the blocks of a network from the input on, the input and pixel layers in the first.

    Args:
        model_or_name: a backbone, or a flat model that has layers behind one (they belong to no
            block); a name is built with random weights first, which takes seconds.

    Raises:
        RequestError: the model is not built on a known backbone.
    """
    if isinstance(model_or_name, str):
        from kerastl.models.build import build_backbone

        return get_blocks(build_backbone(model_or_name, weights="none"))
    graph = _Graph(model_or_name)
    blocks: list[Block] = []
    taken: set[str] = set()
    for name, edge in _matching_rows(graph):
        inside = graph.before(edge)
        layers = [layer for layer in graph.layers if layer in inside and layer not in taken]
        blocks.append(Block(name, tuple(layers), edge))
        taken.update(inside)
    return blocks


def identify_backbone(model: keras.Model) -> str | None:
    """Return the name of the backbone that a model is built on, None where its layers match no table.

    Several tables may have the same blocks (EfficientNet B0 and B1): the nearest in size is told.
    """
    matches = _matches(_Graph(model))
    longest = max(map(len, matches.values()), default=0)
    size = model.count_params()

    def distance(name: str) -> int:
        return abs(size - int(registry.module("backbone", name).BACKBONES[name].parameters))

    return min((one for one, rows in matches.items() if len(rows) == longest), key=distance, default=None)


def split_at_block(model: keras.Model, block: str) -> tuple[keras.Model, keras.Model]:
    """Cut a network behind a block, without copying a weight.

    Args:
        model: a backbone, or a flat model built on one.
        block: the last block of the first part.

    Returns:
        Trunk and tail, which share their layers with `model`; `tail(trunk(images))` is
        `model(images)`. Where several tensors cross, the trunk returns a list and the tail takes it.

    Raises:
        RequestError: no such block, or nothing follows it.
    """
    import keras

    found = _block(model, block)
    operations = {operation.name: operation for operation in model.operations}
    crossing = [operations[name].output for name in found.edge]
    if any(tensor is model.output for tensor in crossing):
        raise RequestError(f"Nothing follows block '{block}': cut at an earlier one.")
    joint = crossing[0] if len(crossing) == 1 else crossing
    trunk = keras.Model(model.input, joint, name="trunk")
    return trunk, keras.Model(joint, model.output, name="tail")


def _block(model: keras.Model, name: str) -> Block:
    blocks = {block.name: block for block in get_blocks(model)}
    if name not in blocks:
        near = difflib.get_close_matches(name, list(blocks), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RequestError(f"There is no block '{name}'.{hint} Known: {', '.join(blocks)}.")
    return blocks[name]


def _rows(backbone: Backbone) -> list[tuple[str, tuple[str, ...]]]:
    """Write a table's series out: each block's name, and its edges with alternatives still in."""
    rows: list[tuple[str, tuple[str, ...]]] = []
    for series in backbone.blocks:
        members: list[Any] = list(series.each) or [""]
        for member in members:
            edge = series.edge.replace("{}", str(member))
            rows.append((series.name.replace("{}", str(member)), tuple(edge.split("+"))))
    return rows


def _matches(graph: _Graph) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return the rows of each table that is found whole in a graph, by the name of its backbone."""
    matches = {}
    for name in registry.names("backbone"):
        rows = _rows(registry.module("backbone", name).BACKBONES[name])
        found = [(block, tuple(graph.first(edge) for edge in edges)) for block, edges in rows]
        if all(all(edges) for _, edges in found):
            matches[name] = found
    return matches


def _matching_rows(graph: _Graph) -> list[tuple[str, tuple[str, ...]]]:
    """Find the backbone a graph is built on: of the tables found whole in it, the longest.

    A saved model says nothing of its origin, but its layers' names do; ResNet101 has every edge
    of ResNet50, and more.
    """
    best = max(_matches(graph).values(), key=len, default=[])
    if not best:
        raise RequestError(
            f"The model '{graph.name}' is not built on a known backbone: its layers match no table. "
            "Build it with kerastl.models.build_backbone, or open up a nested backbone."
        )
    return best


class _Graph:
    """The operations of a functional model by name, and what each is fed by."""

    def __init__(self, model: keras.Model) -> None:
        self.name = model.name
        self.layers = [layer.name for layer in model.layers]
        self._names = [operation.name for operation in model.operations]
        producer = {id(operation.output): operation.name for operation in model.operations}
        self._fed_by = {
            operation.name: [producer[id(value)] for value in _inputs(operation)]
            for operation in model.operations
        }

    def first(self, alternatives: str) -> str:
        """Return the first of `a|b` that the graph has, empty when it has none."""
        return next((name for name in alternatives.split("|") if name in self._fed_by), "")

    def before(self, names: tuple[str, ...]) -> set[str]:
        """Return the operations that these stand on, themselves included."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._fed_by[name]
        return found


def _inputs(operation: Any) -> list[Any]:
    """Return the tensors that an operation reads; an input layer reads none."""
    import keras

    if isinstance(operation, keras.layers.InputLayer):
        return []
    return list(keras.tree.flatten(operation.input))
