"""Print what a run came to know of its sites: prevalence at the target, sites that are told apart, scores by subgroup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from kerastl.cli._words import printable, with_interval
from kerastl.report.tables import why_untold

TESTS = ("test", "target_test")
HEADLINES = ("group_auc", "auc", "balanced_accuracy", "accuracy")
MOST_CLASSES = 5
MOST_VALUES = 6


def print_sites(scores: dict[str, Any], adaptation: dict[str, Any]) -> None:
    """Print nothing for a run of one site and without subgroups.

    Args:
        scores: `scores.json`.
        adaptation: `adaptation.json`; empty for a run without one.
    """
    for line in (*_prevalence(scores, adaptation), *_told_apart(scores), *_subgroups(scores)):
        click.echo(f"  {line}")


def _prevalence(scores: dict[str, Any], adaptation: dict[str, Any]) -> Iterator[str]:
    told = scores.get("label_shift")
    if not told:
        return
    if "classes" not in told:
        yield f"prevalence   at the target: not known, {told['reason']}"
        return
    classes = [(name, told["classes"][name]) for name in told["class_names"]]
    for name, one in classes[1:] if len(classes) == 2 else classes[:MOST_CLASSES]:
        parts = [f"{with_interval(one['source'])} at the source"]
        parts += [
            f"{with_interval(one[key])} at the target by {words}"
            for key, words in (("em", "EM"), ("bbse", "BBSE"))
            if one[key]["value"] is not None
        ]
        if one["true"]["value"] is not None:
            parts.append(f"{with_interval(one['true'])} by its test labels")
        yield f"prevalence   {printable(name)}: {', '.join(parts)}"
    if len(classes) > MOST_CLASSES:
        yield f"             and {len(classes) - MOST_CLASSES} more classes: report.html"
    if told.get("explained") is False:
        yield (
            "             Do not rely on the estimates: the sites differ by more than prevalence "
            f"(AUC {with_interval(told['rest'])} with it evened out)."
        )
    elif untold := why_untold(told, adaptation):
        yield f"             Do not rely on the estimates: {untold}."


def _told_apart(scores: dict[str, Any]) -> Iterator[str]:
    told = scores.get("sites")
    if not told:
        return
    if told["target"]:
        before, after = told["target"]["before"], told["target"]["after"]
        text = f"AUC {with_interval(before)}"
        if after:
            text += f" before adaptation, {with_interval(after)} after"
        yield f"sites        target told from source by the features: {text}"
    domains = told["domains"] or {}
    for name, one in list(domains.items())[: 1 if len(domains) == 2 else MOST_VALUES]:
        others = "the others" if len(domains) > 2 else printable(list(domains)[1])
        yield f"sites        {printable(name)} told from {others} by the features: AUC {with_interval(one)}"
    if told["label"]:
        yield f"sites        label told by the site alone, training pictures: AUC {with_interval(told['label'])}"
    for warning in told["warnings"]:
        yield f"Warning: {warning}"


def _subgroups(scores: dict[str, Any]) -> Iterator[str]:
    from kerastl.evaluation.subgroups import in_order

    for split in TESTS:
        for column, values in scores.get(split, {}).get("subgroups", {}).items():
            metric = _headline(values)
            shown = [
                f"{printable(value) or 'not given'} {with_interval(one.get(metric))}, "
                f"{one['pictures']['value']} pictures"
                for value in in_order(values)[:MOST_VALUES]
                for one in [values[value]]
            ]
            if len(values) > MOST_VALUES:
                shown.append(f"and {len(values) - MOST_VALUES} more: report.html")
            yield f"{split:<12} {metric} by {printable(column)}: {'; '.join(shown)}"


def _headline(values: dict[str, Any]) -> str:
    """Return the metric that says most and that most subgroups have."""

    def known(metric: str) -> int:
        return sum(one.get(metric, {}).get("value") is not None for one in values.values())

    return max(HEADLINES, key=known)
