"""What is written and said while a model learns: history, timings, proofs, a line an epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kerastl.console import duration, say
from kerastl.report.tables import rounded_lines
from kerastl.runs import Run, append_line, write_atomic


class Diary:
    """Writes down the epochs and proofs of a training as they come.

    Args:
        run: where the files go.
        total: epochs in all.
    """

    def __init__(self, run: Run, total: int) -> None:
        self._run, self._total = run, total

    def on_epoch(self, rows: Sequence[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Take in the history so far, the new epoch last, and how long that took."""
        told = {"epoch": rows[-1]["epoch"], **timing}
        append_line(self._run.file("timings.jsonl"), json.dumps(told))
        write_history(self._run, rows)
        say(_line(rows[-1], timing, self._total))

    def on_proof(self, proofs: Sequence[dict[str, Any]]) -> None:
        """Take in the proofs so far, the new one last."""
        write_proofs(self._run, proofs)
        for line in rounded_lines({"phases": proofs[-1:]}):
            say(line)
        for warning in proofs[-1]["warnings"]:
            say(f"Warning: {warning}")


def write_history(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write `history.jsonl`, one epoch a line."""
    lines = (json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
    write_atomic(run.file("history.jsonl"), "".join(lines))


def write_proofs(run: Run, proofs: Sequence[dict[str, Any]]) -> None:
    """Write `freeze.json`, one entry a phase."""
    run.write_json("freeze.json", {"phases": list(proofs)})


def _line(row: dict[str, Any], timing: dict[str, Any], total: int) -> str:
    """Return one line for people: where training stands."""
    shown = [
        f"{name} {row[name]:.3f}"
        for name in ("loss", "val_loss", "val_balanced_accuracy", "val_auc")
        if row.get(name) is not None
    ]
    times = [f"{timing['seconds']:.1f} s", f"{timing['images_per_s']:.0f} images/s", *_left(timing)]
    return (
        f"  epoch {row['epoch']}/{total}  {row['phase']}: {', '.join(shown)}  ({', '.join(times)})"
    )


def _left(timing: dict[str, Any]) -> Iterator[str]:
    """Yield what is left, in words."""
    if timing["seconds_left"] > 0:
        most = "at most " if timing["at_most"] else ""
        yield f"{most}{duration(timing['seconds_left'])} left"
    if timing["untimed"]:
        first, *others = timing["untimed"]
        yield f"then {first}" + (f" and {len(others)} more phases" if others else "")
