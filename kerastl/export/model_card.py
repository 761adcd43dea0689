"""`MODEL_CARD.md` of an exported version: what it is, how well it did, what it cannot be asked. No TensorFlow."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from kerastl.errors import report_damage
from kerastl.evaluation.trained_model import NO_POSTPROCESSING, Postprocessing
from kerastl.recipe import read_plain
from kerastl.runs import RESOLVED_RECIPE, read_csv, write_atomic

TESTS = ("target_test", "test")
"""Splits whose scores are told: nothing was chosen on them."""
KNOWN_WEIGHTS = ("imagenet", "none")
KNOWN_SITES = ("source", "target")


@dataclass(frozen=True)
class Facts:
    """What is told of how a model came about; what is not known is None or empty.

    Args:
        backbone: its name and options, as in a recipe, without weights.
        weights: `{"from", "sha256"}` of what training started from; `from` is imagenet, none, or file.
        counts: images by split and class; unlabelled ones are under "".
        groups: number of groups (patients) by split.
        scores: `{split: {metric: {value, low, high}}}` of the test splits.
        sites: the same of each site, `{split: {site: {metric: ...}}}`; a site's name is told only where it says nothing.
        fixed: `{"temperature", "positive", "points"}` that the validation images fixed.
        adaptation: `{"verdict", "chosen", "outcome"}`.
        shift: `{class: {way: {value, low, high}}}`, how common each class is at the target.
        interval: how intervals were made.
        training: what identifies the run: `recipe_sha256`, `seed`, `data_sha256`, `weights_sha256`.
    """

    backbone: dict[str, Any] | None = None
    weights: dict[str, Any] | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    scores: dict[str, Any] | None = None
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    fixed: dict[str, Any] | None = None
    adaptation: dict[str, Any] | None = None
    shift: dict[str, Any] | None = None
    interval: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


NOTHING = Facts()


def read_facts(run: Path | None) -> Facts:
    """Read what may be told of a run; None, or a file that is missing: that is not known.

    Raises:
        RequestError: a file is damaged.
    """
    if run is None:
        return NOTHING
    recipe, versions = _yaml(run / RESOLVED_RECIPE), _json(run / "versions.json")
    scores = _json(run / "scores.json")
    counts, groups = _counts(run / "split.csv")
    tests = {name: scores[name] for name in TESTS if _mapping(_at(scores, name, "overall"))}
    return Facts(
        backbone=_backbone(recipe),
        weights=_weights(versions),
        counts=counts,
        groups=groups,
        scores={name: one["overall"] for name, one in tests.items()} or None,
        sites={name: _sites(_mapping(one.get("domains"))) for name, one in tests.items()},
        fixed=_fixed(scores),
        adaptation=_adaptation(_json(run / "adaptation.json")),
        shift=_mapping(_at(scores, "label_shift", "classes")) or None,
        interval=_mapping(scores.get("interval")) or None,
        training=_training(recipe, versions),
    )


def without_paths(value: Any) -> Any:
    """Return a value of a recipe with every absolute path in it left out."""
    if isinstance(value, Mapping):
        return {str(key): without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    return None if isinstance(value, str) and _is_path(value) else value


def site_names(found: Mapping[str, Any]) -> dict[str, str]:
    """Return how each site is called outside: a letter, source and target as they are, others by number.

    A site's name may be that of a hospital.
    """
    known = [name for name in found if name in KNOWN_SITES or (len(name) == 1 and name.isalpha())]
    others = sorted(name for name in found if name not in known)
    numbered = {name: f"site {number}" for number, name in enumerate(others, 1)}
    return {name: numbered.get(name, name) for name in found}


def _is_path(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _training(recipe: Mapping[str, Any], versions: Mapping[str, Any]) -> dict[str, Any] | None:
    if not recipe and not versions:
        return None
    plain = json.dumps(without_paths(recipe), sort_keys=True, default=str)
    return {
        "recipe_sha256": hashlib.sha256(plain.encode()).hexdigest() if recipe else None,
        "seed": versions.get("seed"),
        "data_sha256": versions.get("data_sha256"),
        "weights_sha256": _at(versions, "weights", "sha256"),
    }


def _backbone(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    told = recipe.get("backbone")
    if not isinstance(told, Mapping):
        return None
    return {str(key): one for key, one in without_paths(told).items() if key != "weights"}


def _weights(versions: Mapping[str, Any]) -> dict[str, Any] | None:
    told = versions.get("weights")
    if not isinstance(told, Mapping):
        return None
    came_from = told.get("from")
    known = came_from if came_from in KNOWN_WEIGHTS else "file"
    return {"from": known, "sha256": told.get("sha256")}


def _counts(file: Path) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    rows = read_csv(file) if file.is_file() else []
    splits = dict.fromkeys(row.get("split", "") for row in rows)
    counts = {
        name: dict(Counter(row.get("label", "") for row in rows if row.get("split") == name))
        for name in splits
    }
    groups = {
        name: len({row.get("group", "") for row in rows if row.get("split") == name}) for name in splits
    }
    return counts, groups


def _sites(domains: Mapping[str, Any]) -> dict[str, Any]:
    names = site_names(domains)
    return {names[name]: domains[name] for name in sorted(domains, key=names.__getitem__)}


def _fixed(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    temperature = _at(scores, "val", "calibration", "temperature", "value")
    points = _at(scores, "val", "operating_points", "points")
    points = points if isinstance(points, list) else []
    if temperature is None and not points:
        return None
    return {
        "temperature": temperature,
        "positive": _at(scores, "val", "operating_points", "positive"),
        "points": [
            {key: _at(one, key) for key in ("fixed", "at", "threshold")} for one in points
        ],
    }  # fmt: skip


def _adaptation(told: Mapping[str, Any]) -> dict[str, Any] | None:
    if "verdict" not in told:
        return None
    return {
        "verdict": told["verdict"],
        "chosen": told.get("chosen"),
        "outcome": _at(told, "target_test", "difference", "outcome"),
    }


def _at(value: Any, *keys: str) -> Any:
    """Return what lies under keys within keys; None where a step is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _json(file: Path) -> dict[str, Any]:
    return _read(file, partial(json.loads, parse_constant=_refuse, parse_int=_whole))


def _whole(digits: str) -> int:
    number = int(digits)
    float(number)  # raises OverflowError where nothing could round it
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number that a manifest can hold")


def _yaml(file: Path) -> dict[str, Any]:
    return _read(file, read_plain)


def _read(file: Path, parse: Any) -> dict[str, Any]:
    if not file.is_file():
        return {}
    with report_damage(file, "Run the recipe again."):
        content = parse(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not keys and values")
    return content


FOLDER = Path(__file__).with_name("templates")
MEANT = re.compile(r"[\\`*_{}\[\]|~@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown would read as more than itself inside a line: code, emphasis, links, a table's cell, an address."""


def environment(**options: Any) -> Any:
    """Return what fills the templates; an unknown name in one is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def in_markdown(value: Any) -> Any:
    """Return text that Markdown and HTML show as it is, on one line; other values as they are."""
    if not isinstance(value, str):
        return value
    line = "".join(one if one.isprintable() else " " for one in value)
    return MEANT.sub(r"\\\g<0>", html.escape(line, quote=False))


MODEL_NAME = "kerastl"
"""Of every model in TF Serving: the last part of its address, `/v1/models/kerastl`."""

SERVER_IMAGE = "tensorflow/serving:2.21.0"
"""The official image, with the TensorFlow that models are exported by; it is built for x86-64 only."""


CARD = "MODEL_CARD.md"
TEMPLATE = f"version/{CARD}.jinja"
DASH = "\N{EN DASH}"
SPLITS = ("train", "val", "test", "target_train", "target_val", "target_test", "target_unlabelled")
WAYS = {
    "train": "in training",
    "source": "at the source",
    "em": "at the target, told from unlabelled images (EM)",
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
            the `Postprocessing` that its answers are told at.

    Raises:
        OSError: the disk is full.
    """
    write_atomic(folder / CARD, rendered(facts, **told).encode("utf-8", "replace"))


def rendered(facts: Facts, *, answering: Postprocessing, **told: Any) -> str:
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
            as_learnt=answering == NO_POSTPROCESSING,
        )
    )
    return card


def _count_table(facts: Facts, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Return images by class and split; the split's last row counts groups."""
    splits = [name for name in SPLITS if name in facts.counts]
    splits += [name for name in facts.counts if name not in splits]
    if not splits:
        return None
    unlabelled = any("" in facts.counts[name] for name in splits)
    rows = [(name, [facts.counts[one].get(name, 0) for one in splits]) for name in class_names]
    if unlabelled:
        rows.append(("without a label", [facts.counts[one].get("", 0) for one in splits]))
    return {"splits": splits, "rows": rows, "groups": [facts.groups.get(name, 0) for name in splits]}


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
            (METRICS[name], [_figure(one.get(name)) for one in columns.values() if isinstance(one, Mapping)])
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
        (name, [_figure(one.get(way)) for way in ways]) for name, one in zip(class_names, known, strict=True)
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
