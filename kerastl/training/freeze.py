"""Freezing: the one place that sets the `trainable` flag of each layer, and its verification by checksums.

In Keras 3, `backbone(x, training=False)` does not freeze BatchNorm during training, and setting the flag of a model
sets it for every layer inside. Therefore each layer gets its own flag, and BatchNorm gets its own rule.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import keras
import numpy as np

from kerastl.data import ImageDataset
from kerastl.errors import PermanentFailure, Problem, RequestError, raise_problems, suggest
from kerastl.models import HEAD_LAYERS, Block, check_classifier, dropout_layers, get_blocks, layers_inside
from kerastl.options import checked
from kerastl.recipe.phase import BatchNorm, FromBlock, LayerNames, Phase, TopFraction, Trainable, Unfreeze

Array = np.ndarray[Any, Any]
INITIALLY_ZERO = ("bias", "beta", "moving_mean")
HEAD = "head"
HEAD_INPUT = "pooled"
"""Name of the layer whose output is the input of the head."""


def _batch_norms_of(layer: keras.layers.Layer) -> list[keras.layers.BatchNormalization]:
    """Return a layer if it is a BatchNorm layer, or those that it consists of."""
    return [part for part in layer._flatten_layers() if isinstance(part, keras.layers.BatchNormalization)]


def batch_norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNorm layers of a model, from input to output."""
    return [norm for layer in layers_inside(model) for norm in _batch_norms_of(layer)]


def as_trainable(model: keras.Model, *datasets: ImageDataset) -> keras.Model:
    """Return the functional model that is trained, after checking that it can be trained and matches the images.

    Raises:
        Problems: It does not return logits, its class names or image size are not those of the images, or it cannot be
            trained here.
    """
    network, is_own = model, not has_table(model)
    for images in datasets:
        size = images.image_size_px
        network = check_classifier(
            model, class_names=images.class_names, image_size_px=size, is_probed=is_own
        )
    if not datasets:
        network = check_classifier(model)
    raise_problems("The model", [Problem("", message) for message in _training_problems(model, network)])
    return network


def _training_problems(model: keras.Model, network: keras.Model) -> Iterator[str]:
    """Yield why a model of any kind cannot be trained phase by phase."""
    for name in ("train_step", "compute_loss"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            yield (
                f"has its own {name}, which fit does not call. Train it with model.fit(dataset.as_tf_dataset(), "
                "shuffle=False): the callbacks in kerastl.callbacks freeze and check the layers of any Keras model."
            )
    parts = network._flatten_layers()
    if any(part.compute_dtype == "float16" for part in parts):
        yield (
            "computes in float16, which requires loss scaling. Build it with "
            "keras.config.set_dtype_policy('mixed_bfloat16') instead, which does not."
        )
    names = Counter(
        [part.name for part in parts if isinstance(part, keras.Model) and part._trainable_variables]
        + _names_with_weights(network)
    )
    paths = Counter(weight.path for weight in network.weights)
    if repeated := [name for counts in (names, paths) for name, count in counts.items() if count > 1]:
        yield (
            f"has two layers or weights with the name '{repeated[0]}', so they cannot be selected by name. Set "
            "name= of one of the layers when it is created."
        )
    if not _names_with_weights(network):
        yield "has no layer with weights, so there is nothing to train."


def _table_blocks(model: keras.Model) -> list[Block] | None:
    """Return the blocks of a classifier from `build_model`, or None for any other model."""
    if model in _blocks:
        return _blocks[model]
    names = {layer.name for layer in model.layers}
    blocks = None
    if {HEAD_INPUT, HEAD} <= names and hasattr(model, "operations"):
        with suppress(RequestError):
            blocks = get_blocks(model)
    _blocks[model] = blocks
    return blocks


_blocks: weakref.WeakKeyDictionary[Any, list[Block] | None] = weakref.WeakKeyDictionary()


def has_table(model: keras.Model) -> bool:
    """Return whether a model was built by `build_model` on a backbone whose blocks are known."""
    return _table_blocks(model) is not None


def list_blocks(model: keras.Model) -> list[Block]:
    """Return the blocks of a model before its head, from input to output.

    They are those of a known backbone. In any other model, each layer with weights before the head is a block; layers of
    nested models are separate.
    """
    blocks = _table_blocks(model)
    if blocks is None:
        blocks = [Block(name, (name,), ()) for name in _names_with_weights(model)[:-1]]
    return blocks


def head_layers(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the layers of the head: in a model that `build_model` did not build, the last layer with weights.

    Raises:
        RequestError: The model has no weights.
    """
    if has_table(model):
        return tuple(layer.name for layer in model.layers if layer.name in HEAD_LAYERS)
    names = _names_with_weights(model)
    if not names:
        raise RequestError(
            f"The model '{model.name}' has no weights. Call it on a batch of images, or build it, first."
        )
    return (names[-1],)


def _names_with_weights(model: keras.Model) -> list[str]:
    """Return the names of the layers with weights from input to output, with nested models expanded."""
    return [layer.name for layer in layers_inside(model) if layer.weights]


def named_layers(model: keras.Model) -> dict[str, Any]:
    """Return the layers of a model by name, with nested models expanded."""
    return {layer.name: layer for layer in layers_inside(model)}


def weights_by_layer(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Return the weights of each layer that has any by name, with nested models expanded; those of a model itself by its name."""
    own = {
        part.name: [*part._trainable_variables, *part._non_trainable_variables]
        for part in model._flatten_layers()
        if isinstance(part, keras.Model)
    }
    layers = {layer.name: layer.weights for layer in layers_inside(model)}
    return {name: weights for name, weights in (own | layers).items() if weights}


def resolve_trainable(model: keras.Model, trainable: Trainable) -> list[str]:
    """Return the names of the backbone layers that a phase trains, from input to output.

    Args:
        model: Any Keras model, see `list_blocks`.
        trainable: The selection. `top_fraction` is rounded to the nearest start of a block, so that no residual
            connection bypasses a frozen layer, and selects at least one block.

    Raises:
        RequestError: If there is no such block, or if no layer matches the pattern.
    """
    return _select_layers(list_blocks(model), trainable)


def select_layers(model: keras.Model, trainable: Trainable) -> list[str]:
    """Return the names of all layers that a selection trains, those of the head included.

    Args:
        model: Any Keras model, see `list_blocks`.
        trainable: The selection, as in `resolve_trainable`.

    Raises:
        RequestError: As `resolve_trainable`, or if the model has no weights.
    """
    head = head_layers(model)
    return [*resolve_trainable(model, trainable), *head]


def _select_layers(blocks: Sequence[Block], trainable: Trainable) -> list[str]:
    names = [name for block in blocks for name in block.layers]
    if trainable == "all":
        return names
    if trainable == "none" or not names:
        return []
    if isinstance(trainable, LayerNames):
        matching = [name for name in names if re.fullmatch(trainable.names, name)]
        if not matching:
            raise RequestError(
                f"trainable.names: '{trainable.names}' matches no layer name. The pattern must match the whole name. "
                f"Layer names: {', '.join(names[:3])}, ..., {names[-1]}."
            )
        return matching
    starts = [sum(len(block.layers) for block in blocks[:index]) for index in range(len(blocks))]
    if isinstance(trainable, FromBlock):
        known = [block.name for block in blocks]
        if trainable.from_block not in known:
            hint = suggest(trainable.from_block, known)
            raise RequestError(
                f"trainable.from_block: there is no block '{trainable.from_block}'. {hint}Blocks: {', '.join(known)}."
            )
        return names[starts[known.index(trainable.from_block)] :]
    if isinstance(trainable, Unfreeze):
        raise RequestError("trainable: gradual unfreezing works in `fit` only, which divides it into phases.")
    boundary = len(names) * (1.0 - trainable.top_fraction)
    return names[min(starts, key=lambda start: abs(start - boundary)) :]


def default_batch_norm(model: keras.Model) -> BatchNorm:
    """Return the default rule for BatchNorm: `trainable` for random weights, `frozen` for pretrained weights.

    A network with random weights does not train if its statistics are frozen at mean 0 and variance 1.

    Args:
        model: A Keras model. Its weights are random if all BatchNorm statistics have their initial values.
    """
    norms = batch_norm_layers(model)
    is_random = bool(norms) and all(
        (keras.ops.convert_to_numpy(norm.moving_mean) == 0).all()
        and (keras.ops.convert_to_numpy(norm.moving_variance) == 1).all()
        for norm in norms
    )
    return "trainable" if is_random else "frozen"


def has_random_backbone(model: keras.Model) -> bool:
    """Return whether the backbone has initial weights: all of its biases, offsets and BatchNorm means are 0."""
    head = head_layers(model) if model.weights else ()
    layers = [layer for layer in layers_inside(model) if layer.name not in head]
    weights = [weight for layer in layers for weight in layer.weights if weight.name in INITIALLY_ZERO]
    return bool(weights) and not any(keras.ops.any(weight) for weight in weights)


def check_initial_layers(model: keras.Model, phases: Sequence[Phase]) -> None:
    """Check that no phase freezes a Dense layer with initial weights, whose bias is 0, before a phase has trained it.

    Raises:
        Problems: All such phases. The model can still be trained if the first phase trains all layers.
    """
    initial = {
        layer.name
        for layer in layers_inside(model)
        if isinstance(layer, keras.layers.Dense) and layer.use_bias and not keras.ops.any(layer.bias)
    }
    problems = []
    for index, phase in enumerate(phases):
        if isinstance(phase.trainable, Unfreeze):
            return
        initial -= set(select_layers(model, phase.trainable))
        names = "|".join(sorted(initial))
        if initial:
            problems.append(Problem(
                f"phases[{index}].trainable",
                f"would freeze layers with initial weights: {names}. Use trainable={{'names': {names!r}}}, or 'all'.",
            ))  # fmt: skip
    raise_problems("fit", problems)


def resolve_batch_norm(model: keras.Model, phase: Phase) -> Phase:
    """Return the phase with `batch_norm` set, by default to `default_batch_norm` of the model."""
    if phase.batch_norm is not None:
        return phase
    return phase.model_copy(update={"batch_norm": default_batch_norm(model)})


@checked
def unfreeze(
    model: keras.Model,
    trainable: Trainable = "none",
    *,
    top_fraction: float | None = None,
    batch_norm: BatchNorm | None = "frozen",
) -> list[str]:
    """Make the selected layers and the head trainable, and freeze all other layers.

    Args:
        model: A flat classifier from `build_model`, or any other Keras model. In the latter, the head is the last layer
            with weights, and each other layer with weights is a block.
        trainable: The layers of the backbone to train, as in `Phase`.
        top_fraction: Short for `trainable=TopFraction(top_fraction=...)`.
        batch_norm: The rule for BatchNorm layers, see `Phase`. None selects `default_batch_norm`.

    Returns:
        The names of the trainable layers, from input to output.

    Example:
    ```python
    kerastl.training.unfreeze(model, top_fraction=0.3)
    model.compile("adam", loss)  # Keras reads the flags when it compiles
    model.fit(dataset)
    ```
    """
    if top_fraction is not None:
        trainable = TopFraction(top_fraction=top_fraction)
    rule = batch_norm or default_batch_norm(model)
    selected = set(select_layers(model, trainable))
    layers = layers_inside(model)
    model.trainable = True  # otherwise the flags of single layers have no effect
    for layer in layers:
        layer.trainable = layer.name in selected
        for norm in _batch_norms_of(layer):
            set_batch_norm(norm, rule, is_selected=layer.name in selected)
    for part in model._flatten_layers():
        # The weights of a model itself, e.g. a class token, are trained only if all of its layers are trained.
        if isinstance(part, keras.Model):
            is_trained = all(layer.name in selected for layer in layers_inside(part) if layer.weights)
            for variable in part._trainable_variables:
                variable.trainable = is_trained
    return [layer.name for layer in layers if layer.name in selected and layer.trainable]


def set_batch_norm(layer: keras.layers.BatchNormalization, rule: BatchNorm, *, is_selected: bool) -> None:
    """Set the flag of a BatchNorm layer, which controls training mode, and the flags of its scale and offset.

    Args:
        layer: The layer.
        rule: The rule, see `Phase`.
        is_selected: Whether the rule `trainable` trains the scale and offset of this layer.
    """
    layer.trainable = rule != "frozen"
    for variable in (layer.gamma, layer.beta):
        if variable is not None and rule != "frozen":
            variable.trainable = rule == "trainable" and is_selected


@contextmanager
def override_attribute(owners: Sequence[Any], name: str, value: Any) -> Iterator[None]:
    """Set an attribute of layers, or of an optimizer, within the context."""
    before = [getattr(owner, name) for owner in owners]
    try:
        for owner in owners:
            setattr(owner, name, value)
        yield
    finally:
        for owner, old in zip(owners, before, strict=True):
            setattr(owner, name, old)


@contextmanager
def preserve_values(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Restore the values of variables at the end of the context."""
    before = [copy_of(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def disable_frozen_dropout(model: keras.Model) -> AbstractContextManager[None]:
    """Return a context in which dropout in frozen layers is disabled, so that their features are constant.

    Keras's Dropout ignores `trainable`, and some backbones (EfficientNet) contain dropout.
    """
    return override_attribute([layer for layer in dropout_layers(model) if not layer.trainable], "rate", 0.0)


def is_statistic(variable: keras.Variable) -> bool:
    """Return whether a variable is a running mean or variance of a BatchNorm layer."""
    return variable.path.rsplit("/", 1)[-1] in ("moving_mean", "moving_variance")


def state_paths(model: keras.Model) -> set[str]:
    """Return the paths of the states of trainable layers, e.g. of a counter. BatchNorm statistics have a rule of their own."""
    return {
        variable.path
        for layer in model._flatten_layers()
        if layer.trainable and not isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer._non_trainable_variables
    }


def read_statistics(model: keras.Model) -> dict[str, Array]:
    """Return the moving mean and variance of every BatchNorm layer, `[channels]` float32, by path."""
    return {
        variable.path: copy_of(variable)
        for layer in batch_norm_layers(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    }


def compare_statistics(model: keras.Model, *, rule: str, before: Mapping[str, Array]) -> dict[str, Any]:
    """Compare the BatchNorm statistics before and after the steps of one phase.

    Args:
        model: The model after the last step.
        rule: `batch_norm` of the phase.
        before: `read_statistics` at the start of the phase.

    Returns:
        `{"rule", "layers", "changed", "before", "after", "largest"}`: the number of layers, the number of layers with
        changed statistics, the sha256 of all statistics (16 hex digits), and the largest change, or None:
        `{"layer", "statistic", "channel", "deviations"}`. `deviations` is the change of the mean or of the standard
        deviation, in standard deviations of that channel before the phase, epsilon included. It is None if not finite.
    """
    after = read_statistics(model)
    layers = batch_norm_layers(model)
    changes = [_changed_statistics(layer, before, after) for layer in layers]
    rows = itertools.chain.from_iterable(changes)
    largest = max(
        rows, key=lambda row: np.nan_to_num(row["deviations"], nan=np.inf, posinf=np.inf), default=None
    )
    if largest and not math.isfinite(largest["deviations"]):
        largest["deviations"] = None
    return {
        "rule": rule,
        "layers": len(layers),
        "changed": sum(bool(of_layer) for of_layer in changes),
        "before": _digest(before[path].tobytes() for path in sorted(before)),
        "after": _digest(after[path].tobytes() for path in sorted(after)),
        "largest": largest,
    }


def _changed_statistics(
    layer: Any, before: Mapping[str, Array], after: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """Return the largest change of each of the two statistics of a layer, if it changed."""
    mean, variance = layer.moving_mean.path, layer.moving_variance.path
    old, new = (np.sqrt(values[variance].astype(np.float64) + layer.epsilon) for values in (before, after))
    shift = after[mean].astype(np.float64) - before[mean].astype(np.float64)
    changes = []
    for name, path, change in (("moving_mean", mean, shift), ("moving_variance", variance, new - old)):
        if before[path].tobytes() != after[path].tobytes():
            deviations = np.abs(change) / old
            channel = int(np.argmax(deviations))
            size = float(f"{deviations[channel]:.6g}")
            changes.append({"layer": layer.name, "statistic": name, "channel": channel, "deviations": size})
    return changes


def _digest(parts: Iterable[bytes]) -> str:
    """Return the sha256 of the joined parts, 16 hex digits."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def count_parameters(model: keras.Model, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Count the parameters of a flat classifier.

    Args:
        model: A flat classifier with a known backbone.
        kinds: For each variable by path, whether it is `trained` by the optimizer, one of the `statistics` that are updated
            without being trained, or `frozen`.

    Returns:
        `{"total", "trained", "statistics", "frozen", "blocks": [{"block", "total", "trained"}]}`, integers. Trained,
        statistics and frozen add up to the total, which is Keras's `count_params`. Blocks are in order from the input;
        the last one, `head`, is everything after the backbone.
    """
    block_of = {name: block.name for block in list_blocks(model) for name in block.layers}
    counts = {name: Counter[str]() for name in [*dict.fromkeys(block_of.values()), HEAD]}
    for name, weights in weights_by_layer(model).items():
        for variable in weights:
            counts[block_of.get(name, HEAD)][kinds[variable.path]] += math.prod(variable.shape)
    total = sum(counts.values(), Counter[str]())
    return {
        "total": total.total(),
        **{kind: total[kind] for kind in ("trained", "statistics", "frozen")},
        "blocks": [
            {"block": name, "total": count.total(), "trained": count["trained"]}
            for name, count in counts.items()
        ],
    }


def count_trained(model: keras.Model, phase: Phase) -> int:
    """Return the number of parameters that a phase trains. The model is not changed."""
    rule = phase.batch_norm or default_batch_norm(model)
    layers = named_layers(model)
    trained = {
        id(layer): layer
        for name in select_layers(model, phase.trainable)
        for layer in layers[name]._flatten_layers()
        if rule == "trainable" or not isinstance(layer, keras.layers.BatchNormalization)
    }
    return sum(
        math.prod(variable.shape) for layer in trained.values() for variable in layer._trainable_variables
    )


def copy_of(variable: keras.Variable) -> Array:
    """Return a copy of the values of a variable."""
    return np.array(keras.ops.convert_to_numpy(variable))


def backbone_values(model: keras.Model) -> dict[str, Array]:
    """Return copies of all weights except those of the head, by path."""
    layers = named_layers(model)
    head = {weight.path for name in head_layers(model) for weight in layers[name].weights}
    return {weight.path: copy_of(weight) for weight in model.weights if weight.path not in head}


def checksum(variable: keras.Variable) -> str:
    """Return the sha256 of the values of a variable, 16 hex digits."""
    return _digest([keras.ops.convert_to_numpy(variable).tobytes()])


def checksums(model: keras.Model) -> dict[str, str]:
    """Return the sha256 of every variable by path, 16 hex digits, without the seeds of dropout."""
    return {variable.path: checksum(variable) for layer in model.layers for variable in layer.weights}


NOTHING_CHANGED = "no trainable variable changed. The learning rate may be 0 or too small for float32."


def describe_frozen_changes(variables: Sequence[keras.Variable]) -> str:
    """Return the fault that frozen variables changed."""
    return f"{len(variables)} frozen variables changed; the first is {variables[0].path}."


def frozen_variables(model: keras.Model) -> list[keras.Variable]:
    """Return the variables that training must not change: all but the trained ones and the statistics of trainable layers."""
    return [
        variable
        for layer in model._flatten_layers()
        for variable in (
            *layer._trainable_variables,
            *(() if layer.trainable else layer._non_trainable_variables),
        )
        if not variable.trainable
    ]


def build_freeze_report(
    model: keras.Model,
    phase: Phase,
    *,
    trained: Collection[str],
    before: Mapping[str, str],
    statistics: Mapping[str, Array],
    may_change: Callable[[keras.Variable], bool],
) -> dict[str, Any]:
    """Compare a model before and after the steps of one phase.

    Args:
        model: The model after the last step, before the best weights are restored.
        phase: The phase.
        trained: Paths of the variables that the optimizer trains. Empty if the step updates statistics only.
        before: `checksums` at the start of the phase.
        statistics: `read_statistics` at the start of the phase.
        may_change: Returns whether a variable that is not trained can change (BatchNorm statistics).

    Returns:
        `{"phase", "layers": [{"layer", "trainable", "before", "after", "changed", "statistics_changed"}],
        "batch_norm", "parameters", "warnings": [...], "faults": [...]}`, with one entry for each layer that has
        variables. `changed` excludes statistics that may change. `batch_norm` is that of `compare_statistics`,
        `parameters` that of `count_parameters`. `check_freeze_report` raises an error for faults.
    """
    after = checksums(model)
    changed = {path for path in after if after[path] != before[path]}
    variables = {variable.path: variable for layer in model.layers for variable in layer.weights}
    kinds = {
        path: "trained" if path in trained else "statistics" if may_change(variable) else "frozen"
        for path, variable in variables.items()
    }
    unexpected = [path for path in sorted(changed) if kinds[path] == "frozen"]
    faults = []
    if unexpected:
        num_statistics = sum(is_statistic(variables[path]) for path in unexpected)
        fault = describe_frozen_changes([variables[path] for path in unexpected])
        if num_statistics:
            fault += f" {num_statistics} of them are BatchNorm statistics, although the phase has batch_norm: {phase.batch_norm}."
        faults.append(fault)
    if not trained and not changed:
        faults.append("no variable changed, although the BatchNorm statistics are updated.")
    if trained and not changed & set(trained):
        faults.append(NOTHING_CHANGED)
    layers = [
        _layer_row(name, weights, before, after, kinds) for name, weights in weights_by_layer(model).items()
    ]
    unchanged = [row["layer"] for row in layers if row["trainable"] and not row["changed"]]
    warnings = [f"phase {phase.name}: trainable layers did not change: {', '.join(unchanged)}"]
    return {
        "phase": phase.name,
        "layers": layers,
        "batch_norm": compare_statistics(model, rule=str(phase.batch_norm), before=statistics),
        "parameters": count_parameters(model, kinds),
        "warnings": warnings if unchanged else [],
        "faults": faults,
    }


def _layer_row(
    name: str,
    weights: Sequence[keras.Variable],
    before: Mapping[str, str],
    after: Mapping[str, str],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """Return the row of a layer with variables. `kinds` is that of `count_parameters`."""
    paths = [variable.path for variable in weights]
    changed_kinds = {kinds[path] for path in paths if after[path] != before[path]}
    return {
        "layer": name,
        "trainable": any(kinds[path] == "trained" for path in paths),
        "before": _digest(before[path].encode() for path in paths),
        "after": _digest(after[path].encode() for path in paths),
        "changed": bool(changed_kinds - {"statistics"}),
        "statistics_changed": "statistics" in changed_kinds,
    }


def check_freeze_report(report: Mapping[str, Any]) -> None:
    """Raise an error if a freeze report has faults.

    Raises:
        PermanentFailure: If a frozen variable changed, or no trained variable did.
    """
    if report["faults"]:
        raise PermanentFailure(f"phase {report['phase']}: {' Also, '.join(report['faults'])}")
