"""All keys of a recipe with their types, bounds and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field

from kerastl import registry
from kerastl.image_size import MAX_SIZE_PX, Resize
from kerastl.options import Error, Fraction, NameOf, Plugin, StrictModel
from kerastl.recipe import rules
from kerastl.recipe.phase import Phase

LARGEST_SEED = 2**31 - 1
AUTO_BATCH_SIZE = 32

Name = Annotated[str, MinLen(1)]
Seed = Annotated[int, Ge(0), Le(LARGEST_SEED)]
SidePx = Annotated[int, Ge(16), Le(MAX_SIZE_PX)]
PAIR = Field(description="[height, width]")
ImageSize = SidePx | Annotated[tuple[SidePx, SidePx], PAIR]
"""A side length or (height, width); `kerastl.image_size.as_size` returns the latter."""
AnySidePx = Annotated[int, Ge(1), Le(MAX_SIZE_PX)]
AnyImageSize = AnySidePx | Annotated[tuple[AnySidePx, AnySidePx], PAIR]
"""An `ImageSize` that may be smaller than that of a network."""
BatchSize = Annotated[int, Ge(1), Le(65_536)]
MaxPixels = Annotated[int, Ge(1), Le(2**31 - 1)]
Pooling = Literal["auto", "cls", "mean", "cls_mean", "map"]
Views = Annotated[int, Ge(1), Le(1000)]
ModelName = Annotated[
    str,
    Field(
        # A DNS label that begins with a letter: Kubernetes requires it of a Service. Compose and TF Serving accept it.
        pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="text of up to 63 lowercase letters, digits and '-' that begins with a letter and does not end with '-'",
    ),
]
MODEL_NAME = "kerastl"
"""Default name of the model on a server: the last part of its address, `/v1/models/kerastl`."""


class Reader(Plugin):
    """Reader of images.

    Args:
        name: Name of the reader; its options are written next to it.
        options: Options of the reader.
    """

    name: Annotated[str, NameOf("reader")]
    options: Any = None


class Operation(Plugin):
    """One augmentation.

    Args:
        name: Name of the operation; its options are written next to it.
        options: Options of the operation.
    """

    name: Annotated[str, NameOf("operation")]
    options: Any = None


class Mixing(Plugin):
    """One augmentation that mixes the images of a batch.

    Args:
        name: Name of the mixing operation; its options are written next to it.
        options: Options of the mixing.
    """

    name: Annotated[str, NameOf("mixing")]
    options: Any = None


class Method(Plugin):
    """One domain adaptation method.

    Args:
        name: Name of the method; its options are written next to it.
        options: Options of the method.
    """

    name: Annotated[str, NameOf("adaptation")]
    options: Any = None


class Validator(Plugin):
    """One criterion that ranks candidates without target labels.

    Args:
        name: Name of the validator; its options are written next to it.
        options: Options of the validator.
    """

    name: Annotated[str, NameOf("validator")]
    options: Any = None


class Backbone(Plugin):
    """The network without its classification head.

    Args:
        name: Name of the network, such as `mobilenet_v2`, with options of its family, such as `alpha`, next to it; a
            preset of KerasHub, as `keras_hub/NAME` or, with the path of its folder, `keras_hub/PATH`; or the path of a
            `.keras` file.
        weights: Initial weights: `imagenet`, `none` (random), a weights file or a run folder. A preset and a `.keras`
            file have their own weights, `preset`, instead of `imagenet`.
        options: Options of the family.
    """

    name: Annotated[str, NameOf("backbone")]
    weights: Literal["imagenet", "preset", "none"] | Path = "imagenet"
    options: Any = None

    RULES: ClassVar = (rules.weights_belong_to_backbone,)

    @classmethod
    def _read_values(
        cls, given: Mapping[str, Any], other_keys: Sequence[str]
    ) -> tuple[dict[str, Any], list[Error]]:
        values, errors = super()._read_values(given, other_keys)
        name = values.get("name")
        if isinstance(name, str) and registry.has_own_weights(name):
            values["name"] = registry.module("backbone", name).absolute_name(name)
            values.setdefault("weights", "preset")
        return values, errors

    @property
    def family_options(self) -> dict[str, Any]:
        """The options of the family, as keyword arguments."""
        return {} if self.options is None else dict(self.options.model_dump())


class Split(StrictModel):
    """How the images are split into training, validation and test sets; splits defined by the data are kept.

    Args:
        val_fraction: Fraction of the images for validation.
        test_fraction: Fraction of the images for the test set, which is evaluated once, after training.
        group_by: Column with the groups (patients), which are never divided between splits; null uses the
            reader's groups.
        allow_rare: Put classes with fewer than three groups into the training set instead of rejecting them.
    """

    RULES: ClassVar = (rules.training_split_is_not_empty,)
    val_fraction: Annotated[float, Ge(0), Lt(1)] = 0.15
    test_fraction: Annotated[float, Ge(0), Lt(1)] = 0.15
    group_by: Name | None = None
    allow_rare: bool = False


class Window(StrictModel):
    """Range of stored values of a 16-bit image that is shown from black to white.

    Args:
        center: Stored value that is displayed as middle gray.
        width: Distance from black to white, in stored values.
    """

    center: float
    width: Annotated[float, Gt(0)]

    @property
    def limits(self) -> tuple[float, float]:
        """The stored values of black and white."""
        return self.center - self.width / 2, self.center + self.width / 2


class Data(StrictModel):
    """The images.

    Args:
        reader: Reader of the images; null only with `source`.
        split: How the images are split into training, validation and test sets.
        image_size_px: Size of the input images, `[height, width]` or the side length of a square; null uses the
            backbone's default.
        resize: How images with a different aspect ratio are resized: `stretch` scales height and width separately,
            `pad` shows the whole image on black, and `crop` shows the center of the image.
        batch_size: Images per step; `auto` is 32, or the largest power of two below it that needs at most
            half of the memory that is free when the run starts.
        window: For 16-bit images: `auto` (0.5th to 99.5th percentile of the training split, or of the target's training
            images if only these have 16 bits), `full`, or a window.
        max_pixels: Maximum number of pixels (width times height); larger images are not read.
        cache: Where decoded images are cached: `memory`, `none`, or `auto` (memory if they fit).
        max_unreadable_fraction: Maximum fraction of unreadable files; if it is exceeded, the run stops before
            training.
        duplicates: Copies of images, files with the same bytes. `auto` keeps them in one split, and rejects
            copies with different labels, given splits or domains; `keep_together` accepts different labels;
            `refuse` rejects all copies; `allow` accepts all copies.
    """

    reader: Reader | None = None
    split: Split = Split()
    image_size_px: ImageSize | None = None
    resize: Resize = "stretch"
    batch_size: Literal["auto"] | BatchSize = 32
    window: Literal["auto", "full"] | Window = "auto"
    max_pixels: MaxPixels = 50_000_000
    cache: Literal["auto", "none", "memory"] = "auto"
    max_unreadable_fraction: Fraction = 0.05
    duplicates: Literal["auto", "refuse", "keep_together", "allow"] = "auto"

    @property
    def known_batch_size(self) -> int:
        """The batch size; while `auto` is not resolved, its initial value."""
        return AUTO_BATCH_SIZE if self.batch_size == "auto" else self.batch_size


class Augment(StrictModel):
    """Augmentation of the training images, different in each epoch; a list is shorthand for `operations`.

    Args:
        policy: Named policy; its operations come first, and the resolved recipe lists them in `operations`.
        operations: Operations applied to each image, in this order.
        exact: Run the keras-cv layers one by one, without fusing or compiling them. This is slower and serves
            as the reference.
        mixing: Operations that mix each image and its label with those of another image in the batch, after
            `operations`; if there are several, one is drawn per image.
        views: Number of augmented versions per image, used in turn, one per epoch; null draws a new one in
            each epoch. Required to cache augmented images.
        placement: Where images are augmented: `host`, in the tf.data graph on the CPU, or `device`, as part
            of the training step, on a GPU or TPU. The images are the same.
    """

    SHORT_WORD: ClassVar[str | None] = "policy"
    SHORT_LIST: ClassVar[str | None] = "operations"
    policy: Literal["none", "light", "medium", "strong", "radiograph", "photograph"] = "none"
    operations: tuple[Operation, ...] = ()
    exact: bool = False
    mixing: tuple[Mixing, ...] = ()
    views: Views | None = None
    placement: Literal["host", "device"] = "host"


class Head(StrictModel):
    """The classification head.

    Args:
        dropout: Dropout rate for the features, in training.
        pooling: How the tokens of a transformer become features: `cls`, the class token; `mean`, the average over the
            patches; `cls_mean`, both; `map`, multihead attention pooling, which is trained with the head. `auto` is
            `cls` if there is a class token, and otherwise `mean`. Feature maps are averaged.
        binary: Whether a single sigmoid unit predicts the second of two classes, instead of one softmax unit per class.
            All files contain the probabilities of both classes.
    """

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2
    pooling: Pooling = "auto"
    binary: bool = False


class Few(StrictModel):
    """The number of target labels that may be used.

    Args:
        groups_per_class: Groups (patients) per class whose labels may be used.
    """

    groups_per_class: Annotated[int, Ge(1), Le(1_000_000)] = 4


class Source(StrictModel):
    """A model from the other hospital, if its images are not available.

    Args:
        model: Run folder, or the output of `kerastl export RUN --format keras`. It defines the class names,
            the image size, the window, the backbone and the head, and is adapted to the images of `target`.
    """

    model: Path


SOURCES_READER = Reader.model_construct(name="", options=None)
"""Placeholder for the reader of the source, until `check` has filled it in."""


class Target(StrictModel):
    """The other hospital: images of the same classes from another domain.

    Args:
        reader: Reader of the images; omitted with `domains`.
        domains: Domains in the source's table that form the target; the others form the source.
        labels: Labels that may be used for training: `none`, `few` or `all`.
        few: Number of labels with `labels: few`; ignored otherwise.
        split: How the images are split into training, validation and test sets.
    """

    RULES: ClassVar = (rules.target_has_one_source_of_images,)
    reader: Reader = SOURCES_READER
    domains: tuple[Name, ...] = ()
    labels: Literal["none", "few", "all"]
    few: Few | None = None
    split: Split = Split()


DEFAULT_VALIDATORS = ("class_ami", "bounded_information")


def _default_validators() -> tuple[Validator, ...]:
    return tuple(Validator(name=name) for name in DEFAULT_VALIDATORS)


class Adaptation(StrictModel):
    """Candidate methods that adapt the model to the target, and how one is selected without target labels.

    Args:
        methods: The candidates; each starts from the model trained on the source and is trained in the phases
            with `domain: target`. `source_only`, the model without adaptation, is always a candidate.
        select_by: Validators that rank the candidates; none uses target labels.
        when: `always`, or `no_labels` to adapt only if `target.labels` is `none`. Otherwise, the phases with
            `domain: target` train on the labels, as if this section were absent.
    """

    RULES: ClassVar = (rules.methods_and_validators_differ,)
    methods: Annotated[tuple[Method, ...], MinLen(1)]
    select_by: Annotated[tuple[Validator, ...], MinLen(1)] = Field(default_factory=_default_validators)
    when: Literal["always", "no_labels"] = "always"


class Export(StrictModel):
    """Models that are exported for serving.

    Args:
        formats: One folder per format; an empty list exports nothing.
        temperature: `validation` scales all probabilities of the run and of its exports with the temperature
            that has the lowest validation loss, if available; `none` does not scale them.
        prevalence: `target` corrects the probabilities for the prevalence estimated at the target.
        threshold: Operating point that decides the predicted class; `none` predicts the most probable class.
        quantize: Quantization for the format `litert`; `int8` is calibrated on training images; null keeps
            float32.
        with_resize: Whether the models of the formats `onnx`, `litert` and `openvino` resize the images themselves.
        model_name: Name of the model on a server, and of its service in Docker Compose and Kubernetes. Models with
            different names run side by side.
    """

    RULES: ClassVar = (
        rules.formats_differ,
        rules.quantized_format_is_exported,
        rules.resizing_format_is_exported,
    )
    formats: tuple[Annotated[str, NameOf("format")], ...] = ("saved_model",)
    temperature: Literal["validation", "none"] = "validation"
    prevalence: Literal["none", "target"] = "none"
    threshold: Literal["none", "specificity", "sensitivity"] = "none"
    quantize: Literal["float16", "int8"] | None = None
    with_resize: bool = False
    model_name: ModelName = MODEL_NAME


class Budget(StrictModel):
    """Time limit for training; a phase ends early when its share of the time is used up.

    Args:
        minutes: Training time on this machine, in minutes, from the first step to the last.
    """

    minutes: Annotated[float, Gt(0), Le(100_000)]


class Evaluation(StrictModel):
    """How the scores are computed.

    Args:
        resamples: Number of bootstrap resamples per 95% interval.
        positive: The positive class, such as `malignant`; null uses the last of two classes, and no class if
            there are more.
        specificity: Sensitivity is reported at the threshold with at least this specificity on validation
            images.
        sensitivity: Specificity is reported at the threshold with at least this sensitivity on validation
            images.
        subgroups: Columns of the reader's table, such as `sex` or `scanner`; scores are also reported per
            value of each column.
    """

    RULES: ClassVar = (rules.subgroups_differ,)
    resamples: Annotated[int, Ge(100), Le(100_000)] = 1000
    positive: Name | None = None
    specificity: Annotated[float, Gt(0), Lt(1)] = 0.9
    sensitivity: Annotated[float, Gt(0), Lt(1)] = 0.9
    subgroups: tuple[Name, ...] = ()


class Recipe(StrictModel):
    """The complete definition of a run.

    Args:
        format: Version of the recipe format.
        data: The images.
        backbone: The network without its classification head.
        phases: The phases of training, in order.
        seed: Random seed for everything: split, initial weights, image order, augmentation.
        task: The task; `single_label` means that each image has exactly one label.
        augment: Augmentation of the training images.
        head: The classification head.
        source: A trained model that replaces source images; null trains on the images of `data.reader`.
        target: The target domain, such as a second hospital; null if there is none.
        adaptation: Candidate methods that adapt the model to the target; null trains the target phases on the
            target's labels.
        export: Models that are exported for serving.
        evaluation: How the scores are computed.
        budget: Time limit for training; null trains for all epochs.
    """

    RULES: ClassVar = rules.RECIPE_RULES
    format: Literal[1]
    data: Data
    backbone: Backbone
    phases: Annotated[tuple[Phase, ...], MinLen(1)]
    seed: Seed = 0
    task: Literal["single_label"] = "single_label"
    augment: Augment = Augment()
    head: Head = Head()
    source: Source | None = None
    target: Target | None = None
    adaptation: Adaptation | None = None
    export: Export = Export()
    evaluation: Evaluation = Evaluation()
    budget: Budget | None = None

    @property
    def adapts_by(self) -> Adaptation | None:
        """`adaptation` if it applies: None without it, or where the target is trained on its labels instead."""
        block = self.adaptation
        has_labels = self.target is not None and self.target.labels != "none"
        return None if block is None or (block.when == "no_labels" and has_labels) else block
