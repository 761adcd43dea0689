"""Blocks of a network: the layers of each, and the tensors that pass from one to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerastl import registry
from kerastl.errors import RequestError, did_you_mean
from kerastl.models.backbone import HEAD_LAYERS, Backbone, Block, get_backbone
from kerastl.models.hub_presets import read_preset

if TYPE_CHECKING:
    import keras


@cache
def block_names(name: str) -> tuple[str, ...]:
    """Return the names of the blocks of a backbone, starting at the input. Only presets and files are built for this.

    Raises:
        RequestError: If there is no such backbone.
    """
    if registry.has_own_weights(name):
        from kerastl.models.build import build_backbone

        # Blocks do not depend on the values of weights and pixels.
        return tuple(block.name for block in get_blocks(build_backbone(name, weights="none", scale=1.0)))
    return tuple(block for block, _ in _rows(get_backbone(name)))


def possible_blocks(name: str) -> tuple[str, ...]:
    """Return the names of the blocks of a backbone, as far as they are known without building it, and otherwise nothing.

    A convolutional preset has the levels of its pyramid or the blocks of a table; all of them are returned.
    """
    if not registry.has_own_weights(name):
        return block_names(name)
    if registry.is_model_file(name):
        return ()
    try:
        preset = read_preset(name)
    except RequestError:
        return ()  # reported at the name of the backbone
    if preset.output_rank < 4:
        return preset.block_names
    tables = (block for table in registry.names("backbone") for block in block_names(table))
    return tuple(dict.fromkeys([*(f"P{level}" for level in range(6)), *tables]))


def weights_file_problem(path: Path, name: str) -> str:
    """Return why weights cannot be those of a backbone, as far as this is known without the model, or an empty string.

    A saved model must have the last layer of at least one block of the backbone.

    Args:
        path: A weights file, or the folder of a run.
        name: The backbone.
    """
    from kerastl.models import weight_files

    file = path / "model.keras" if path.is_dir() else path
    try:
        if file.suffix != ".keras" or registry.has_own_weights(name) or not file.is_file():
            weight_files.check_readable(file)
            return ""
        ends = {end for _, edges in _rows(get_backbone(name)) for edge in edges for end in edge.split("|")}
        with weight_files.weights_file_errors(file), weight_files.saved_layers(file) as layers:
            names = {layer.name for layer in layers}
    except RequestError as error:
        return str(error)
    return "" if ends & names else f"{file} is a model without the layers of {name}. Use weights of {name}."


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
    has_graph = not any(_is_model(layer) for layer in model_or_name.layers)
    # Layer names identify the architecture; ResNet101 contains all edges of ResNet50.
    rows = max(_matches(graph := _Graph(model_or_name)).values(), key=len, default=[]) if has_graph else []
    if not rows:
        if not has_graph and {"image", "pixels"} <= {layer.name for layer in model_or_name.layers}:
            raise RequestError(
                f"The model '{model_or_name.name}' has no blocks, because it contains a subclassed model, which has no graph. "
                "Each of its layers can be frozen by name."
            )
        if not has_graph or "pixels" not in graph.layers:
            raise RequestError(
                f"The model '{model_or_name.name}' is not built on a known backbone. "
                "Build it with kerastl.models.build_backbone or kerastl.build_classifier."
            )
        return own_blocks(model_or_name)
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
    if not crossing:
        raise RequestError(
            f"The network cannot be split after block '{block}', because an operation with several "
            "outputs crosses this point."
        )
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


def _is_model(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.Model)


@dataclass(frozen=True)
class _Cut:
    """A point in a graph that every path from the image to the output passes through.

    Args:
        operation: The last operation before it.
        index: Index of `operation`.
        edge: Names of the operations whose outputs cross it. Empty if one of them has several outputs.
        shape: Shape of the tensor that depends on weights.
    """

    operation: Any
    index: int
    edge: tuple[str, ...]
    shape: tuple[int | None, ...]


def own_blocks(model: keras.Model) -> list[Block]:
    """Return the stages of a backbone without a table, from its graph.

    The blocks of a convolutional network are the levels of its feature pyramid: `P3` ends with the last feature map of 1/8
    of the size of the image. Those of a transformer are its layers. Otherwise, each layer with weights is a block.
    Normalization layers belong to the block before them.

    Args:
        model: A backbone, or a flat model that adds a head to one.
    """
    import keras

    operations = [operation for operation in model.operations if operation.name not in HEAD_LAYERS]
    cuts = _cuts(operations, model)
    ends = _pyramid_ends(model, cuts)
    if len(ends) < 2:
        ends = _layer_ends(cuts)
    blocks, start = [], 0
    for number, (name, cut) in enumerate(ends.items(), start=1):
        end, edge = cut.index + 1, cut.edge
        if number == len(ends):
            end, edge = len(operations), cuts[-1].edge
        members = operations[start:end]
        layers = tuple(member.name for member in members if isinstance(member, keras.Layer))
        blocks.append(Block(name, layers, edge))
        start = end
    return blocks


def _pyramid_ends(model: keras.Model, cuts: Sequence[_Cut]) -> dict[str, _Cut]:
    """Return the end of each level: the last residual sum or concatenation with its activation, or the last tensor."""
    ends: dict[str, _Cut] = {}
    merged = dict[str, _Cut]()
    deepest = 0
    for cut in cuts:
        level = _pyramid_level(model, cut)
        if level is None:
            continue
        deepest = max(deepest, level)  # padding enlarges a feature map
        name = f"P{deepest}"
        ends[name] = cut
        is_activation = (
            name in merged and merged[name].index + 1 == cut.index and _is_activation(cut.operation)
        )
        if is_activation or len(input_tensors(cut.operation)) > 1:
            merged[name] = cut
    return ends | merged


def _layer_ends(cuts: Sequence[_Cut]) -> dict[str, _Cut]:
    """Return the end of each layer with weights or several inputs; normalization belongs to the layer before it."""
    import keras

    ends: dict[str, _Cut] = {}
    norms = keras.layers.LayerNormalization | keras.layers.BatchNormalization
    for cut in cuts:
        if getattr(cut.operation, "weights", None) or len(input_tensors(cut.operation)) > 1:
            is_norm = isinstance(cut.operation, norms) and ends
            ends[list(ends)[-1] if is_norm else cut.operation.name] = cut
    return ends


def _is_activation(operation: Any) -> bool:
    import keras

    return isinstance(operation, keras.layers.Activation | keras.layers.ReLU)


def _cuts(operations: Sequence[Any], model: keras.Model) -> list[_Cut]:
    """Return the cuts of a backbone, given its operations in order and the model with its head, if any."""
    head = [operation for operation in model.operations if operation.name in HEAD_LAYERS]
    last_use = {id(tensor): len(operations) for tensor in model.outputs}
    for index, operation in enumerate([*operations, *head]):
        last_use |= {id(tensor): min(index, len(operations)) for tensor in input_tensors(operation)}
    cuts, alive, weighted = [], dict[int, tuple[Any, Any]](), set[int]()
    for index, operation in enumerate(operations):
        inputs_of = {id(tensor) for tensor in input_tensors(operation)}
        outputs = _outputs(operation)
        if getattr(operation, "weights", None) or inputs_of & weighted:
            weighted |= {id(tensor) for tensor in outputs}
        alive.update({id(tensor): (operation, tensor) for tensor in outputs})
        alive = {key: value for key, value in alive.items() if last_use.get(key, -1) > index}
        crossing = [tensor for key, (_, tensor) in alive.items() if key in weighted]
        if len(crossing) == 1:
            producers = {producer.name: producer for producer, _ in alive.values()}
            is_single = all(len(_outputs(producer)) == 1 for producer in producers.values())
            cuts.append(
                _Cut(operation, index, tuple(producers) if is_single else (), tuple(crossing[0].shape))
            )
    return cuts


def _pyramid_level(model: keras.Model, cut: _Cut) -> int | None:
    """Return the level of a feature map in the pyramid, the binary logarithm of its stride; None for other tensors."""
    if len(cut.shape) != 4 or not cut.shape[1]:
        return None
    return round(math.log2(model.inputs[0].shape[1] / cut.shape[1]))


def _outputs(operation: Any) -> list[Any]:
    import keras

    return list(keras.tree.flatten(operation.output))


class _Graph:
    """The operations of a functional model by name, with their inputs."""

    def __init__(self, model: keras.Model) -> None:
        self.name = model.name
        self.layers = [layer.name for layer in model.layers]
        producer = {
            id(tensor): operation.name for operation in model.operations for tensor in _outputs(operation)
        }
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
