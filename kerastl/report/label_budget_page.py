"""The figure and the `report.html` of a label-budget curve. Neither contains paths or groups of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kerastl.report.figures import INK, new_axes, style, svg_url, write_page
from kerastl.report.run_report import PAGE
from kerastl.runs import atomic_path

FINE_TUNE, ADAPT_THEN_FINE_TUNE, SCRATCH = STRATEGIES = ("fine_tune", "adapt_then_fine_tune", "scratch")
"""How a model for B is trained from labeled groups of B."""
UNCHANGED, WITHOUT_LABELS = FINE_TUNE, ADAPT_THEN_FINE_TUNE
"""Without labels, these strategies are A's own model, and A's model after unsupervised adaptation."""
SOURCE_ONLY = "source_only"
"""The candidate that is selected if adaptation is not expected to help."""


@dataclass(frozen=True)
class Point:
    """The score of one run on B's test images.

    Args:
        strategy: One of `STRATEGIES`.
        groups_per_class: Labeled groups (patients) per class of B.
        groups, images: Total number of labeled groups and images of B.
        seed: Seed of the run.
        value, low, high: The metric with its 95% interval over groups; None if unavailable.
        reason: Why a value is None, or empty.
        run: Run folder, relative to the folder of the curve.
    """

    strategy: str
    groups_per_class: int
    groups: int
    images: int
    seed: int
    value: float | None
    low: float | None
    high: float | None
    reason: str
    run: str


@dataclass(frozen=True)
class TargetTest:
    """B's test set for one seed, and how A's model was adapted without labels.

    Args:
        seed: Seed of the runs.
        groups, images: Size of the test set.
        method: The selected adaptation method.
        verdict: Verdict of the selection; empty if the recipe lists no methods to select from.
    """

    seed: int
    groups: int
    images: int
    method: str
    verdict: str

    @property
    def adaptation(self) -> str:
        """The method and whether it was selected, for display."""
        if self.method == SOURCE_ONLY:
            return f"A's model was kept ({SOURCE_ONLY})"
        return f"{self.method}, {'selected' if self.verdict else 'the default'}"


@dataclass(frozen=True)
class Curve:
    """Score at B against the number of labeled patients.

    Args:
        recipe: Name of the recipe.
        network: Description of the backbone and its weights.
        metric: `group_auc` or `balanced_accuracy`.
        unit: What is labeled: `patient` or `image`.
        strategies: In the order of the legend.
        labels: Labeled groups per class, ascending from 0.
        seeds: Ascending.
        points: One per run.
        tests: One per seed.
        notes: One line each.
    """

    recipe: str
    network: str
    metric: str
    unit: str
    strategies: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    tests: tuple[TargetTest, ...]
    notes: tuple[str, ...]

    @property
    def metric_title(self) -> str:
        """The metric, for display."""
        return f"AUC per {self.unit}" if self.metric == "group_auc" else "balanced accuracy"

    @property
    def chance(self) -> float | None:
        """The score of random guessing, if it does not depend on the classes."""
        return 0.5 if self.metric == "group_auc" else None

    def scores(self, strategy: str, groups_per_class: int) -> list[float]:
        """Return the scores of all seeds, ascending."""
        return sorted(
            point.value
            for point in self.points
            if (point.strategy, point.groups_per_class) == (strategy, groups_per_class)
            and point.value is not None
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of `curve.json`."""
        return asdict(self)


def format_scores(scores: Sequence[float]) -> str:
    """Return the median and the range, `0.812 (0.790 to 0.841)`; the value of a single seed; or a dash."""
    if len(scores) < 2:
        return f"{scores[0]:.3f}" if scores else "-"
    return f"{median(scores):.3f} ({scores[0]:.3f} to {scores[-1]:.3f})"


DARK_INK = "#3a4250"
"""Text color of the PNG, whose background is always white."""
# The Okabe-Ito palette is distinguishable with color vision deficiencies; marker and line style differ, too.
LINE_STYLES = {
    FINE_TUNE: ("#0072b2", "o", "-"),
    ADAPT_THEN_FINE_TUNE: ("#d55e00", "s", "--"),
    SCRATCH: ("#009e73", "^", "-."),
}
STRATEGY_TITLES = {
    FINE_TUNE: "fine-tuned from A's model",
    ADAPT_THEN_FINE_TUNE: "adapted without labels, then fine-tuned",
    SCRATCH: "from scratch",
}
AXIS_MARGIN = 0.03
"""Space above and below the curves, in units of the score."""


def write_curve_image(path: Path, curve: Curve) -> None:
    """Write the figure as a PNG with a white background."""
    figure = _figure(curve, DARK_INK)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _figure(curve: Curve, ink: str) -> Any:
    figure, axes = new_axes(8.0, 5.0, dpi=120)
    if unchanged := curve.scores(UNCHANGED, 0):
        axes.axhline(median(unchanged), color=ink, linestyle=":", linewidth=1.6, label="A's model unchanged")
    for strategy in curve.strategies:
        _plot_strategy(axes, curve, strategy)
    if curve.chance is not None and axes.get_ylim()[0] < curve.chance:
        axes.axhline(curve.chance, color=ink, linewidth=0.8, alpha=0.5)
        axes.text(
            1.0, curve.chance, "chance", transform=axes.get_yaxis_transform(),
            ha="right", va="bottom", fontsize=8, color=ink,
        )  # fmt: skip
    _style(figure, axes, curve, ink)
    return figure


def _plot_strategy(axes: Any, curve: Curve, strategy: str) -> None:
    pairs = [(count, scores) for count in curve.labels if (scores := curve.scores(strategy, count))]
    if not pairs:
        return
    color, marker, line = LINE_STYLES[strategy]
    counts = [count for count, _ in pairs]
    axes.plot(
        counts, [median(scores) for _, scores in pairs], line, marker=marker, color=color,
        linewidth=2.0, markersize=6, label=STRATEGY_TITLES[strategy], zorder=3,
    )  # fmt: skip
    axes.fill_between(
        counts, [scores[0] for _, scores in pairs], [scores[-1] for _, scores in pairs],
        color=color, alpha=0.16, linewidth=0,
    )  # fmt: skip
    for count, scores in pairs:
        axes.plot(
            [count] * len(scores), scores, marker, color=color, markersize=3, alpha=0.55, linestyle="none"
        )


def _style(figure: Any, axes: Any, curve: Curve, ink: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    # Small numbers matter most: each doubling takes the same space, and the axis still starts at 0.
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    axes.set_xlim(-0.12, curve.labels[-1] * 1.12)
    axes.xaxis.set_major_locator(FixedLocator(list(curve.labels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(map(str, curve.labels))
    axes.set_ylim(*_score_limits(curve))
    axes.set_xlabel(f"labeled {curve.unit}s of B per class", color=ink)
    axes.set_ylabel(f"{curve.metric_title} at B", color=ink)
    style(axes, ink)
    seeds = len(curve.seeds)
    title = f"line: median of {seeds} seeds, band: range" if seeds > 1 else "one seed"
    axes.set_title(title, fontsize=9, color=ink, loc="left")
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=ink,
        handlelength=3.2,
    )  # fmt: skip


def _score_limits(curve: Curve) -> tuple[float, float]:
    values = [point.value for point in curve.points if point.value is not None]
    if not values:
        return 0.0, 1.0
    return max(0.0, min(values) - AXIS_MARGIN), min(1.0 + AXIS_MARGIN / 2, max(values) + AXIS_MARGIN)


def _adaptation_by_seed(curve: Curve) -> str:
    """Return how A's model was adapted without labels, per seed if the seeds differ."""
    seeds: dict[str, list[str]] = {}
    for test in curve.tests:
        seeds.setdefault(test.adaptation, []).append(str(test.seed))
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"seed {', '.join(numbers)}: {method}" for method, numbers in seeds.items())


def write_curve_page(folder: Path, curve: Curve) -> Path:
    """Write `report.html` into the folder of a curve, and return its path."""
    return write_page(
        folder / PAGE,
        "curve.html",
        curve=curve,
        image=svg_url(_figure(curve, INK)),
        cards=_cards(curve),
        titles=STRATEGY_TITLES,
        median=median,
    )


def _cards(curve: Curve) -> list[tuple[str, list[float]]]:
    """Return the headline scores."""
    last = curve.labels[-1]
    labeled = f"{last} {curve.unit}{'s' if last != 1 else ''} per class"
    return [
        ("A's model unchanged", curve.scores(UNCHANGED, 0)),
        (f"without labels ({_adaptation_by_seed(curve)})", curve.scores(WITHOUT_LABELS, 0)),
        (f"fine-tuned on {labeled}", curve.scores(FINE_TUNE, last)),
        (f"from scratch on {labeled}", curve.scores(SCRATCH, last)),
    ]
