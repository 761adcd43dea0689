"""`summary.json`: what a run read, trained and kept, and its scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kerastl.runs.schemas import Entry, Estimate, Metrics, Number, RunFile


class Range(Entry):
    """The smallest, the median and the largest of several sizes."""

    smallest: int
    median: int
    largest: int


SPLIT_ORDER = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")


class DataSummary(Entry):
    """The images of the source or of the target. Images without a label are counted under `""`.

    Args:
        path: The folder or table; the name of the reader if it reads neither.
        images: The number of images in the splits.
        classes: The number of images by class.
        splits: The number of images by split and class.
        groups: The number of groups (patients) by split, and under `all`. Empty without groups.
        kinds: The number of readable images by file format, such as `jpg`, or `animated gif`, of which the first frame
            is read.
        width_px, height_px: The sizes of the readable images.
        gray: The number of readable images without color.
        images_16_bit: The number of readable images with 16 bits.
        withheld: The number of images counted as unlabeled whose labels are not used, because the recipe does not allow
            it or because the class is unknown.
        unreadable: The number of files that cannot be read, which `quarantine.csv` lists.
        ignored: The number of ignored files by kind.
        warnings: What can make the scores unreliable, as sentences.
    """

    path: str
    images: int
    classes: dict[str, int]
    splits: dict[str, dict[str, int]]
    groups: dict[str, int] = Field(default_factory=dict)
    kinds: dict[str, int]
    width_px: Range
    height_px: Range
    gray: int
    images_16_bit: int
    withheld: int = 0
    unreadable: int
    ignored: dict[str, int] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ordered_splits(self) -> dict[str, dict[str, int]]:
        """The splits from training to test."""
        return {name: self.splits[name] for name in SPLIT_ORDER if name in self.splits}


class ModelSummary(Entry):
    """The model before training: its backbone and weights as in the recipe, and the origin of its head."""

    backbone: str
    weights: str
    head: str
    parameters: int


class PhaseSummary(Entry):
    """The outcome of a training phase.

    Epochs are counted over all phases, from 1, as in `history.jsonl`. Those of each adaptation method start again at 1.

    Args:
        phase, domain: The name of the phase, and the domain of its labeled images.
        planned_epochs, epochs: The number of epochs in the recipe, and of those that were trained.
        trained, frozen: The number of parameters that were trained, and of all others.
        monitor: The validation metric that determines the best epoch.
        best_epoch, best: The best epoch of this phase and its metric. None without validation images.
        earlier_best: The best value before this phase, on the same validation images. None if there is none.
        stopped: Why the phase ended.
        helped: Whether `best` is better than `earlier_best`. None if one of them is None.
        keep: Whether the recipe keeps the best or the last epoch.
        kept_phase, kept_epoch: The phase and the epoch whose weights the model has after this phase.
    """

    phase: str
    domain: str
    planned_epochs: int
    epochs: int
    trained: int
    frozen: int
    monitor: str
    best_epoch: int | None
    best: Number | None
    earlier_best: Number | None
    stopped: Literal["all_epochs", "early_stopping", "time_budget", "callback"]
    helped: bool | None
    keep: Literal["best", "last"]
    kept_phase: str
    kept_epoch: int


class Kept(Entry):
    """The model that the run kept. Phase and epoch are None if no phase trained it."""

    candidate: str | None
    phase: str | None
    epoch: int | None
    reason: str


class Confusion(Entry):
    """The most frequent error: `images` of the `of` images of the class `label` are predicted as `predicted`."""

    label: str
    predicted: str
    images: int
    of: int


class Headline(Entry):
    """The score of the kept model on test images, or on validation images if there are none.

    Args:
        split, metric, estimate: The score.
        images, groups: The number of scored images, and of their groups (patients). None without groups.
        most_confused: The most frequent error.
        few_images: The classes whose scores are unreliable, with their number of images.
    """

    split: str
    metric: str
    estimate: Estimate
    images: int
    groups: int | None
    most_confused: Confusion | None
    few_images: dict[str, int] = Field(default_factory=dict)


class Summary(RunFile):
    """`summary.json`: what a run did, and the overall scores of the run (`.`) and of the runs in its folder, by split.

    Args:
        data: The images by `source` and `target`.
        model: The model before training.
        phases: The phases that trained the kept model, in order.
        kept: The model that was kept, and why.
        headline: The most important score. None if nothing was evaluated.
        runs: The overall scores.
        chosen: `.` if the run has a model of its own.
    """

    FILE = "summary.json"

    data: dict[str, DataSummary] = Field(default_factory=dict)
    model: ModelSummary | None = None
    phases: tuple[PhaseSummary, ...] = ()
    kept: Kept | None = None
    headline: Headline | None = None
    runs: dict[str, dict[str, Metrics]] = Field(default_factory=dict)
    chosen: str | None = None
