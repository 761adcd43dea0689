"""One phase of training: which layers are trained, how fast, for how long."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from kerastl.backbones import TrunkPrecision
from kerastl.errors import Problem, Problems
from kerastl.training.mixed_precision import StepPrecision
from kerastl.training.precision import Precision

BatchNorm = Literal["frozen", "statistics", "trainable"]
Cache = Literal["auto", "none", "features", "boundary"]
Monitor = Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auc"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Text = Annotated[str, Field(min_length=1)]
MINIMIZED = ("val_loss",)
STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PydanticCustomError(
            "regex", "Input should be a regular expression: {why}", {"why": str(error)}
        ) from None
    return pattern


class TopFraction(BaseModel):
    """Train the layers nearest the output.

    Args:
        top_fraction: share of the backbone's layers, rounded to the edge of a block.
    """

    model_config = STRICT
    top_fraction: Annotated[float, Field(gt=0, le=1)]


class FromBlock(BaseModel):
    """Train one block and all blocks after it.

    Args:
        from_block: name of the first block that is trained.
    """

    model_config = STRICT
    from_block: Text


class LayerNames(BaseModel):
    """Train the layers whose names match a pattern.

    Args:
        names: a regular expression. It must match the whole name of a layer.
    """

    model_config = STRICT
    names: Annotated[Text, WrapValidator(lambda value, check: _check_regex(check(value)))]


PARTS: dict[str, type[BaseModel]] = {
    "top_fraction": TopFraction,
    "from_block": FromBlock,
    "names": LayerNames,
}
"""Forms of `trainable` that are mappings, by their key."""


def _parse_trainable(value: Any) -> Any:
    if type(value) in PARTS.values() or (isinstance(value, str) and value in ("all", "none")):
        return value
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in PARTS:
        return PARTS[next(iter(value))].model_validate(dict(value))
    raise PydanticCustomError(
        "trainable",
        "Input should be 'all', 'none', {'top_fraction': NUMBER}, {'from_block': NAME} or {'names': REGEX}",
    )


def _parse_class_weights(value: Any) -> Any:
    if isinstance(value, str) and value in ("none", "balanced"):
        return value
    if isinstance(value, Mapping) and value and all(_is_weight(*item) for item in value.items()):
        return {name: float(weight) for name, weight in value.items()}
    raise PydanticCustomError(
        "class_weights",
        "Input should be 'none', 'balanced' or positive weights by class name, such as {'cat': 2.0}",
    )


def _is_weight(name: Any, weight: Any) -> bool:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    return isinstance(name, str) and is_number and 0 < weight < float("inf")


TrainableLayers = Literal["all", "none"] | TopFraction | FromBlock | LayerNames
Trainable = Annotated[TrainableLayers, WrapValidator(lambda value, _: _parse_trainable(value))]
ClassWeights = Annotated[
    Literal["none", "balanced"] | Mapping[str, float],
    WrapValidator(lambda value, _: _parse_class_weights(value)),
]


class Phase(BaseModel):
    """A number of epochs with one optimizer and one set of trainable layers.

    Args:
        name: shown in the history. Up to 40 letters, digits, '_' and '-'. It may be positional.
        epochs: at least 1.
        learning_rate: the highest rate of the phase.
        trainable: which layers of the backbone are trained: `"all"`, `"none"`, `{"top_fraction": 0.3}` (rounded to the
            edge of a block), `{"from_block": NAME}` or `{"names": REGEX}`. The head is always trained.
        domain: the domain of the training images, `source` or `target`.
        optimizer: `adam`, `adamw` or `sgd` (momentum 0.9).
        schedule: `constant`, or `cosine` down to zero at the end of the phase.
        warmup_epochs: epochs over which the rate rises from zero; may be a fraction of one.
        batch_norm: `frozen`: running statistics are used and kept. `statistics`: images are normalized by their batch,
            the statistics are re-estimated before each evaluation, scale and offset stay. `trainable`: as `statistics`,
            and scale and offset are trained in the trainable layers. None: see `default_batch_norm`.
        label_smoothing: 0 to below 1.
        class_weights: `none`, `balanced` (the inverse of the share of each class), or weights by class name such as
            `{"cat": 2.0}`; a class without a weight has 1.
        early_stopping: epochs without a better `monitor` after which the phase ends; None: never.
        monitor: the validation metric that decides which epoch is the best.
        weight_decay: for `adamw`.
        keep: continue with the weights of the `best` epoch so far, or of the `last`.
        clip_norm: the norm that the gradients of all variables together are clipped to; None: no clipping.
        accumulate: batches whose gradients are averaged for one update.
        layer_decay: factor of the rate from each block to the one before it, see `rate_factors`.
        rates: factor of the rate of single blocks, by name.
        momenta: `keep` continues with the momenta and the step count of the optimizer of the phase before, `renew` starts
            with a new optimizer.
        l2_sp: strength of the penalty on the distance to the initial weights, see `build_pull`.
        ema: momentum of an average of the weights over all steps, which is evaluated and kept; None: no average.
        average_last: epochs at the end whose weights are averaged, evaluated and kept; 0: none.
        focal_gamma: exponent of the focal loss, see `cross_entropy`; 0: cross-entropy.
        stretch: (epochs before, epochs in all) of the longer phase that this one is a part of, for the schedule.
        cache: `features`: the frozen part runs once, and the head is trained on its outputs. `boundary`: likewise where
            the last blocks are trained. `none`: images pass through the whole model in each epoch. `auto`: `features`
            where that is the same training, see `choose_cache`.
        cache_precision: how the cache is stored: `float32`, `bfloat16` or `uint8`.
        trunk_precision: the precision of the frozen layers before the trained ones, `float32` or `bfloat16`.
        precision: the precision of the trained layers in each step: `float32`, or `mixed_bfloat16`; see `computing_in`.

    Raises:
        RequestError: an option does not exist, has a wrong type or is out of range, or two options contradict each
            other. The error lists all problems.

    Example:
    ```python
    Phase("fine_tune", epochs=5, learning_rate=1e-5, trainable={"top_fraction": 0.3})
    ```
    """

    model_config = STRICT
    name: Name
    epochs: Epochs
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    trainable: Trainable = "none"
    domain: Literal["source", "target"] = "source"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    batch_norm: BatchNorm | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: ClassWeights = "none"
    early_stopping: Epochs | None = None
    monitor: Monitor = "val_loss"
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    keep: Literal["best", "last"] = "best"
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    rates: Mapping[Text, Annotated[float, Field(ge=0, le=100)]] = Field(default_factory=dict)
    momenta: Literal["renew", "keep"] = "renew"
    l2_sp: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    average_last: Annotated[int, Field(ge=0, le=100_000)] = 0
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    stretch: tuple[Annotated[int, Field(ge=0, le=100_000)], Epochs] | None = None
    cache: Cache = "auto"
    cache_precision: Precision = "float32"
    trunk_precision: TrunkPrecision = "float32"
    precision: StepPrecision = "float32"

    def __init__(self, name: str | None = None, /, epochs: Any = None, **values: Any) -> None:
        given = {"name": name, "epochs": epochs}
        values |= {key: value for key, value in given.items() if value is not None}
        problems: list[Problem] = []
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [Problem(*_describe(one)) for one in error.errors(include_url=False)]
        wrong = {problem.where.partition(".")[0] for problem in problems}
        defaults = {key: field.default for key, field in type(self).model_fields.items()}
        valid = {key: value for key, value in (defaults | values).items() if key not in wrong}
        problems += [Problem(*conflict) for conflict in _conflicts(valid)]
        if problems:
            raise Problems(f"Phase {values.get('name', '')!r}", problems)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if value != type(self).model_fields[str(name)].get_default(call_default_factory=True):
                yield name, value

    def is_better(self, value: float, best: float | None) -> bool:
        """Return whether a value of `monitor` is better than the best so far."""
        if best is None:
            return True
        return value < best if self.monitor in MINIMIZED else value > best


def _describe(error: Any) -> tuple[str, str]:
    """Return the option and what is wrong with it, of one error of pydantic."""
    path, kind, value = ".".join(map(str, error["loc"])), error["type"], error["input"]
    if kind == "missing":
        return path, "is missing."
    if kind == "extra_forbidden":
        return path, f"unknown option. {_nearest(path, list(Phase.model_fields))}".rstrip()
    message = re.sub(r"^\w+ should ", "must ", error["msg"])
    if path == "name" and kind == "string_pattern_mismatch":
        message = "must be 1 to 40 letters, digits, '_' and '-'"
    hint = ""
    if kind == "literal_error" and isinstance(value, str):
        hint = _nearest(value, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    return path, f"{message}, got {_shown(value)}. {hint}".rstrip()


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word[:100], known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str | int | float | list | tuple | Mapping):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return f"an object of type {type(value).__name__}"


def _conflicts(valid: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each option that contradicts another one, and why; only valid options are given."""
    epochs, stretch = valid.get("epochs"), valid.get("stretch")
    whole = stretch[1] if stretch else epochs
    if whole is not None and valid.get("warmup_epochs", 0) >= whole:
        yield (
            "warmup_epochs",
            f"must be less than epochs ({whole}), got {valid['warmup_epochs']:g}.",
        )
    if valid.get("weight_decay") and valid.get("optimizer", "adamw") != "adamw":
        yield (
            "weight_decay",
            f"requires optimizer 'adamw', got optimizer {valid['optimizer']!r}.",
        )
    average_last = valid.get("average_last", 0)
    if average_last and valid.get("ema") is not None:
        yield "average_last", "cannot be combined with ema. Remove one of them."
    if epochs is not None and average_last > epochs:
        yield "average_last", f"must be at most epochs ({epochs}), got {average_last}."
    if epochs is not None and stretch and stretch[0] + epochs > stretch[1]:
        yield (
            "stretch",
            f"{stretch[0]} epochs before and {epochs} of this phase are more than {stretch[1]} in all.",
        )
