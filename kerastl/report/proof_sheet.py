"""The proofs of a run as a short table: what was proven, whether it held, what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kerastl.data.records import count_of

HOLDS, FAULT, NOT_MADE = "holds", "FAULT", "not made"


@dataclass(frozen=True)
class ProofRow:
    """One proof.

    Args:
        name: what was to be proven, and of which phase or export.
        outcome: `holds`, `FAULT` or `not made`.
        seen: one line: the figures, or what is wrong.
    """

    name: str
    outcome: str
    seen: str


def proof_rows(freeze: dict[str, Any]) -> list[ProofRow]:
    """Return one row for each proof in the content of `freeze.json`, phases first."""
    rows = [row for phase in _phases(freeze) for row in _phase_rows(phase)]
    passes = freeze.get("two_passes")
    if passes:
        seen = f"{count_of(passes['pictures'], 'picture')}: the logits are equal to the byte"
        rows.append(_row("validation predicted twice", passes, seen))
    for name, told in (freeze.get("exports") or {}).items():
        rows += _export_rows(name, told)
    return rows


def parameter_table(freeze: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names of the phases, and for each block how many of its parameters each phase trained.

    Blocks without a parameter are left out; the last row is the whole model.
    """
    phases = [phase for phase in _phases(freeze) if phase.get("parameters")]
    rows: dict[str, list[str]] = {}
    for phase in phases:
        counted = phase["parameters"]
        for row in [*counted["blocks"], {"block": "whole model", **counted}]:
            if row["total"]:
                cell = f"{row['trained']:,} of {row['total']:,}"
                rows.setdefault(str(row["block"]), []).append(cell)
    return [str(phase.get("phase", "")) for phase in phases], list(rows.items())


def _phases(freeze: dict[str, Any]) -> list[dict[str, Any]]:
    return [phase for phase in freeze.get("phases", []) if isinstance(phase, dict)]


def _row(name: str, told: dict[str, Any], seen: str) -> ProofRow:
    """Return the row of a record that has `faults`, and `reason` where nothing was proven."""
    faults = [str(fault) for fault in told.get("faults") or ()]
    if faults:
        return ProofRow(name, FAULT, "; ".join(faults))
    if told.get("reason"):
        return ProofRow(name, NOT_MADE, str(told["reason"]))
    return ProofRow(name, HOLDS, seen)


def _phase_rows(phase: dict[str, Any]) -> list[ProofRow]:
    layers = phase.get("layers", [])
    learnt = sum(bool(layer.get("trainable")) for layer in layers)
    name = str(phase.get("phase", ""))
    others = len(layers) - learnt
    seen = f"{count_of(learnt, 'layer')} learnt; " + (
        f"the weights of {count_of(others, 'other')} are the same before and after"
        if others
        else "none was frozen"
    )
    rows = [_row(f"{name}: what is frozen does not move", phase, seen)]
    statistics = phase.get("batch_norm")
    if statistics and statistics["layers"]:
        strayed = statistics["rule"] == "frozen" and statistics["moved"]
        rows.append(
            ProofRow(
                f"{name}: batch_norm {statistics['rule']}",
                FAULT if strayed else HOLDS,
                _moved_words(statistics),
            )
        )
    return rows


def _moved_words(statistics: dict[str, Any]) -> str:
    count, moved, largest = statistics["layers"], statistics["moved"], statistics["largest"]
    if not moved:
        return (
            f"the statistics of {count_of(count, 'BatchNorm layer')} are the same before and after"
        )
    size = largest["deviations"]
    return (
        f"the statistics of {moved} of {count_of(count, 'BatchNorm layer')} moved, at most by "
        f"{'no finite number of' if size is None else f'{size:.3g}'} moving standard deviations: "
        f"{largest['statistic']} of {largest['layer']}, channel {largest['channel']}"
    )


def _export_rows(name: str, told: dict[str, Any]) -> list[ProofRow]:
    what = f"export {name}"
    pixels, answers = told.get("pixels"), told.get("answers")
    if told.get("faults") or told.get("reason") or not answers:
        return [_row(what, told, "")]
    files = f"{told['files']} {told['split']} files"
    looked = "pixels in the served graph are the pipeline's to the bit"
    if not pixels or not pixels["compared"]:
        seen = str((pixels or {}).get("reason", ""))
        first = ProofRow(f"{what}: pixels", NOT_MADE, seen)
    else:
        first = ProofRow(f"{what}: pixels", HOLDS, f"{files}: {looked}")
    allowed = answers["allowed"]
    bound = (
        f"labels that differ: {answers['differ']}" if allowed is None else f"{allowed:g} is allowed"
    )
    gap = f"probabilities differ from the run's by {answers['largest_difference']:.1e} at most, {bound}"
    return [first, ProofRow(f"{what}: answers", HOLDS, f"{files}: {gap}")]
