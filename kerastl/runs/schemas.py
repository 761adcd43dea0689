"""The JSON files in a run folder, with one pydantic model each. Their keys are the attribute names.

`summary.json` is in `kerastl.runs.summary`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
)

from kerastl.errors import RequestError
from kerastl.image_size import MAX_SIZE_PX, Resize, plain_size
from kerastl.runs.files import write_json

RUN_AGAIN = "Run the recipe again."
MAX_NUMBER = 1e300
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
"""A wider range than that of `fit_temperature`, in which probabilities stay finite."""
MAX_PIXELS = 2**31 - 1
"""The limit of a recipe."""


def _finite_number(value: Any) -> float:
    # An integer stays an integer, so that a file is written with the same bytes as it was read.
    if type(value) not in (int, float) or not abs(value) < MAX_NUMBER:
        raise ValueError("must be a finite number")
    return cast(float, value)


Number = Annotated[float, PlainValidator(_finite_number)]
Share = Annotated[Number, Field(ge=0, le=1)]
ThresholdValue = Annotated[Number, Field(ge=0, le=math.nextafter(1, 2))]
"""A threshold for probabilities. It is above 1 if no image may be positive, although some probabilities are 1."""
TemperatureValue = Annotated[Number, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)]
PathText = Annotated[Path, PlainSerializer(str)]
SidePx = Annotated[int, Field(ge=1, le=MAX_SIZE_PX, strict=True)]
StoredSize = Annotated[
    tuple[SidePx, SidePx],
    BeforeValidator(lambda value: (value, value) if type(value) is int else value),
    PlainSerializer(plain_size),
]
"""The side length of a square or `[height, width]`."""


class Entry(BaseModel):
    """An object in a JSON file. Values are available as attributes and, by key, as items."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=(), defer_build=True
    )

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key of the file."""
        if key in type(self).model_fields:
            return getattr(self, key)
        raise KeyError(key)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of the file: the keys that have been set."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class RunFile(Entry):
    """A JSON file."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path, *, remedy: str = RUN_AGAIN) -> Self:
        """Read the file in a folder.

        Args:
            folder: A run folder, or the version folder of an export.
            remedy: What to do if the file is damaged, as a sentence.

        Raises:
            RequestError: The file is missing, is not valid JSON, or has an unknown, missing or wrong key.
        """
        file = folder / cls.FILE
        if not file.is_file():
            raise RequestError(f"{folder} has no {cls.FILE}.")
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise RequestError(f"{file} is damaged: {_first_problem(error)}. {remedy}") from error

    @classmethod
    def read_if_present(cls, folder: Path) -> Self | None:
        """Read the file in a folder, as `read` does. Return None if there is no file."""
        return cls.read(folder) if (folder / cls.FILE).is_file() else None

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        write_json(folder / self.FILE, self.to_json())


def _first_problem(error: ValidationError) -> str:
    """Return the key and the message of the first problem in a file."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"the key {where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"the key {where} is unknown"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{where}: {message}" if where else message


class Estimate(Entry):
    """A value with its 95% interval, and the reason if one of them is None."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    reason: str = ""

    @property
    def text(self) -> str | None:
        """`0.912 (0.871 to 0.948)`, or only the value if there is no interval. None without a value."""
        if self.value is None or self.low is None:
            return None if self.value is None else f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Difference(Estimate):
    """The score of one model minus that of another."""

    outcome: Literal["better", "worse", "cannot_tell"]
    metric: str = ""
    redrawn: int = 0


Metrics = dict[str, Estimate]
"""Estimates by the name of their metric."""


class MetricsByDomain(Entry):
    """Metrics of all images, and of those of each domain."""

    overall: Metrics
    domains: dict[str, Metrics] = {}


class OperatingPoint(Entry):
    """A point on the ROC curve, and its threshold on validation images."""

    fixed: Literal["specificity", "sensitivity"]
    at: Share
    threshold: ThresholdValue | None


class OperatingPointScores(OperatingPoint, MetricsByDomain):
    """The rates at one threshold."""


class OperatingPoints(Entry):
    """The rates at the thresholds chosen on validation images."""

    positive: str | None
    reason: str = ""
    threshold_from: str = "val"
    points: tuple[OperatingPointScores, ...]


class Temperature(Entry):
    """The temperature fitted on validation images."""

    value: TemperatureValue | None
    origin: str = Field("val", alias="from")
    reason: str = ""


class CalibrationScores(Entry):
    """The scores of the probabilities before and after temperature scaling."""

    bins: int
    temperature: Temperature
    before: MetricsByDomain
    after: MetricsByDomain


class ReliabilityBin(Entry):
    """One point of a reliability curve."""

    count: int
    predicted: Number
    observed: Estimate


class ReliabilityCurves(Entry):
    """The reliability curves without and with temperature scaling."""

    uncalibrated: tuple[ReliabilityBin, ...] = ()
    calibrated: tuple[ReliabilityBin, ...] = ()


class Reliability(Entry):
    """The reliability curves of a split."""

    of: str
    overall: ReliabilityCurves
    domains: dict[str, ReliabilityCurves] = {}


class NetBenefit(Entry):
    """The net benefit of the model and of treating all, by threshold."""

    at: tuple[Number, ...]
    model: tuple[Estimate, ...]
    all: tuple[Estimate, ...]


class DecisionCurve(Entry):
    """The decision curves of a split."""

    positive: str | None
    reason: str = ""
    overall: NetBenefit | None = None
    domains: dict[str, NetBenefit] = {}


class SplitScores(MetricsByDomain):
    """The scores of the labeled images of a split. Rows of `confusion` are true classes."""

    classes: dict[str, Metrics] = {}
    confusion: tuple[tuple[int, ...], ...] = ()
    class_names: tuple[str, ...] = ()
    count: int = 0
    groups: int = 0
    subgroups: dict[str, dict[str, Metrics]] = {}
    small_classes: dict[str, int] = {}
    """The number of images of each class that has fewer than five."""
    operating_points: OperatingPoints | None = None
    calibration: CalibrationScores | None = None
    reliability: Reliability | None = None
    decision_curve: DecisionCurve | None = None


class SiteImages(Entry):
    """The images that a prevalence was estimated from."""

    splits: tuple[str, ...]
    images: int
    groups: int


class Frequency(Estimate):
    """The frequency of a class."""

    value: Share | None = None


class ClassPrevalence(Entry):
    """The frequency of one class, at the source and by each estimate at the target."""

    train: Frequency | None = None
    source: Frequency
    em: Frequency
    bbse: Frequency
    true: Frequency


class PrevalenceCorrection(Entry):
    """The effect of correcting the probabilities for the prevalence, on labeled target images."""

    by: str
    split: str
    uncalibrated: Metrics
    calibrated: Metrics
    corrected: Metrics
    difference: dict[str, Difference]


class LabelShift(Entry):
    """The prevalence at the target, and whether it explains the difference between the sites."""

    assumes: str = ""
    class_names: tuple[str, ...]
    source: SiteImages
    target: SiteImages
    reason: str = ""
    resamples: int = 0
    classes: dict[str, ClassPrevalence] = {}
    differs: dict[str, bool | None] = {}
    correction: PrevalenceCorrection | None = None
    explained: bool | None = None
    rest: Estimate | None = None


class TargetSite(Entry):
    """How well the features separate target and source, before and after adaptation."""

    source_splits: tuple[str, ...] = ()
    target_splits: tuple[str, ...] = ()
    before: Estimate
    after: Estimate | None = None


class LabelFromSite(Estimate):
    """How well the site alone predicts the label."""

    origin: str = Field("train", alias="from")
    sites: tuple[str, ...]
    shortcut: bool | None


class Sites(Entry):
    """AUCs of domain classifiers."""

    layer: str
    target: TargetSite | None = None
    domains: Metrics | None = None
    label: LabelFromSite | None = None
    warnings: tuple[str, ...] = ()


class Interval(Entry):
    """How the intervals were computed."""

    method: str
    level: Number
    unit: str = "image"
    resamples: int = 0
    seed: int = 0
    redrawn: int = 0


TEST_SPLITS = ("test", "target_test")


class Scores(RunFile):
    """`scores.json`: the scores of each split and, with several sites, `label_shift` and `sites`."""

    FILE = "scores.json"

    train: SplitScores | None = None
    val: SplitScores | None = None
    test: SplitScores | None = None
    target_train: SplitScores | None = None
    target_val: SplitScores | None = None
    target_test: SplitScores | None = None
    target_unlabelled: SplitScores | None = None
    all: SplitScores | None = None
    interval: Interval | None = None
    label_shift: LabelShift | None = None
    sites: Sites | None = None

    @property
    def splits(self) -> dict[str, SplitScores]:
        """The splits that were scored, by name."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, SplitScores)}

    @property
    def test_splits(self) -> dict[str, SplitScores]:
        """The test splits that were scored, by name."""
        return {name: split for name, split in self.splits.items() if name in TEST_SPLITS}


class Candidate(Entry):
    """An adaptation candidate, with the value of each validator. No validator uses target labels."""

    validators: dict[str, Number | None] = {}


class GuardResult(Entry):
    """The result of a guard. `fired` is None if it is unavailable."""

    fired: bool | None
    reason: str
    measured: dict[str, Any] | None = None


class CandidateRanking(Entry):
    """The ranking of the candidates by mean rank."""

    order: tuple[str, ...] = ()
    mean_rank: dict[str, Number] = {}
    ranks: dict[str, dict[str, Number]] = {}
    rejected: dict[str, str] = {}
    source: dict[str, Any] = {}
    overconfidence: dict[str, dict[str, Any]] = {}
    prediction_agreement: dict[str, Number] = {}


class Disagreement(Entry):
    """How much the validators disagree."""

    kendall_tau: dict[str, Number | None]
    mean_kendall_tau: Number | None
    rank_spread: dict[str, Number]


class TargetTest(Entry):
    """The overall scores on labeled target test images without and with adaptation."""

    source_only: Metrics
    chosen: Metrics
    difference: Difference


Verdict = Literal["adapt", "do_not_adapt", "cannot_tell"]


class Adaptation(RunFile):
    """`adaptation.json`: the selection without target labels, and its effect if target labels exist."""

    FILE = "adaptation.json"

    verdict: Verdict
    chosen: str
    reason: str
    candidates: dict[str, Candidate]
    ranking: CandidateRanking | None = None
    disagreement: Disagreement | None = None
    guards: dict[str, GuardResult] = {}
    diverged: dict[str, str] = {}
    target_test: TargetTest | None = None
    oracle: dict[str, Metrics] | None = None


class LayerCheck(Entry):
    """Whether the weights of a layer changed in a phase, by the checksums before and after."""

    layer: str
    trainable: bool
    before: str = ""
    after: str = ""
    changed: bool
    statistics_changed: bool = False


class StatisticChange(Entry):
    """The largest change of a BatchNorm statistic, in standard deviations of its channel."""

    layer: str
    statistic: str
    channel: int
    deviations: Number | None


class BatchNormCheck(Entry):
    """Whether the statistics of the BatchNorm layers changed in a phase."""

    rule: str
    layers: int
    changed: int
    before: str = ""
    after: str = ""
    largest: StatisticChange | None


class BlockParameters(Entry):
    """The number of parameters of a block."""

    block: str
    total: int
    trained: int


class ParameterCounts(Entry):
    """The number of parameters of the model."""

    total: int
    trained: int
    frozen: int = 0
    statistics: int = 0
    blocks: tuple[BlockParameters, ...]


class CachedActivations(Entry):
    """The cache that a phase was trained on."""

    kind: str
    boundary: str
    precision: str
    views: int
    bytes: int


class RoundedTrunk(Entry):
    """Validation metrics with the frozen layers' precision and in float32. None without validation images."""

    precision: str
    boundary: str
    float32: dict[str, Number | None] | None
    rounded: dict[str, Number | None] | None


class PhaseCheck(Entry):
    """The freeze check of one phase."""

    phase: str
    layers: tuple[LayerCheck, ...] = ()
    batch_norm: BatchNormCheck | None = None
    parameters: ParameterCounts | None = None
    cache: CachedActivations | None = None
    trunk: RoundedTrunk | None = None
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


class DeterminismCheck(Entry):
    """Two predictions for the same images. `reason` states why the check was skipped."""

    images: int
    differ: int = 0
    largest_difference: Number | None = None
    sha256: tuple[str, ...] = ()
    reason: str = ""
    faults: tuple[str, ...] = ()


class PixelCheck(Entry):
    """The pixels in an exported graph, compared with those of the run."""

    compared: bool
    differ: int = 0
    largest_difference: Number | None = None
    reason: str = ""


class PredictionCheck(Entry):
    """The predictions of an export, compared with those of the run."""

    differ: int
    largest_difference: Number | None
    allowed: Number | None


class ExportCheck(Entry):
    """An export, compared with the run. `reason` states why the check was skipped."""

    folder: str = ""
    split: str = ""
    files: int = 0
    without_file: int = 0
    pixels: PixelCheck | None = None
    predictions: PredictionCheck | None = None
    reason: str = ""
    faults: tuple[str, ...] = ()


class Freeze(RunFile):
    """`freeze.json`: the freeze check of each phase, and the consistency checks at the end of the run."""

    FILE = "freeze.json"

    phases: tuple[PhaseCheck, ...]
    determinism: DeterminismCheck | None = None
    exports: dict[str, ExportCheck] = {}


class BackboneDescription(Entry):
    """The name and the options of a backbone, as in a recipe, without weights."""

    model_config = ConfigDict(extra="allow")

    name: str


class HeadDescription(Entry):
    """The head of a model."""

    dropout: Number
    pooling: str = "auto"
    binary: bool = False


class ValidationResults(Entry):
    """Results on the validation images of a model. `bounded_information` is in nats per image."""

    temperature: TemperatureValue | None
    positive: str | None
    points: tuple[OperatingPoint, ...]
    bounded_information: Estimate | None = None


class ImageModel(RunFile):
    """The input and the classes of a model."""

    class_names: tuple[str, ...]
    """In the order of the logits."""
    image_size_px: StoredSize
    resize: Resize = "stretch"
    """How images with a different aspect ratio are resized."""
    window: tuple[Number, Number] | None
    """(low, high) in stored values for 16-bit gray images. None for the full range."""
    max_pixels: int = Field(ge=1, le=MAX_PIXELS)
    """Images with more pixels are rejected."""

    @field_validator("class_names")
    @classmethod
    def _check_class_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("must be a list of different names")
        "".join(names).encode()  # raises ValueError for a lone surrogate
        return names

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not window[0] < window[1]:
            raise ValueError("must be two numbers [low, high] with low < high")
        return window


class ModelDescription(ImageModel):
    """`model.json`: the input and the classes of a model.

    In an export, it contains no paths. It contains the facts that adaptation without source images needs.
    """

    FILE = "model.json"

    data_root: PathText | None = None
    """The folder that the paths in the tables of the run are relative to."""
    target_root: PathText | None = None
    """The same folder for the target splits."""
    temperature: TemperatureValue | None = None
    """Divisor of the logits in the probabilities. None for 1."""
    fingerprint: str | None = None
    """SHA-256 of the weights and of what determines the probabilities. None in an export, which has a manifest."""
    backbone: BackboneDescription | None = None
    head: HeadDescription | None = None
    class_shares: dict[str, Share] | None = None
    """The frequency of each class among the training images. None if unknown."""
    validation: ValidationResults | None = None

    def root_of(self, split: str) -> Path | None:
        """Return the folder that the paths of a split are relative to."""
        return self.target_root if split.startswith("target") else self.data_root


class ServedPrevalence(Entry):
    """The frequency of each class in training and in deployment."""

    training: dict[str, Share]
    served: dict[str, Share]


class ServedThreshold(Entry):
    """The smallest probability of the positive class, with the temperature of the run and after postprocessing."""

    positive: str
    probability: ThresholdValue
    temperature: TemperatureValue | None = None
    output_probability: ThresholdValue | None


class ServedPostprocessing(Entry):
    """The postprocessing that an export applies to the logits."""

    temperature: TemperatureValue | None
    prevalence: ServedPrevalence | None
    threshold: ServedThreshold | None


class ManifestFile(ImageModel):
    """`manifest.json` of an export: its input, its origin, and the SHA-256 of its other files."""

    FILE = "manifest.json"

    model_sha256: str
    versions: dict[str, str]
    files: dict[str, str]
    postprocessing: ServedPostprocessing
    conversion: dict[str, Any] | None
    scores: dict[str, Metrics] | None
    training: dict[str, Any] | None
    variables_sha256: str | None = None
    model_name: str | None = None
