"""`MODEL_CARD.md` of an exported version: what it is, how well it did, what it cannot be asked. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerastl.evaluation.trained_model import AS_LEARNT, Answering
from kerastl.export.serving.facts import Facts
from kerastl.export.serving.fill import environment, in_markdown
from kerastl.export.serving.names import MODEL_NAME
from kerastl.runs import write_atomic

CARD = "MODEL_CARD.md"
TEMPLATE = f"version/{CARD}.jinja"
DASH = "\N{EN DASH}"
SPLITS = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")
WAYS = {
    "train": "in training",
    "source": "at the source",
    "em": "at the target, told from unlabelled pictures (EM)",
    "true": "at the target, by its labels",
}
METRICS = {
    "group_auc": "AUC by group",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "log_loss": "log loss",
}


def write_card(folder: Path, facts: Facts, **told: Any) -> None:
    """Write the card of a version.

    Args:
        folder: of the version.
        facts: what is known of the run; what is not is left out.
        told: `class_names`, `image_size_px`, `window`, `max_pixels`, `model_sha256` and `versions`, as in the manifest, and
            the `Answering` that its answers are told at.

    Raises:
        OSError: the disk is full.
    """
    write_atomic(folder / CARD, rendered(facts, **told).encode("utf-8", "replace"))


def rendered(facts: Facts, *, answering: Answering, **told: Any) -> str:
    """Return the card as Markdown. Whatever is filled in is escaped: a class may be named by anybody."""
    card: str = (
        environment(finalize=in_markdown)
        .get_template(TEMPLATE)
        .render(
            told,
            model_name=MODEL_NAME,
            num_classes=len(told["class_names"]),
            facts=facts,
            counts=_count_table(facts, told["class_names"]),
            tests=[_score_table(facts, split) for split in facts.scores or {}],
            level=_percent((facts.interval or {}).get("level")),
            shift=_shift_table(facts, told["class_names"]),
            points=[_point(one) for one in (facts.fixed or {}).get("points", [])],
            temperature=_number((facts.fixed or {}).get("temperature")),
            answers=answering.told(told["class_names"]),
            as_learnt=answering == AS_LEARNT,
        )
    )
    return card


def _count_table(facts: Facts, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Return pictures by class and split; the split's last row counts groups."""
    splits = [name for name in SPLITS if name in facts.counts]
    splits += [name for name in facts.counts if name not in splits]
    if not splits:
        return None
    unlabelled = any("" in facts.counts[name] for name in splits)
    rows = [(name, [facts.counts[one].get(name, 0) for one in splits]) for name in class_names]
    if unlabelled:
        rows.append(("without a label", [facts.counts[one].get("", 0) for one in splits]))
    return {
        "splits": splits,
        "rows": rows,
        "groups": [facts.groups.get(name, 0) for name in splits],
    }


def _score_table(facts: Facts, split: str) -> dict[str, Any]:
    """Return a test split's figures: a row a metric, a column for all sites together and for each."""
    overall = (facts.scores or {})[split]
    sites = facts.sites.get(split) or {}
    columns = {"overall": overall} | (sites if len(sites) > 1 else {})
    metrics = [name for name in METRICS if name in overall]
    return {
        "split": split,
        "columns": list(columns),
        "rows": [
            (
                METRICS[name],
                [_figure(one.get(name)) for one in columns.values() if isinstance(one, Mapping)],
            )
            for name in metrics
        ],
    }


def _shift_table(facts: Facts, class_names: Sequence[str]) -> dict[str, Any] | None:
    told = [(facts.shift or {}).get(name) for name in class_names]
    known = [one if isinstance(one, Mapping) else {} for one in told]
    ways = [way for way in WAYS if any(way in one for one in known)]
    if not ways:
        return None
    rows = [
        (name, [_figure(one.get(way)) for way in ways])
        for name, one in zip(class_names, known, strict=True)
    ]
    return {"ways": [WAYS[way] for way in ways], "rows": rows}


def _point(told: Mapping[str, Any]) -> dict[str, str]:
    return {
        "fixed": str(told.get("fixed")),
        "at": _number(told.get("at")),
        "threshold": _number(told.get("threshold")),
    }


def _figure(told: Any) -> str:
    """Return `0.912 [0.871, 0.948]`, without what is not known."""
    entry = told if isinstance(told, Mapping) else {}
    value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
    return value if DASH in (value, low, high) else f"{value} ({low} to {high})"


def _number(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.3f}" if is_number else DASH


def _percent(level: Any) -> str:
    return f"{100 * level:.0f} %" if isinstance(level, float) else ""
