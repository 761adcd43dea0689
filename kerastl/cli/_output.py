"""Print what a run came to: a short table with intervals, and what to type next."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kerastl.report.tables import why_untold
from kerastl.runs import Run

LONGEST = 60


def with_interval(metric: dict[str, Any] | None) -> str:
    """Return `0.912 (0.871 to 0.948)`; a dash where there is no value."""
    if not metric or metric.get("value") is None:
        return "-"
    if metric.get("low") is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def printable(name: str) -> str:
    """Return a name from the data without what moves the cursor or colours the screen, and not too long."""
    text = "".join(letter for letter in name if letter.isprintable())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


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
        yield f"sites        label told by the site alone, training images: AUC {with_interval(told['label'])}"
    for warning in told["warnings"]:
        yield f"Warning: {warning}"


def _subgroups(scores: dict[str, Any]) -> Iterator[str]:
    from kerastl.evaluation.subgroups import sort_values

    for split in TESTS:
        for column, values in scores.get(split, {}).get("subgroups", {}).items():
            metric = _headline(values)
            shown = [
                f"{printable(value) or 'not given'} {with_interval(one.get(metric))}, "
                f"{one['images']['value']} images"
                for value in sort_values(values)[:MOST_VALUES]
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


ADAPTATION = "adaptation.json"
JUDGED = ("val", "test", "target_val", "target_test")
SHOWN = ("accuracy", "balanced_accuracy", "auc", "group_auc")


def near(path: Path) -> str:
    """Return the shortest way to write a path from here, quoted for a shell."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def print_scores(run: Run, *, as_json: bool) -> None:
    """Print the scores of every split of a run, and the next commands."""
    from kerastl.evaluation.bootstrap import MIN_GROUPS

    scores = run.read_json("scores.json")
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "scores": scores}, indent=1))
        return
    click.echo(f"\nRun folder: {near(run.path)}")
    for split in JUDGED:
        if split in scores:
            overall = scores[split]["overall"]
            shown = [
                f"{name} {with_interval(overall[name])}"
                for name in SHOWN
                if overall.get(name, {}).get("value") is not None
            ]
            click.echo(f"  {split:<12} " + ", ".join(shown))
    _print_points(scores)
    adaptation = run.read_json(ADAPTATION) if run.file(ADAPTATION).is_file() else {}
    _print_difference(adaptation)
    print_sites(scores, adaptation)
    if "interval" in scores and any(split in scores for split in JUDGED):
        drawn = "group" if scores["interval"]["unit"] == "group" else "image"
        click.echo(f"In brackets: 95 % intervals, where {MIN_GROUPS} {drawn}s or more allow one.")
    else:
        click.echo("Nothing was judged: no image is held out for validation or test.")
    click.echo("Next:")
    click.echo(f"  open {near(run.file('report.html'))}")
    click.echo(f"  kerastl predict {near(run.path)} IMAGES...")
    for folder in _verifiable(run):
        click.echo(f"  kerastl verify {near(folder)}")


def _print_points(scores: dict[str, Any]) -> None:
    """Print what validation's thresholds come to on the test images, where a class is the positive one."""
    for split in TESTS:
        told = scores.get(split, {}).get("operating_points", {})
        for point in told.get("points", []):
            if point["threshold"] is None:
                continue
            found = point["overall"]
            rates = ", ".join(
                f"{name} {with_interval(found[name])}" for name in ("sensitivity", "specificity")
            )
            where = f"threshold for {point['fixed']} {point['at']:g} on {told['threshold_from']}"
            click.echo(f"  {split:<12} {told['positive']}, {where}: {rates}")


def _print_difference(told: dict[str, Any]) -> None:
    """Print what adaptation changed at the target, where the run adapted and its test images are labelled."""
    if not told:
        return
    if len(told["candidates"]) > 1 and "ranking" in told:
        click.echo(f"  chosen       {told['chosen']}, {told['verdict'].replace('_', ' ')}: {told['reason']}")
    judged = told["target_test"]
    if judged and told["chosen"] != "source_only":
        change = judged["difference"]
        outcome = change["outcome"].replace("_", " ")
        what = f"{change['metric']}, adapted minus unchanged"
        click.echo(f"  target_test  {what}: {with_interval(change)}: {outcome}")


def _verifiable(run: Run) -> list[Path]:
    """Return the exports that `verify` can check: none where no test image lies in a file to open."""
    from kerastl.evaluation.trained_model import read_description
    from kerastl.export import select_test_images

    exports = run.file("export")
    if not exports.is_dir() or not select_test_images(run.path, read_description(run.path), limit=1):
        return []
    return sorted(exports.iterdir())


SCORES = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}


def converted_lines(folder: Path) -> Iterator[str]:
    """Yield lines about an export that was converted; none about others."""
    from kerastl.export.manifest import read_manifest

    manifest = read_manifest(folder)
    told = manifest.conversion
    if told is None:
        return
    size = manifest.image_size_px
    yield (
        f"It takes decoded images: {told['input']['name']} [n, {size}, {size}, 3] float32, RGB, 0 to 255. Decoding, "
        "window and resizing are the caller's; kerastl predict does them."
    )
    threshold = manifest.postprocessing.threshold
    if threshold is not None:
        yield (
            f"It answers probabilities only: that {threshold.positive!r} is predicted by its threshold is for the caller "
            "to do, see manifest.json."
        )
    yield f"{told['bytes']:,} bytes" + (
        f", {told['float32_bytes']:,} in float32" if told.get("quantize") else ""
    )
    if told.get("quantize"):
        yield from _cost(told)


def _cost(told: dict[str, Any]) -> Iterator[str]:
    calibration = told["calibration"]
    if calibration is not None:
        classes = ", ".join(f"{name} {count}" for name, count in calibration["classes"].items())
        yield f"Calibrated on {calibration['images']} training images: {classes}"
    if not told["effect"]:
        yield "What quantizing cost was not measured: no test image of the run can be opened."
    for split, cost in told["effect"].items():
        scores = "; ".join(
            f"{word} {_figure(cost[name]['before'])} to {_figure(cost[name]['after'])}"
            for name, word in SCORES.items()
        )
        yield (
            f"{told['quantize']} on {cost['images']:,} images of {split}: {scores}; labels that differ: "
            f"{cost['labels_differ']}; largest difference of a probability: {cost['largest_difference']:.2g}"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


class NamedPath(click.Path):
    """A path that has a name: an empty word, as an unset variable of a script leaves it, would mean the current folder."""

    def __init__(self, **how: Any) -> None:
        super().__init__(path_type=Path, **how)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            BadParameter: it is empty.
        """
        if value == "":
            self.fail("it is empty; is a variable unset? '.' is the current folder.", param, ctx)
        return super().convert(value, param, ctx)


def load_tensorflow() -> None:
    """Import TensorFlow; what it says on the way is shown only where the import fails.

    TensorFlow writes its first lines to file descriptor 2 before any setting can silence it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401 - imported for its side effects on the terminal
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
