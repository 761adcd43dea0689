"""What a recipe can say: frozen dataclasses, which the walker reads, the writer writes and the docs list.

Types and bounds are the annotations; what needs two fields is in `rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from kerastl.recipe.phases import Phase
from kerastl.recipe.plugins import (
    Backbone,
    Method,
    Mixing,
    NameOf,
    Operation,
    Reader,
    Validator,
)

LARGEST_SEED = 2**31 - 1
AUTO_BATCH_SIZE = 32

Fraction = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1), Le(1_000_000)]


@dataclass(frozen=True)
class Split:
    """Who is in training, validation and test; splits that the data brings along are kept.

    Args:
        val_fraction: share of the pictures for validation.
        test_fraction: share of the pictures for the test, which the model sees once, after training.
        group_by: the column of groups (patients) that must not be torn apart; null takes the groups
            the reader finds.
        allow_rare: put a class with fewer than three groups wholly into training, instead of refusing it.
    """

    val_fraction: Annotated[float, Ge(0), Lt(1)] = 0.15
    test_fraction: Annotated[float, Ge(0), Lt(1)] = 0.15
    group_by: Annotated[str, MinLen(1)] | None = None
    allow_rare: bool = False


@dataclass(frozen=True)
class Window:
    """Which stored values of a 16-bit picture are shown, from black to white.

    Args:
        center: the stored value that becomes middle grey.
        width: the distance from black to white, in stored values.
    """

    center: float
    width: Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Data:
    """The pictures.

    Args:
        reader: what reads them; null only where `source` stands in their place.
        split: who is in training, validation and test.
        image_size_px: side of the square the network sees; null takes the backbone's own.
        batch_size: pictures a step; `auto`: 32, or the largest power of two below it that takes no more than half of
            the memory that is free when the run begins.
        window: for 16-bit pictures: `auto` (0.5 and 99.5 percentile of the training split), `full`, or a window.
        max_pixels: a picture of more pixels than this (width times height) is set aside unread.
        cache: where decoded pictures wait: `memory`, `none`, or `auto` (memory where they fit).
        max_unreadable_fraction: a run stops before training when more of the files than this cannot be read.
    """

    reader: Reader | None = None
    split: Split = Split()
    image_size_px: Annotated[int, Ge(16), Le(4096)] | None = None
    batch_size: Literal["auto"] | Annotated[int, Ge(1), Le(65_536)] = 32
    window: Literal["auto", "full"] | Window = "auto"
    max_pixels: Annotated[int, Ge(1), Le(2**31 - 1)] = 50_000_000
    cache: Literal["auto", "none", "memory"] = "auto"
    max_unreadable_fraction: Fraction = 0.05

    @property
    def known_batch_size(self) -> int:
        """The batch size; as long as `auto` is not decided, the one that it begins with."""
        return AUTO_BATCH_SIZE if self.batch_size == "auto" else self.batch_size


@dataclass(frozen=True)
class Augment:
    """How training pictures are changed, each epoch anew; a bare list is short for `operations`.

    Args:
        policy: a named policy; its operations come first, and the checked recipe holds them in `operations`.
        operations: what is done to each picture, in this order.
        exact: run keras-cv's layers one after the other, nothing folded, nothing compiled: slower, the reference.
        mixing: ways of mixing each picture, and its label, with another of its batch, after the operations;
            of several, each picture gets one, by chance.
        views: augmented pictures that each picture has in all, shown in turn epoch by epoch; null: another one in each
            epoch. A cache needs it.
        placement: where that is done: `host`, in the tf.data graph on the CPU, or `device`, as part of the training
            step, on a GPU or TPU. The same pictures either way.
    """

    SHORT_WORD: ClassVar[str] = "policy"
    SHORT_LIST: ClassVar[str] = "operations"
    policy: Literal["none", "light", "medium", "strong", "radiograph", "photograph"] = "none"
    operations: tuple[Operation, ...] = ()
    exact: bool = False
    mixing: tuple[Mixing, ...] = ()
    views: Annotated[int, Ge(1), Le(1000)] | None = None
    placement: Literal["host", "device"] = "host"


@dataclass(frozen=True)
class Head:
    """The layer that names the class.

    Args:
        dropout: share of the features that are dropped in each training step.
    """

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


@dataclass(frozen=True)
class Few:
    """How many labels of the target may be used.

    Args:
        groups_per_class: groups (patients) of each class whose labels may be used.
    """

    groups_per_class: Count = 4


SOURCES_READER = Reader(name="")
"""Stands for the source's own reader until the check has filled it in."""


@dataclass(frozen=True)
class Source:
    """The model of the other hospital, where its pictures may not travel.

    Args:
        model: a run folder, or what `kerastl export RUN --format keras` wrote. Class names, size and window of the
            pictures, backbone and head come with it; it is adapted to the pictures of `target`.
    """

    model: Path


@dataclass(frozen=True, kw_only=True)
class Target:
    """The other hospital: pictures of the same classes from another domain.

    Args:
        reader: what reads them; left out where `domains` is given.
        domains: which domains of the source's own table are the target; the source takes the others.
        labels: which labels may be used for training: `none`, `few` or `all`.
        few: how many, when labels are few; otherwise it says nothing.
        split: who is in training, validation and test there.
    """

    reader: Reader = SOURCES_READER
    domains: tuple[Annotated[str, MinLen(1)], ...] = ()
    labels: Literal["none", "few", "all"]
    few: Few | None = None
    split: Split = Split()


DEFAULT_JUDGES = (Validator("class_ami"), Validator("proven_information"))
"""Of those, the check takes the ones that can be asked, where nobody named others."""


@dataclass(frozen=True)
class Adaptation:
    """Ways to carry the model over to the target, and what chooses among them without the target's labels.

    Args:
        methods: the candidates; each goes on from what the phases at the source learnt, through the phases of domain
            target. `source_only`, which stays as it is, is a candidate always.
        select_by: what ranks them; none reads a label of the target.
        when: `always`, or with `no_labels` only where target.labels is none: where labels may be used, the phases of
            domain target learn from these, as if the block were not there.
    """

    methods: Annotated[tuple[Method, ...], MinLen(1)]
    select_by: Annotated[tuple[Validator, ...], MinLen(1)] = DEFAULT_JUDGES
    when: Literal["always", "no_labels"] = "always"


@dataclass(frozen=True)
class Export:
    """What is written for others to serve.

    Args:
        formats: one folder each; an empty list exports nothing.
        temperature: `validation` answers probabilities at the temperature that fits validation best, where there is one; `none` as learnt.
        prevalence: `target` corrects probabilities for the prevalence that was estimated at the target.
        threshold: which operating point decides what is predicted; `none` answers the most probable class.
        quantize: what the format `litert` is written in, `int8` calibrated on training pictures; null: float32.
    """

    formats: tuple[Annotated[str, NameOf("format")], ...] = ("saved_model",)
    temperature: Literal["validation", "none"] = "validation"
    prevalence: Literal["none", "target"] = "none"
    threshold: Literal["none", "specificity", "sensitivity"] = "none"
    quantize: Literal["float16", "int8"] | None = None


@dataclass(frozen=True)
class Budget:
    """How long training may take; phases end early to fit.

    Args:
        minutes: of training on this machine, from the first step to the last.
    """

    minutes: Annotated[float, Gt(0), Le(100_000)]


@dataclass(frozen=True)
class Evaluation:
    """How the scores are made.

    Args:
        resamples: bootstrap resamples behind each 95 % interval.
        positive: the class that a test looks for, as `malignant`; null takes the last of two classes, and none of more.
        specificity: sensitivity is told at the threshold that gives at least this specificity on validation.
        sensitivity: specificity is told at the threshold that gives at least this sensitivity on validation.
        subgroups: columns of the reader's table, as `sex` or `scanner`, by whose values the scores are told, too.
    """

    resamples: Annotated[int, Ge(100), Le(100_000)] = 1000
    positive: Annotated[str, MinLen(1)] | None = None
    specificity: Annotated[float, Gt(0), Lt(1)] = 0.9
    sensitivity: Annotated[float, Gt(0), Lt(1)] = 0.9
    subgroups: tuple[Annotated[str, MinLen(1)], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Everything one run needs, every default filled in.

    Args:
        format: of the recipe file.
        data: the pictures.
        backbone: the network that sees.
        phases: the stretches of training, in order.
        seed: of everything that is random: split, weights, order, augmentation.
        task: each picture has one label.
        augment: how training pictures are changed.
        head: the layer that names the class.
        source: a trained model in place of pictures to learn from; null: `data.reader` reads pictures.
        target: the other hospital; null where there is none.
        adaptation: ways to carry the model over to it, to choose from; null: the phases at the target learn from its labels.
        export: what is written for others to serve.
        evaluation: how the scores are made.
        budget: how long training may take; null: as long as the phases say.
    """

    format: Literal[1]
    data: Data
    backbone: Backbone
    phases: Annotated[tuple[Phase, ...], MinLen(1)]
    seed: Annotated[int, Ge(0), Le(LARGEST_SEED)] = 0
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
        """`adaptation` where it counts: None where there is none, or where it leaves the target to its labels."""
        block = self.adaptation
        labelled = self.target is not None and self.target.labels != "none"
        return None if block is None or (block.when == "no_labels" and labelled) else block
