"""`MODEL_CARD.md` of a version: inputs, outputs, training, scores and limitations of the model."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from kerastl.errors import report_damage
from kerastl.evaluation.scores import small_class_warnings
from kerastl.evaluation.trained_model import read_validation_fit
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing
from kerastl.image_size import RESIZE_RULES, format_size
from kerastl.models import public_name
from kerastl.recipe import read_plain
from kerastl.runs import (
    RESOLVED_RECIPE,
    Adaptation,
    Estimate,
    Metrics,
    ModelDescription,
    Scores,
    Summary,
    write_atomic,
)
from kerastl.runs.schemas import RUN_AGAIN, ClassPrevalence, ValidationResults
from kerastl.tasks import SINGLE_LABEL

PUBLIC_SITES = ("source", "target")
PUBLIC_WEIGHTS = ("imagenet", "preset", "none")


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the training of a model; unknown ones are None or empty.

    The template determines which parts of `adaptation` are published.

    Args:
        backbone: Name and options of the backbone, as in a recipe, without paths.
        weights: `{"from", "sha256", "license"}` of the initial weights; `from` is imagenet, preset, none, or file.
        counts: Images by split and class; unlabeled ones are under "".
        groups: Number of groups (patients) by split.
        scores: Metrics of each test split.
        small_classes: One line for each test split in which some class has fewer than five images.
        sites: The same for each site by split; identifying site names are replaced.
        fixed: Settings that were fixed on the validation images.
        temperature: The temperature in the probabilities of the run; None for 1.
        adaptation: The content of `adaptation.json`.
        shift: The prevalence of each class.
        level: Level of the intervals, 0 to 1.
        training: Identifiers of the run: `recipe_sha256`, `seed`, `data_sha256`, `weights_sha256`.
    """

    backbone: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    scores: dict[str, Metrics] | None = None
    small_classes: tuple[str, ...] = ()
    sites: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    fixed: ValidationResults | None = None
    temperature: float | None = None
    adaptation: Adaptation | None = None
    shift: dict[str, ClassPrevalence] = field(default_factory=dict)
    level: float | None = None
    training: dict[str, Any] | None = None


NO_FACTS = ModelFacts()


def read_model_facts(run: Path | None) -> ModelFacts:
    """Read the facts of a run that may be published; those of missing files, or without a run, are unknown.

    Raises:
        RequestError: A file is damaged.
    """
    if run is None:
        return NO_FACTS
    recipe = _read_object(run / RESOLVED_RECIPE, read_plain)
    versions = _read_object(run / "versions.json", json.loads)
    weights, description = _weights(versions.get("weights")), ModelDescription.read_if_present(run)
    scores = Scores.read_if_present(run) or Scores()
    summary = Summary.read_if_present(run) or Summary()
    counts = {
        split: by_class for data in summary.data.values() for split, by_class in data.ordered_splits.items()
    }
    groups = {
        split: data.groups.get(split, 0) for data in summary.data.values() for split in data.ordered_splits
    }
    # The target first: its scores are those of the deployment.
    tests = dict(reversed(scores.test_splits.items()))
    return ModelFacts(
        backbone=_public_backbone(recipe.get("backbone", {})),
        weights=weights,
        counts=counts,
        groups=groups,
        scores={name: split.overall for name, split in tests.items()} or None,
        small_classes=tuple(small_class_warnings(scores)),
        sites={name: by_public_name(split.domains) for name, split in tests.items()},
        fixed=read_validation_fit(run),
        temperature=description.temperature if description else None,
        adaptation=Adaptation.read_if_present(run),
        shift=scores.label_shift.classes if scores.label_shift else {},
        level=scores.interval.level if scores.interval else None,
        training=_training(recipe, versions, weights),
    )


def _weights(content: Any) -> dict[str, Any]:
    """Return the origin of the initial weights without the name of a file."""
    if not isinstance(content, Mapping):
        return {}
    origin = content.get("from")
    return {
        "from": origin if origin in PUBLIC_WEIGHTS else "file",
        **{key: content.get(key) for key in ("sha256", "license")},
    }


def _public_backbone(backbone: Any) -> dict[str, Any]:
    """Return the name and the options of a backbone without paths."""
    names = {"name": public_name(str(backbone["name"]))} if "name" in backbone else {}
    return {key: value for key, value in without_paths({**backbone, **names}).items() if value is not None}


def without_paths(value: Any) -> Any:
    """Return a value from a recipe, with every absolute path replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and (
        PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    ):
        return None
    return value


def by_public_name(sites: Mapping[str, Metrics]) -> dict[str, Metrics]:
    """Return the metrics of each site by its public name: letters, source and target are kept, others are numbered.

    The name of a site can identify a hospital.
    """
    kept = [name for name in sites if name in PUBLIC_SITES or (len(name) == 1 and name.isalpha())]
    others = sorted(name for name in sites if name not in kept)
    names = {name: name for name in kept}
    names |= {name: f"site {number}" for number, name in enumerate(others, 1)}
    return {names[name]: sites[name] for name in sorted(names, key=names.__getitem__)}


def _training(
    recipe: Mapping[str, Any], versions: Mapping[str, Any], weights: Mapping[str, Any]
) -> dict[str, Any] | None:
    if not recipe and not versions:
        return None
    plain = json.dumps(without_paths(recipe), sort_keys=True, default=str)
    return {
        "recipe_sha256": hashlib.sha256(plain.encode()).hexdigest() if recipe else None,
        "seed": versions.get("seed"),
        "data_sha256": versions.get("data_sha256"),
        "weights_sha256": weights.get("sha256"),
    }


def _read_object(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    with report_damage(file, RUN_AGAIN):
        content = parse(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it contains a {type(content).__name__}, not keys and values")
    return content


TEMPLATES = Path(__file__).with_name("templates")
MARKDOWN = re.compile(r"[\\`*_{}\[\]|~@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What Markdown would interpret inside a line: code, emphasis, links, table cells, addresses."""


@cache
def template_environment(**options: Any) -> Any:
    """Return the Jinja environment of the templates; an unknown name in a template is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {"format_size": format_size, "describe_resize": RESIZE_RULES.__getitem__}
    return environment


def escape_markdown(value: Any) -> Any:
    """Return a text that Markdown and HTML display literally, on one line; other values are unchanged."""
    if not isinstance(value, str):
        return value
    line = "".join(character if character.isprintable() else " " for character in value)
    return MARKDOWN.sub(r"\\\g<0>", html.escape(line, quote=False))


SERVER_IMAGE = "tensorflow/serving:2.21.0"
"""The official image with the same TensorFlow; it is built for x86-64 only."""
CARD = "MODEL_CARD.md"
DASH = "\N{EN DASH}"
PREVALENCE_COLUMNS = {
    "train": "in training",
    "source": "at the source",
    "em": "at the target, estimated from unlabeled images (EM)",
    "true": "at the target, from its labels",
}


def write_card(folder: Path, facts: ModelFacts, **description: Any) -> None:
    """Write the model card of a version.

    Args:
        folder: The folder of the version.
        facts: Facts about the run; unknown ones are omitted.
        description: `class_names`, `image_size_px`, `resize`, `window`, `max_pixels`, `model_sha256`, `versions` and
            `postprocessing`, as in the manifest.

    Raises:
        OSError: The disk is full.
    """
    write_atomic(folder / CARD, render_card(facts, **description).encode("utf-8", "replace"))


def render_card(facts: ModelFacts, *, postprocessing: Postprocessing, **description: Any) -> str:
    """Return the model card as Markdown. All values are escaped, because class names can contain anything."""
    environment = template_environment(finalize=escape_markdown)
    environment.filters |= {"number": _number, "interval": _with_interval}
    columns = [column for column in PREVALENCE_COLUMNS if any(row[column] for row in facts.shift.values())]
    return environment.get_template(f"version/{CARD}.jinja").render(
        description,
        facts=facts,
        metrics=SINGLE_LABEL.metric_titles,
        prevalence={column: PREVALENCE_COLUMNS[column] for column in columns},
        postprocessing=postprocessing.describe(description["class_names"]),
        is_postprocessed=postprocessing != NO_POSTPROCESSING,
        is_as_in_run=postprocessing == Postprocessing(facts.temperature),
    )


def _with_interval(score: Estimate | None) -> str:
    """Return `0.912 (0.871 to 0.948)`, without unknown parts."""
    return (score and score.text) or DASH


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
