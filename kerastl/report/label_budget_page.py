"""`report.html` of a curve: one file that loads nothing; no path and no patient of the data is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

from kerastl.report.figures import INK, svg_url
from kerastl.report.run_report import PAGE, environment
from kerastl.runs import atomic_path, write_atomic

FINE_TUNE, ADAPT_THEN_FINE_TUNE, SCRATCH = WAYS = ("fine_tune", "adapt_then_fine_tune", "scratch")
"""The ways of getting a model for B."""
UNCHANGED, WITHOUT_LABELS = FINE_TUNE, ADAPT_THEN_FINE_TUNE
"""The ways whose points without any label are A's own model, and the model adapted without labels."""
KEPT = "source_only"
"""What is chosen where nothing is to be learnt from B."""
FEWEST_SEEDS = 2
Outcome = Literal["above", "below", "cannot tell"]


@dataclass(frozen=True)
class Point:
    """What one run came to on B's test.

    Args:
        way: of getting a model for B.
        groups_per_class: labelled groups of each class; 0: no label of B.
        groups, images: labelled in all.
        seed: of the run.
        value, low, high: of the metric, with the interval of patients; None where there is none.
        reason: why one of them is None; empty where none is.
        run: its folder, relative to the curve's.
    """

    way: str
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
class Level:
    """Points that differ in the seed alone.

    Args:
        values: at least one, ascending.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle over the seeds."""
        return float(median(self.values))

    @property
    def least(self) -> float:
        """The lowest."""
        return self.values[0]

    @property
    def greatest(self) -> float:
        """The highest."""
        return self.values[-1]

    @property
    def spread(self) -> float:
        """From the lowest to the highest."""
        return self.greatest - self.least

    @property
    def text(self) -> str:
        """`0.812 (0.790 to 0.841)`, or the value alone where there is one seed."""
        if len(self.values) < FEWEST_SEEDS:
            return f"{self.median:.3f}"
        return f"{self.median:.3f} ({self.least:.3f} to {self.greatest:.3f})"


def compared(first: Level, second: Level) -> Outcome:
    """Tell whether `first` lies above or below `second`: in all seeds of both, or it cannot be told."""
    if min(len(first.values), len(second.values)) < FEWEST_SEEDS:
        return "cannot tell"
    if first.least > second.greatest:
        return "above"
    return "below" if first.greatest < second.least else "cannot tell"


@dataclass(frozen=True)
class Tested:
    """What the models of one seed were judged on, and how that of A was adapted without labels.

    Args:
        seed: of the runs.
        groups, images: of B's test.
        adapted_by: the method that was chosen, or taken.
        verdict: of the choice; empty where the recipe names no ways to choose from.
    """

    seed: int
    groups: int
    images: int
    adapted_by: str
    verdict: str

    @property
    def kept(self) -> bool:
        """Whether A's model was kept as it is: nothing was learnt from B."""
        return self.adapted_by == KEPT

    @property
    def adaptation(self) -> str:
        """What it was adapted by, for people."""
        if self.kept:
            return f"A's model was kept ({KEPT})"
        return f"{self.adapted_by} {'chosen' if self.verdict else 'taken, not chosen'}"


@dataclass(frozen=True)
class Curve:
    """Score at B by the number of labelled patients.

    Args:
        recipe: its name.
        network: in words.
        metric: `group_auc` or `balanced_accuracy`.
        unit: what is counted: `patient` or `image`.
        ways: in the order of the legend.
        labels: labelled groups per class, ascending, 0 first.
        seeds: ascending.
        points: of every run.
        tested: one a seed.
        notes: one line each, for the reader.
    """

    recipe: str
    network: str
    metric: str
    unit: str
    ways: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    tested: tuple[Tested, ...]
    notes: tuple[str, ...]

    @property
    def metric_words(self) -> str:
        """The metric, for people."""
        return f"AUC of {self.unit}s" if self.metric == "group_auc" else "balanced accuracy"

    @property
    def chance(self) -> float | None:
        """The score of guessing, where that does not depend on the classes."""
        return 0.5 if self.metric == "group_auc" else None

    def level(self, way: str, groups_per_class: int) -> Level | None:
        """Return what a way came to with so many labels; None where no run of it ended with a value."""
        values = [
            one.value
            for one in self.points
            if (one.way, one.groups_per_class) == (way, groups_per_class) and one.value is not None
        ]
        return Level(tuple(sorted(values))) if values else None

    def levels(self, way: str) -> list[tuple[int, Level]]:
        """Return all of a way, by the number of labels."""
        found = ((number, self.level(way, number)) for number in self.labels)
        return [(number, level) for number, level in found if level is not None]

    def count(self, number: int) -> str:
        """Return `1 patient`, `2 patients`."""
        return f"{number} {self.unit}{'s' if number != 1 else ''}"

    def to_json(self, reading: Sequence[str]) -> dict[str, Any]:
        """Return the content of `curve.json`."""
        return asdict(self) | {"reading": list(reading)}


DARK_INK = "#3a4250"
"""Of the PNG, which is always on white."""
# Of the palette by Okabe and Ito, told apart with every colour vision; marker and line differ as well.
LOOKS = {
    FINE_TUNE: ("#0072b2", "o", "-"),
    ADAPT_THEN_FINE_TUNE: ("#d55e00", "s", "--"),
    SCRATCH: ("#009e73", "^", "-."),
}
WORDS = {
    FINE_TUNE: "fine-tuned from A's model",
    ADAPT_THEN_FINE_TUNE: "adapted without labels, then fine-tuned",
    SCRATCH: "from scratch",
}
ROOM = 0.03
"""Above and below the curves, in scores."""


def write_curve_image(path: Path, curve: Curve) -> None:
    """Write the image as a PNG on white.

    Args:
        path: where; its folder exists.
        curve: at least one point of it has a value.
    """
    figure = _figure(curve, DARK_INK)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def curve_as_url(curve: Curve) -> str:
    """Return the image as SVG in a data: URL, to be read on white and on black."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "kerastl", "svg.fonttype": "none"}):
        return svg_url(_figure(curve, INK))


def _figure(curve: Curve, ink: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=120, layout="constrained")
    axes: Any = figure.add_subplot()
    base = curve.level(UNCHANGED, 0)
    if base is not None:
        axes.axhline(base.median, color=ink, linestyle=":", linewidth=1.6, label="A's model unchanged")
    for way in curve.ways:
        _draw(axes, curve, way)
    if curve.chance is not None and axes.get_ylim()[0] < curve.chance:
        axes.axhline(curve.chance, color=ink, linewidth=0.8, alpha=0.5)
        axes.text(
            1.0, curve.chance, "guessing", transform=axes.get_yaxis_transform(),
            ha="right", va="bottom", fontsize=8, color=ink,
        )  # fmt: skip
    _style(figure, axes, curve, ink)
    return figure


def _draw(axes: Any, curve: Curve, way: str) -> None:
    levels = curve.levels(way)
    if not levels:
        return
    colour, marker, line = LOOKS[way]
    numbers = [number for number, _ in levels]
    axes.plot(
        numbers, [level.median for _, level in levels], line, marker=marker, color=colour,
        linewidth=2.0, markersize=6, label=WORDS[way], zorder=3,
    )  # fmt: skip
    axes.fill_between(
        numbers, [level.least for _, level in levels], [level.greatest for _, level in levels],
        color=colour, alpha=0.16, linewidth=0,
    )  # fmt: skip
    for number, level in levels:
        axes.plot(
            [number] * len(level.values), level.values, marker, color=colour, markersize=3,
            alpha=0.55, linestyle="none",
        )  # fmt: skip


def _style(figure: Any, axes: Any, curve: Curve, ink: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    # Few patients matter most: the axis gives each doubling the same room, and begins at 0 all the same.
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    axes.set_xlim(-0.12, curve.labels[-1] * 1.12)
    axes.xaxis.set_major_locator(FixedLocator(list(curve.labels)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(one) for one in curve.labels])
    axes.set_ylim(*_heights([level for way in curve.ways for _, level in curve.levels(way)]))
    axes.set_xlabel(f"{curve.unit}s of B labelled in each class", color=ink)
    axes.set_ylabel(f"{curve.metric_words} at B", color=ink)
    axes.tick_params(colors=ink, labelsize=9)
    axes.grid(color=ink, alpha=0.2, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    seeds = len(curve.seeds)
    drawn = f"line: median of {seeds} seeds, band: least to greatest" if seeds > 1 else "one seed"
    axes.set_title(drawn, fontsize=9, color=ink, loc="left")
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=ink,
        handlelength=3.2,
    )  # fmt: skip


def _heights(levels: list[Level]) -> tuple[float, float]:
    if not levels:
        return 0.0, 1.0
    low = min(level.least for level in levels)
    high = max(level.greatest for level in levels)
    return max(0.0, low - ROOM), min(1.0 + ROOM / 2, high + ROOM)


Levels = list[tuple[int, Level]]


def reading_of(curve: Curve) -> list[str]:
    """Return what the curve says, the most useful first."""
    told = [_unchanged(curve)]
    if len(curve.seeds) < FEWEST_SEEDS:
        told.append("One seed shows no spread, so nothing can be told apart: repeat with --seeds 3 or more.")
    told += [*_fine_tuned(curve), *_scratch(curve), *_adapted(curve), *_enough(curve)]
    return told


def _unchanged(curve: Curve) -> str:
    level = curve.level(UNCHANGED, 0)
    text = level.text if level else "no value"
    return f"A's model unchanged reached {text} at B ({curve.metric_words})."


def _labelled(curve: Curve, number: int) -> str:
    return f"{number} labelled {curve.unit}{'s' if number != 1 else ''} a class"


def turning_point(curve: Curve, way: str) -> int | None:
    """Return the fewest labels from which on a way is above A's model unchanged; None: there are none such."""
    base = curve.level(UNCHANGED, 0)
    if base is None:
        return None
    first = None
    for number, level in reversed(_with_labels(curve, way)):
        if compared(level, base) != "above":
            break
        first = number
    return first


def _with_labels(curve: Curve, way: str) -> Levels:
    return [(number, level) for number, level in curve.levels(way) if number]


def _base_number(curve: Curve) -> int | None:
    """Return the number of labels that other ways are compared at: where fine-tuning begins to help, or the fewest."""
    turn = turning_point(curve, FINE_TUNE)
    if turn is not None:
        return turn
    return next((number for number, _ in _with_labels(curve, FINE_TUNE)), None)


def _fine_tuned(curve: Curve) -> Iterator[str]:
    base, number = curve.level(UNCHANGED, 0), _base_number(curve)
    if base is None or number is None:
        return
    level = curve.level(FINE_TUNE, number)
    assert level is not None
    told = f"With {_labelled(curve, number)}, fine-tuning reached {level.text}: "
    if turning_point(curve, FINE_TUNE) is not None:
        more = " and so with more" if number < curve.labels[-1] else ""
        yield f"{told}above A's model unchanged in every seed{more}."
        return
    outcome = compared(level, base)
    yield told + (
        "below A's model unchanged in every seed." if outcome == "below" else "cannot tell whether it helps."
    )
    last = curve.level(FINE_TUNE, curve.labels[-1])
    if last is not None and curve.labels[-1] != number:
        outcome = compared(last, base)
        words = {
            "above": "above A's model unchanged, but not at every number of labels between",
            "below": "below A's model unchanged in every seed",
            "cannot tell": "cannot tell whether it helps",
        }
        yield f"With {_labelled(curve, curve.labels[-1])} it reached {last.text}: {words[outcome]}."


def _scratch(curve: Curve) -> Iterator[str]:
    """Tell how many labels training from random weights needs for what fine-tuning reached."""
    number, levels = _base_number(curve), _with_labels(curve, SCRATCH)
    goal = curve.level(FINE_TUNE, number) if number is not None else None
    if number is None or goal is None or not levels:
        return
    goal_words = f"the {goal.text} that fine-tuning reached with {_labelled(curve, number)}"
    enough = _from_where(levels, goal)
    untold = [one for one, level in levels if compared(level, goal) == "cannot tell"]
    if enough is not None:
        level = dict(levels)[enough]
        told = f"From scratch, {_labelled(curve, enough)} reached {level.text}"
        if enough not in untold:
            sooner = [one for one in untold if one < enough]
            doubt = f"; {_overlap(curve)} with {sooner[0]} already, so fewer may do" if sooner else ""
            yield f"{told}: above {goal_words}, in every seed{doubt}."
        else:
            side = "above" if level.median > goal.median else "as much as"
            yield f"{told}, {side} {goal_words}; {_overlap(curve)}, so which of the two is more cannot be told."
        return
    last_number, last = levels[-1]
    told = f"From scratch, {_labelled(curve, last_number)} reached {last.text}"
    if untold:
        where = "" if last_number in untold else f" with {untold[-1]}"
        yield f"{told}, by the median below {goal_words}; but {_overlap(curve)}{where}: cannot tell."
    else:
        yield f"{told}: still below {goal_words}, in every seed."


def _overlap(curve: Curve) -> str:
    return "the seeds overlap" if len(curve.seeds) >= FEWEST_SEEDS else "one seed shows no spread"


def _from_where(levels: Levels, goal: Level) -> int | None:
    """Return the fewest labels from which on the median is not below that of the goal."""
    first = None
    for number, level in reversed(levels):
        if level.median < goal.median:
            break
        first = number
    return first


def how_adapted(curve: Curve) -> str:
    """Return what A's model was adapted by without labels: `by coral`, or by what in which seed."""
    seeds: dict[str, list[str]] = {}
    for one in curve.tested:
        seeds.setdefault(one.adaptation, []).append(str(one.seed))
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"seed {_listed(some)}: {words}" for words, some in seeds.items())


def _adapted(curve: Curve) -> Iterator[str]:
    base, free = curve.level(UNCHANGED, 0), curve.level(WITHOUT_LABELS, 0)
    kept = bool(curve.tested) and all(one.kept for one in curve.tested)
    if kept and free is not None:
        yield (
            f"Without a label of B, {how_adapted(curve)}: {free.text}. "
            "So adapt_then_fine_tune says nothing here of what adapting is worth."
        )
        return
    if base is not None and free is not None:
        outcome = compared(free, base)
        words = {
            "above": "above A's model unchanged in every seed",
            "below": "below A's model unchanged in every seed",
            "cannot tell": "cannot tell whether that is better than A's model unchanged",
        }
        how = how_adapted(curve)
        yield f"Adapted without a label of B ({how}), the model reached {free.text}: {words[outcome]}."
    yield from _adapted_first(curve)


def _adapted_first(curve: Curve) -> Iterator[str]:
    found: dict[str, list[str]] = {"above": [], "below": [], "cannot tell": []}
    for number, level in _with_labels(curve, ADAPT_THEN_FINE_TUNE):
        other = curve.level(FINE_TUNE, number)
        if other is not None:
            found[compared(level, other)].append(str(number))
    words = {
        "above": "is above fine-tuning alone",
        "below": "is below fine-tuning alone",
        "cannot tell": "cannot be told from fine-tuning alone",
    }
    parts = [f"{words[outcome]} with {_listed(numbers)}" for outcome, numbers in found.items() if numbers]
    if parts:
        yield f"Adapting first, then fine-tuning, {', and '.join(parts)} labelled {curve.unit}s a class."


def _listed(numbers: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))


def enough_labels(levels: Levels) -> int | None:
    """Return the fewest labels beyond which no median moved by more than the spread over the seeds.

    The spread is the larger one of the two that are compared. None: the last step still moved it by more.
    """
    for place, (number, level) in enumerate(levels[:-1]):
        beyond = [other for _, other in levels[place + 1 :]]
        if all(abs(other.median - level.median) <= max(other.spread, level.spread) for other in beyond):
            return number
    return None


def _enough(curve: Curve) -> Iterator[str]:
    levels = curve.levels(FINE_TUNE)
    if len(levels) < FEWEST_SEEDS or len(curve.seeds) < FEWEST_SEEDS:
        return
    enough = enough_labels(levels)
    if enough is None:
        (before, _), (last, _) = list(pairwise(levels))[-1]
        yield (
            f"From {before} to {_labelled(curve, last)}, fine-tuning still changed by more than the spread over "
            "the seeds: more labels may change it further."
        )
    elif enough == 0:
        yield (
            f"Labelling up to {curve.count(levels[-1][0])} a class changed fine-tuning by less than the spread over the "
            "seeds: cannot tell whether labels help."
        )
    else:
        yield (
            f"Labelling more than {curve.count(enough)} a class changed fine-tuning by less than the spread over "
            "the seeds."
        )


def write_curve_page(folder: Path, curve: Curve, reading: Sequence[str]) -> Path:
    """Write the page of a curve; an earlier one is replaced.

    Args:
        folder: of the curve.
        curve: its points.
        reading: what it means, one sentence a line.

    Returns:
        `report.html`.
    """
    write_atomic(folder / PAGE, render_curve(curve, reading))
    return folder / PAGE


def render_curve(curve: Curve, reading: Sequence[str]) -> str:
    """Return the page as HTML; every name in it is escaped."""
    page: str = (
        environment()
        .get_template("curve.html")
        .render(
            curve=curve,
            reading=reading,
            image=curve_as_url(curve),
            cards=_cards(curve),
            ways=[(way, WORDS[way]) for way in curve.ways],
            rows=[(number, [curve.level(way, number) for way in curve.ways]) for number in curve.labels],
            points=[(point, _point_figure(point)) for point in curve.points],
        )
    )
    return page


def _cards(curve: Curve) -> list[tuple[str, Level | None]]:
    """Return the figures that are looked for first."""
    last = curve.labels[-1]
    number = f"{curve.count(last)} a class"
    return [
        ("A's model unchanged", curve.level(UNCHANGED, 0)),
        (f"without labels ({how_adapted(curve)})", curve.level(WITHOUT_LABELS, 0)),
        (f"fine-tuned on {number}", curve.level(UNCHANGED, last)),
        (f"from scratch on {number}", curve.level(SCRATCH, last)),
    ]


def _point_figure(point: Point) -> dict[str, Any]:
    if point.value is None:
        return {"value": "\N{EN DASH}", "interval": point.reason}
    has_interval = point.low is not None and point.high is not None
    interval = f"{point.low:.3f} to {point.high:.3f}" if has_interval else point.reason
    return {"value": f"{point.value:.3f}", "interval": interval}
