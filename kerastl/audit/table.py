"""An audit in words for a terminal, and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kerastl.audit.audit import Audit
from kerastl.audit.ladder import Trial
from kerastl.audit.measure import CLASS_FIGURES, TAKEN_MARGIN, Measurement, Pair
from kerastl.audit.verdicts import ERROR_RATE, Finding, Verdict

MOST_PAIRS = 3


def lines(audit: Audit) -> list[str]:
    """Return the lines of the table: a verdict an operation, the figures of its strengths below it."""
    told = [f"Not judged: {line}" for line in audit.left_out]
    if audit.class_names:
        counts = zip(audit.class_names, audit.counts, strict=True)
        judged = ", ".join(
            f"{name} ({pictures} pictures, {groups} groups)" for name, (pictures, groups) in counts
        )
        told += [f"Judged: {judged}", ""]
    for verdict in audit.verdicts:
        told.append(f"{verdict.name}: {_headline(verdict, audit.class_names)}")
        for trial, one in audit.measured.items():
            if trial.name == verdict.name and not one.unchanged:
                told.append(f"    {_strength(trial)}  {_figures(one)}")
        for strength, changed, learnt in verdict.unlearnt:
            told.append(
                f"    at {strength:g}: right {changed:.2f} before, {learnt:.2f} after learning the operation: "
                "not learnt yet, the label stays"
            )
    told += [
        "",
        "right: share of held-out pictures judged right, mean over classes: untouched; changed, by judges that saw",
        "untouched pictures only; changed, by judges that learnt the operation; untouched, by those.",
        f"Chance that any label is said to move that does not: at most {ERROR_RATE:g} an audit (Holm). What is said to\n"
        "be gone rests on a 95 % bound.",
    ]
    return told


def options_in_words(trial: Trial) -> str:
    """Return the options of a trial as a recipe would have them: `max_deg 15, fill_mode reflect`."""
    return ", ".join(
        f"{name} {_number(getattr(trial.pasted, name))}"
        for name in type(trial.pasted).model_fields
        if name != "apply_probability"
    )


def _strength(trial: Trial) -> str:
    return f"at {trial.strength:<4g} {options_in_words(trial):<28}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figures(one: Measurement) -> str:
    means = [
        sum(figures[name][0] for figures in one.classes) / len(one.classes)
        for name in CLASS_FIGURES
    ]
    return (
        f"right {means[0]:.2f} -> {means[1]:.2f}, learnt {means[2]:.2f} ({means[3]:.2f} untouched), "
        f"margin lost {means[4]:.1f}"
    )


def short(verdict: Verdict) -> str:
    """Return up to which strength an operation is safe: `safe up to 0.5`."""
    return f"safe up to {verdict.safe.strength:g}" if verdict.safe else "safe at no strength tried"


def _headline(verdict: Verdict, class_names: Sequence[str]) -> str:
    if verdict.unchanged:
        return "safe: it changes nothing on these pictures"
    if verdict.state == "safe":
        return short(verdict)
    return f"{reason(verdict, class_names)}; {short(verdict)}"


def reason(verdict: Verdict, class_names: Sequence[str]) -> str:
    """Return why an operation is not safe: `harmful for 6 and 9 (at 0.5): ...` or `undecided: ...`."""
    if verdict.state == "undecided":
        return f"undecided: {'; '.join(verdict.reasons)}"
    lowest = verdict.findings[0].trial.strength
    here = [one for one in verdict.findings if one.trial.strength == lowest]
    names = dict.fromkeys(
        " and ".join(class_names[place] for place in sorted((one.pair.source, one.pair.target)))
        for one in here
    )
    more = f" and {len(names) - MOST_PAIRS} more pairs" if len(names) > MOST_PAIRS else ""
    worst = max(here, key=lambda one: one.pair.taught.value)
    told = _told(worst, class_names)
    return f"harmful for {', '.join([*names][:MOST_PAIRS])}{more} (at {lowest:g}): {told}"


def _told(finding: Finding, class_names: Sequence[str]) -> str:
    pair = finding.pair
    source, target = class_names[pair.source], class_names[pair.target]
    share = f"{max(0.0, pair.taught.value):.0%}"
    if finding.kind == "moves" and pair.among and pair.taught.value <= TAKEN_MARGIN:
        return (
            f"{pair.among.value:.0%} more of {source} lie among untouched {target}, and judges that learnt the operation "
            "take some of the two for each other"
        )
    if finding.kind == "moves":
        return (
            f"{share} more of {source} are taken for {target} even by judges that learnt the operation, and they lie "
            f"where untouched {target} lie"
        )
    return (
        f"{share} more of {source} are taken for {target} even by judges that learnt the operation: what tells the "
        "two apart is gone"
    )


def as_plain(audit: Audit) -> dict[str, Any]:
    """Return everything an audit came to as mappings, lists, numbers and text."""
    return {
        "error_rate": ERROR_RATE,
        "classes": {
            name: {"pictures": pictures, "groups": groups}
            for name, (pictures, groups) in zip(audit.class_names, audit.counts, strict=True)
        },
        "left_out": list(audit.left_out),
        "operations": [_verdict(verdict, audit) for verdict in audit.verdicts],
    }


def _verdict(verdict: Verdict, audit: Audit) -> dict[str, Any]:
    names = audit.class_names
    return {
        "name": verdict.name,
        "verdict": verdict.state,
        "safe_up_to": verdict.safe.strength if verdict.safe else None,
        "unchanged": verdict.unchanged,
        "reason": "" if verdict.state == "safe" else reason(verdict, names),
        "findings": [
            {
                "strength": one.trial.strength,
                "kind": one.kind,
                "class": names[one.pair.source],
                "taken_for": names[one.pair.target],
            }
            for one in verdict.findings
        ],
        "strengths": [
            _trial(trial, one, audit)
            for trial, one in audit.measured.items()
            if trial.name == verdict.name
        ],
    }


def _trial(trial: Trial, one: Measurement, audit: Audit) -> dict[str, Any]:
    names = audit.class_names
    return {
        "strength": trial.strength,
        "options": trial.pasted.model_dump(),
        "unchanged": one.unchanged,
        "classes": {
            name: {
                figure: {"value": value, "low": low, "high": high}
                for figure, (value, low, high) in figures.items()
            }
            for name, figures in zip(names, one.classes, strict=False)
        },
        "pairs": [
            _pair(pair, names) for (which, _, _), pair in audit.pairs.items() if which == trial
        ],
    }


def _pair(pair: Pair, names: Sequence[str]) -> dict[str, Any]:
    plain = dataclasses.asdict(pair)
    plain["class"], plain["taken_for"] = names[plain.pop("source")], names[plain.pop("target")]
    return plain
