"""One phase of training: which layers are trained, how fast and for how long. Recipes and Python share this class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field, PrivateAttr

from kerastl.errors import in_syntax, join_words, quote, setting
from kerastl.options import Error, StrictModel, describe_value, iter_findings

BatchNorm = Literal["frozen", "statistics", "trainable"]
Cache = Literal["auto", "none", "features", "boundary"]
Label = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="text of up to 40 letters, digits, '_' and '-' without spaces",
    ),
]
ClassWeights = Literal["none", "balanced"] | Annotated[dict[str, Annotated[float, Gt(0)]], MinLen(1)]
MINIMIZED = ("val_loss",)
Optimizer = Literal["adam", "adamw", "sgd"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
Monitor = Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auc"]
MONITORS: tuple[str, ...] = get_args(Monitor)


class TopFraction(StrictModel):
    """Train the last part of the backbone.

    Args:
        top_fraction: Fraction of the backbone's layers, rounded to a block boundary.
    """

    top_fraction: Annotated[float, Gt(0), Le(1)]


class FromBlock(StrictModel):
    """Train all blocks from one block on.

    Args:
        from_block: Name of the first trainable block.
    """

    from_block: Annotated[str, MinLen(1)]


def _names_is_a_regular_expression(layers: LayerNames) -> Iterator[tuple[str, str]]:
    try:
        re.compile(layers.names)
    except (re.error, RecursionError, OverflowError) as error:
        yield "names", f"is not a regular expression: {quote(str(error), '')}."


class LayerNames(StrictModel):
    """Train the layers whose names match.

    Args:
        names: Regular expression that must match the full name of a layer.
    """

    RULES: ClassVar = (_names_is_a_regular_expression,)
    names: Annotated[str, MinLen(1)]


class Unfreeze(StrictModel):
    """Train the last block first, and one more block in each epoch (gradual unfreezing).

    Args:
        unfreeze: `one_block_per_epoch`.
    """

    unfreeze: Literal["one_block_per_epoch"]


class BlockRate(StrictModel):
    """Learning rate of one block.

    Args:
        block: Name of the block.
        factor: Multiplier for the phase's learning rate.
    """

    block: Annotated[str, MinLen(1)]
    factor: Annotated[float, Ge(0), Le(100)]


Trainable = Literal["all", "none"] | TopFraction | FromBlock | LayerNames | Unfreeze


def _warmup_is_shorter_than_the_phase(phase: Phase) -> Iterator[tuple[str, str]]:
    if phase.warmup_epochs >= phase.epochs:
        yield ("warmup_epochs", f"must be below epochs ({phase.epochs}), got {phase.warmup_epochs:g}.")


def _weight_decay_needs_adamw(phase: Phase) -> Iterator[tuple[str, str]]:
    if phase.weight_decay and isinstance(phase.optimizer, str) and phase.optimizer != "adamw":
        yield (
            "weight_decay",
            f"must be 0 with optimizer {phase.optimizer}. Set {setting('optimizer', 'adamw')} to use weight decay.",
        )


def _weights_are_averaged_in_one_way(phase: Phase) -> Iterator[tuple[str, str]]:
    if phase.average_last and phase.ema is not None:
        yield "average_last", "cannot be combined with ema. Remove one of the two."
    if phase.average_last > phase.epochs:
        yield "average_last", f"must be at most epochs ({phase.epochs}), got {phase.average_last}."


def _unfreezing_takes_all_epochs(phase: Phase) -> Iterator[tuple[str, str]]:
    if isinstance(phase.trainable, Unfreeze) and phase.early_stopping is not None:
        yield (
            "early_stopping",
            "cannot be combined with gradual unfreezing, which takes all its epochs. Remove it, or set it in a later phase.",
        )


def _objects_replace_options(phase: Phase) -> Iterator[tuple[str, str]]:
    """A custom loss or optimizer has its own settings."""
    replaced = {name: "loss" for name in ("label_smoothing", "focal_gamma") if phase.loss is not None}
    if not isinstance(phase.optimizer, str):
        replaced |= dict.fromkeys(("weight_decay", "clip_norm", "accumulate"), "optimizer")
    for name, owner in replaced.items():
        if getattr(phase, name) != Phase.model_fields[name].default:
            yield (
                name,
                f"cannot be combined with a custom {owner}. Set it in the {owner}, if it has this option.",
            )


def _is_keras(value: Any, kind: str) -> bool:
    """Return whether a value is an instance of a Keras class, without importing Keras."""
    return any(base.__name__ == kind and base.__module__.startswith("keras.") for base in type(value).__mro__)


def _object_errors(objects: Mapping[str, Any]) -> Iterator[Error]:
    """Yield the problems of the custom loss, metrics and optimizer that can be found without Keras."""
    loss, metrics = objects.get("loss"), objects.get("metrics", ())
    if loss is not None and not _is_keras(loss, "Loss") and (not callable(loss) or isinstance(loss, type)):
        example = "keras.losses.CategoricalCrossentropy(from_logits=True)"
        yield ("loss",), f"must be a keras.losses.Loss such as {example}, got {describe_value(loss)}."
    optimizer = objects.get("optimizer")
    if optimizer is not None and not _is_keras(optimizer, "Optimizer"):
        name = optimizer.__name__ if isinstance(optimizer, type) else "Lion"
        yield (
            ("optimizer",),
            (
                f"must be {join_words([*map(repr, OPTIMIZERS)], 'or')}, or an instance such as "
                f"keras.optimizers.{name}(learning_rate=1e-3), got {describe_value(optimizer)}."
            ),
        )
    if not isinstance(metrics, list | tuple) or not all(_is_keras(metric, "Metric") for metric in metrics):
        yield (
            ("metrics",),
            f"must be a list of metrics such as [keras.metrics.F1Score(average='macro')], got {describe_value(metrics)}.",
        )
        return
    names = [metric.name for metric in metrics]
    for index, name in enumerate(names):
        if name in (*names[:index], *(monitor.removeprefix("val_") for monitor in MONITORS)):
            yield (
                ("metrics", index),
                f"val_{name} is already reported. Create the metric with a different name=.",
            )


def _rate_of_optimizer(options: dict[str, Any], optimizer: Any) -> Iterator[Error]:
    """Add the learning rate of a custom optimizer to the options of its phase. Yield what contradicts it."""
    rate = optimizer.get_config().get("learning_rate")
    conflict = "cannot be combined with the learning rate schedule of the optimizer."
    if "learning_rate" in options:
        yield ("learning_rate",), "cannot be combined with a custom optimizer. Set it in the optimizer."
    elif isinstance(rate, float):
        options["learning_rate"] = rate
    elif options.get("schedule", "constant") != "constant":
        yield ("schedule",), conflict
    elif options.get("warmup_epochs"):
        yield ("warmup_epochs",), conflict


class Phase(StrictModel):
    """A number of epochs with one optimizer and one set of trainable layers.

    In Python, a phase can also have a custom loss, metrics and an optimizer. A recipe cannot contain them:

        loss: A `keras.losses.Loss` that takes logits, or a function of labels and logits that returns one value per image.
            It receives one-hot labels `[batch, classes]` float32, or class indices if its name begins with Sparse. It
            replaces the cross-entropy in `loss` and in `val_loss`.
        metrics: `keras.metrics.Metric` objects. They are computed for the validation images after each epoch, from
            probabilities `[images, classes]` and labels as for `loss`, and reported as `val_<name>`, which `monitor` accepts.
        optimizer: A `keras.optimizers.Optimizer`. Each phase uses a new copy, with the learning rate of the optimizer.

    Args:
        name: Name of the phase in the run's files.
        epochs: Maximum number of passes over the training images.
        learning_rate: Learning rate after the warm-up.
        trainable: Trainable layers of the backbone: `all`, `none` (only the head), or a part. The head is
            always trained.
        domain: Domain of the training images: `source` (data) or `target`.
        optimizer: `adam`, `adamw` or `sgd` (momentum 0.9).
        schedule: Learning rate after the warm-up: `constant`, or `cosine` down to zero at the end of the
            phase.
        warmup_epochs: Number of epochs in which the learning rate increases from zero; may be fractional.
        batch_norm: `frozen` (running statistics are used and kept), `statistics` (images are normalized by
            their batch, the statistics are re-estimated before each evaluation, scale and offset are kept) or
            `trainable` (as `statistics`, and scale and offset of the trainable layers are trained); null is
            `trainable` with random weights and `frozen` otherwise.
        label_smoothing: Fraction of the label that is spread evenly over all classes.
        class_weights: `balanced` weights each class by its inverse frequency; or a mapping from class names
            to weights, such as `{cat: 2.0}`, in which missing classes have weight 1.
        early_stopping: Number of epochs without an improvement of `monitor` after which training stops; null
            disables early stopping.
        monitor: Validation metric that determines the best epoch.
        weight_decay: Weight decay of `adamw`.
        keep: Weights to keep at the end: those of the `best` or the `last` epoch.
        clip_norm: Maximum global norm of the gradients; null disables clipping.
        accumulate: Number of batches over which gradients are averaged for one update.
        layer_decay: Factor applied to the learning rate from each block to the preceding one; the head uses
            the phase's rate.
        rates: Learning-rate multipliers for individual blocks, which replace those from `layer_decay`.
        optimizer_state: `reset` starts with a new optimizer, `keep` continues with the optimizer state of the
            previous phase.
        l2_sp: Strength of the L2-SP penalty, which pulls the backbone toward its initial weights.
        ema: Momentum of an exponential moving average of the weights, which is evaluated and kept; null
            disables averaging.
        average_last: Number of final epochs whose weights are averaged; the average is evaluated and kept.
        focal_gamma: Focusing parameter gamma of the focal loss; 0 is the cross-entropy.
        cache: `features` computes the output of a frozen backbone once per image and trains the head on it;
            `boundary` does the same at the first trainable block; `none` recomputes it in each epoch; `auto`
            uses `features` if this does not change the training.
        cache_precision: Data type of the cache on disk: `float32`, `bfloat16` (half the size) or `uint8` (a
            quarter).
        trunk_precision: Data type for computation in the frozen layers before the trainable ones: `float32`
            or `bfloat16`; the run reports the effect. All weights are float32.
        precision: Data type for computation in the trainable layers: `float32` or `mixed_bfloat16`, which is
            faster on GPUs and CPUs with bfloat16 instructions. Weights, logits, losses and validation are
            float32.
    """

    RULES: ClassVar = (
        _warmup_is_shorter_than_the_phase,
        _weight_decay_needs_adamw,
        _weights_are_averaged_in_one_way,
        _unfreezing_takes_all_epochs,
    )
    RENAMED: ClassVar = {
        "loss": "can be set only in Python: kerastl.Phase(..., loss=keras.losses.CategoricalCrossentropy(from_logits=True)).",
        "metrics": "can be set only in Python: kerastl.Phase(..., metrics=[keras.metrics.AUC()]).",
        "momenta": "was renamed to 'optimizer_state' (renew is now reset).",
        "stretch": "was removed. Use trainable: {unfreeze: one_block_per_epoch} in one phase.",
    }

    name: Label
    epochs: Annotated[int, Ge(1), Le(100_000)]
    learning_rate: Annotated[float, Gt(0), Le(10)] = 1e-3
    trainable: Trainable = "none"
    domain: Literal["source", "target"] = "source"
    optimizer: Optimizer = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: Annotated[float, Ge(0), Le(100_000)] = 0.0
    batch_norm: BatchNorm | None = None
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    class_weights: ClassWeights = "none"
    early_stopping: Annotated[int, Ge(1), Le(100_000)] | None = None
    monitor: Monitor = "val_loss"
    weight_decay: Annotated[float, Ge(0), Le(10)] = 0.0
    keep: Literal["best", "last"] = "best"
    clip_norm: Annotated[float, Gt(0), Le(1e6)] | None = None
    accumulate: Annotated[int, Ge(1), Le(10_000)] = 1
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    rates: tuple[BlockRate, ...] = ()
    optimizer_state: Literal["reset", "keep"] = "reset"
    l2_sp: Annotated[float, Ge(0), Le(1e6)] = 0.0
    ema: Annotated[float, Gt(0), Lt(1)] | None = None
    average_last: Annotated[int, Ge(0), Le(100_000)] = 0
    focal_gamma: Annotated[float, Ge(0), Le(10)] = 0.0
    cache: Cache = "auto"
    cache_precision: Literal["float32", "bfloat16", "uint8"] = "float32"
    trunk_precision: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"

    _span: tuple[int, int] | None = PrivateAttr(default=None)
    _loss: Any = PrivateAttr(default=None)
    _metrics: tuple[Any, ...] = PrivateAttr(default=())
    _is_minimized: bool | None = PrivateAttr(default=None)

    if TYPE_CHECKING:

        def __init__(self, name: str, epochs: int = ..., **options: Any) -> None: ...

    @classmethod
    def _long_form(cls, given: Any) -> Mapping[str, Any] | None:
        mapping = super()._long_form(given)
        if mapping is None or not isinstance(mapping.get("rates"), Mapping):
            return mapping
        rates = [{"block": block, "factor": factor} for block, factor in mapping["rates"].items()]
        return {**mapping, "rates": rates}

    @classmethod
    def read(cls, given: Any, other_keys: Sequence[str] = ()) -> tuple[Any, list[Error]]:
        """Return the phase and all problems. In Python, `given` can contain a loss, metrics and an optimizer of Keras."""
        objects = {}
        if isinstance(given, Mapping) and not in_syntax("recipe", ""):
            objects = {key: given[key] for key in ("loss", "metrics") if key in given}
            optimizer = given.get("optimizer")
            if optimizer is not None and not (isinstance(optimizer, str) and optimizer in OPTIMIZERS):
                objects["optimizer"] = optimizer
        if not objects:
            return super().read(given, other_keys)
        options = {key: value for key, value in given.items() if key not in objects}
        objects = {key: value for key, value in objects.items() if value is not None}
        errors = list(_object_errors(objects))
        if "optimizer" in objects and not errors:
            errors += _rate_of_optimizer(options, objects["optimizer"])
        own_monitors = [] if errors else [f"val_{metric.name}" for metric in objects.get("metrics", ())]
        if options.get("monitor") in own_monitors:
            objects["monitor"] = options.pop("monitor")
        phase, other_errors = super().read(options, other_keys)
        if phase is not None and not errors:
            phase._loss, phase._metrics = objects.pop("loss", None), tuple(objects.pop("metrics", ()))
            vars(phase).update(objects)
            findings = iter_findings(_objects_replace_options(phase), is_partial=bool(other_errors))
            other_errors += [((path,), message) for path, message in findings]
        return phase, errors + other_errors

    @property
    def loss(self) -> Any:
        """The custom loss, or None for the cross-entropy."""
        return self._loss

    @property
    def metrics(self) -> tuple[Any, ...]:
        """The custom metrics."""
        return self._metrics

    @property
    def minimizes_monitor(self) -> bool:
        """Whether a smaller value of `monitor` is better."""
        return self.monitor in MINIMIZED if self._is_minimized is None else self._is_minimized

    def with_minimized_monitor(self, *, is_minimized: bool) -> Phase:
        """Return this phase with the direction of a custom metric that it monitors."""
        phase = self.model_copy()
        phase._is_minimized = is_minimized
        return phase

    def is_better(self, value: float, best: float | None) -> bool:
        """Return whether a value of `monitor` is better than the best so far."""
        if best is None:
            return True
        return value < best if self.minimizes_monitor else value > best

    @property
    def schedule_span(self) -> tuple[int, int]:
        """Epochs of the learning rate schedule before this phase, and in all; a part of a divided phase continues its schedule."""
        return self._span or (0, self.epochs)

    @property
    def is_part(self) -> bool:
        """Whether this phase is one part of a phase that was divided."""
        return self._span is not None

    def with_schedule_span(self, before: int, epochs: int) -> Phase:
        """Return this phase as a part of a longer learning rate schedule.

        Args:
            before: Epochs of the schedule before this phase.
            epochs: Epochs of the whole schedule.
        """
        part = self.model_copy()
        part._span = (before, epochs)
        return part

    def unfrozen_by_epoch(self, blocks: Sequence[str]) -> tuple[Phase, ...]:
        """Return a phase of gradual unfreezing as one phase per block that is unfrozen, and any other phase as it is.

        The last block is trained in the first epoch, and in each further epoch the block before it, too. The
        optimizer state is kept, and one schedule spans all parts.

        Args:
            blocks: Names of the backbone's blocks from the input to the output.

        Reference:
            Howard & Ruder 2018, arXiv:1801.06146, section 3.3.
        """
        if not isinstance(self.trainable, Unfreeze):
            return (self,)
        count = min(self.epochs, len(blocks))
        parts = []
        for index in range(count):
            is_last = index == count - 1
            part = self.model_copy(
                update={
                    "name": f"{self.name}_{index + 1}",
                    "epochs": self.epochs - index if is_last else 1,
                    "trainable": FromBlock(from_block=blocks[-1 - index]),
                    "optimizer_state": "keep" if index else self.optimizer_state,
                    "keep": self.keep if is_last else "last",
                }
            )
            parts.append(part.with_schedule_span(index, self.epochs))
        return tuple(parts)
