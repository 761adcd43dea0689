"""The curves of range tests, as a picture and as characters for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerastl.runs import whole_file

RULES = {
    "valley": "two thirds down the longest fall",
    "steepest": "where it falls fastest",
    "minimum_tenth": "a tenth of the rate at the lowest",
}
TERMINAL_COLORS = ("#2f6fde", "#e07b1a", "#1f9d6b")
WIDTH, HEIGHT = 64, 12
UNSETTLED = 9
"""Steps at the start whose average few batches made."""


class Test(Protocol):
    """One range test; see `kerastl.training.RangeTest`."""

    @property
    def rates(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def smoothed(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def suggestions(self) -> dict[str, float]: ...  # noqa: D102


def write_rates(path: Path, tests: Sequence[Test], *, title: str, rate: float) -> None:
    """Draw the loss against the rate, one curve a test, with the suggestions of each rule.

    Args:
        path: a `.png`, new.
        tests: one a seed.
        title: above the picture.
        rate: the recipe's own, a dotted line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for test in tests:
        axes.plot(test.rates, test.smoothed, color="#7a828e", linewidth=1.4)
    for colour, (rule, words) in zip(TERMINAL_COLORS, RULES.items(), strict=True):
        telling = [test for test in tests if test.suggestions]
        found = [test.suggestions[rule] for test in telling]
        heights = [
            np.interp(one, test.rates, test.smoothed)
            for one, test in zip(found, telling, strict=True)
        ]
        axes.plot(
            found, heights, "o", color=colour, label=f"{rule.replace('_', ' ')}: {words}", zorder=3
        )
    axes.axvline(rate, color="#c9405b", linestyle=":", linewidth=1.4, label="the recipe's rate")
    axes.set_xscale("log")
    axes.set_ylim(*_heights(tests))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.set_title(title, parse_math=False)
    axes.grid(color="#7a828e", alpha=0.25, linewidth=0.7)
    axes.legend(fontsize=9, edgecolor="none", framealpha=0.85)
    with whole_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})


def _heights(tests: Sequence[Test]) -> tuple[float, float]:
    """Return the limits of the loss: what comes before it diverges is to be seen."""
    settled = [test.smoothed[UNSETTLED:] or test.smoothed for test in tests]
    low = min(min(losses) for losses in settled)
    high = max(max(losses[: int(np.argmin(losses)) + 1]) for losses in settled)
    room = max(high - low, 1e-6)
    return low - 0.1 * room, high + 0.4 * room


def curve_in_characters(test: Test) -> list[str]:
    """Return lines that show the loss of one test against the logarithm of its rate."""
    rates: Any = np.geomspace(test.rates[0], test.rates[-1], WIDTH)
    losses = np.interp(np.log(rates), np.log(test.rates), test.smoothed)
    low, high = _heights([test])
    rows = np.clip((HEIGHT - 1) * (high - losses) / (high - low), 0, HEIGHT - 1).round().astype(int)
    lines = [
        f"{high - (high - low) * row / (HEIGHT - 1):9.3f} │"
        + "".join("•" if at == row else " " for at in rows)
        for row in range(HEIGHT)
    ]
    axis = f"{'':9} └{'─' * WIDTH}"
    ends = f"{test.rates[0]:.0e}".ljust(WIDTH - 6) + f"{test.rates[-1]:.0e}"
    return [line.rstrip() for line in [*lines, axis, f"{'':11}{ends}"]]
