"""Blocks of a network: the layers of each, and the tensors that pass from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl import registry
from kerastl.errors import RequestError, did_you_mean
from kerastl.models.backbone import Backbone, Block, get_backbone

if TYPE_CHECKING:
    import keras


def block_names(name: str) -> tuple[str, ...]:
    """Return the names of the blocks of a backbone, starting at the input, without building it.

    Raises:
        RequestError: If there is no such backbone.
    """
    return tuple(block for block, _ in _rows(get_backbone(name)))


def get_blocks(model_or_name: keras.Model | str) -> list[Block]:
    """Return the blocks of a network, starting at the input.

    Args:
        model_or_name: A backbone, or a flat model that adds layers to one (these belong to no block). A name
            is first built with random weights, which takes seconds.

    Raises:
        RequestError: If the model is not built on a known backbone.
    """
    if isinstance(model_or_name, str):
        from kerastl.models.build import build_backbone

        return get_blocks(build_backbone(model_or_name, weights="none"))
    graph = _Graph(model_or_name)
    # Layer names identify the architecture; ResNet101 contains all edges of ResNet50.
    rows = max(_matches(graph).values(), key=len, default=[])
    if not rows:
        raise RequestError(
            f"The model '{graph.name}' is not built on a known backbone. "
            "Build it with kerastl.models.build_backbone, or expand a nested backbone."
        )
    blocks: list[Block] = []
    assigned: set[str] = set()
    for name, edge in rows:
        upstream = graph.upstream(edge)
        layers = [layer for layer in graph.layers if layer in upstream and layer not in assigned]
        blocks.append(Block(name, tuple(layers), edge))
        assigned.update(upstream)
    return blocks


def identify_backbone(model: keras.Model) -> str | None:
    """Return the name of the backbone that a model is built on, or None if its layers match no table.

    If several tables have the same blocks (EfficientNet B0 and B1), the one closest in size wins.
    """
    matches = _matches(_Graph(model))
    longest = max(map(len, matches.values()), default=0)
    num_parameters = model.count_params()

    def distance(name: str) -> int:
        return abs(num_parameters - get_backbone(name).parameters)

    return min((name for name, rows in matches.items() if len(rows) == longest), key=distance, default=None)


def split_at_block(model: keras.Model, block: str) -> tuple[keras.Model, keras.Model]:
    """Split a network after a block, without copying weights.

    Args:
        model: A backbone, or a flat model built on one.
        block: The last block of the first part.

    Returns:
        Trunk and tail, which share their layers with `model`: `tail(trunk(images))` equals `model(images)`.
        If several tensors pass from one to the other, the trunk returns a list.

    Raises:
        RequestError: If there is no such block, or no layer after it.
    """
    import keras

    blocks = {known.name: known for known in get_blocks(model)}
    if block not in blocks:
        raise RequestError(f"Unknown block '{block}'. {did_you_mean(block, list(blocks))}")
    operations = {operation.name: operation for operation in model.operations}
    crossing = [operations[name].output for name in blocks[block].edge]
    if any(tensor is model.output for tensor in crossing):
        raise RequestError(f"Nothing follows block '{block}'. Choose an earlier block.")
    joint = crossing[0] if len(crossing) == 1 else crossing
    trunk = keras.Model(model.input, joint, name="trunk")
    return trunk, keras.Model(joint, model.output, name="tail")


def _rows(backbone: Backbone) -> list[tuple[str, tuple[str, ...]]]:
    """Expand a table: the name of each block, and its edges, still with alternatives."""
    rows: list[tuple[str, tuple[str, ...]]] = []
    for series in backbone.blocks:
        for member in series.each or ("",):
            edge = series.edge.replace("{}", str(member))
            rows.append((series.name.replace("{}", str(member)), tuple(edge.split("+"))))
    return rows


def _matches(graph: _Graph) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return the matching rows of each table that is completely contained in a graph, by backbone name."""
    matches = {}
    for name in registry.names("backbone"):
        rows = _rows(get_backbone(name))
        present = [(block, tuple(graph.first(edge) for edge in edges)) for block, edges in rows]
        if all(all(edges) for _, edges in present):
            matches[name] = present
    return matches


class _Graph:
    """The operations of a functional model by name, with their inputs."""

    def __init__(self, model: keras.Model) -> None:
        self.name = model.name
        self.layers = [layer.name for layer in model.layers]
        producer = {id(operation.output): operation.name for operation in model.operations}
        self._inputs_of = {
            operation.name: [producer[id(tensor)] for tensor in input_tensors(operation)]
            for operation in model.operations
        }

    def first(self, alternatives: str) -> str:
        """Return the first alternative of `a|b` that the graph contains, or an empty string."""
        return next((name for name in alternatives.split("|") if name in self._inputs_of), "")

    def upstream(self, names: tuple[str, ...]) -> set[str]:
        """Return the operations that the given ones depend on, including themselves."""
        upstream: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in upstream:
                upstream.add(name)
                pending += self._inputs_of[name]
        return upstream


def input_tensors(operation: Any) -> list[Any]:
    """Return the input tensors of an operation; an input layer has none."""
    import keras

    if isinstance(operation, keras.layers.InputLayer):
        return []
    return list(keras.tree.flatten(operation.input))
