"""The values of a run determine the postprocessing of its export, and `verify` checks it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.evaluation import load_trained
from kerastl.export import (
    PostprocessingOptions,
    check_export,
    export_once,
    export_run,
    resolve_postprocessing,
)
from kerastl.export.manifest import read_manifest
from kerastl.export.postprocess import Prevalence, Threshold
from tests.export.conftest import CLASS_NAMES

BENIGN, SCRIPT, TEN = CLASS_NAMES


def write_scores(folder: Path, **label_shift: Any) -> Path:
    """Write the scores, splits and recipe of an evaluated run, as far as an export reads them."""
    points = [
        {"fixed": "specificity", "at": 0.9, "threshold": 0.45},
        {"fixed": "sensitivity", "at": 0.9, "threshold": 0.15},
    ]
    validation = {
        "overall": {},
        "operating_points": {"positive": SCRIPT, "points": [point | {"overall": {}} for point in points]},
        "calibration": {
            "bins": 15,
            "temperature": {"value": 1.6},
            **{when: {"overall": {}} for when in ("before", "after")},
        },
    }
    (folder / "scores.json").write_text(json.dumps({"val": validation} | label_shift))
    rows = [f"{name}.png,{name},train,," for name in (BENIGN, BENIGN, SCRIPT, TEN)]
    (folder / "split.csv").write_text("\n".join(["path,label,split,group,domain", *rows]) + "\n")
    (folder / "recipe.resolved.yaml").write_text("phases: [{class_weights: none}]\n")
    set_temperature(folder, 1.6)
    return folder


def set_temperature(folder: Path, temperature: float | None) -> None:
    description = json.loads((folder / "model.json").read_text()) | {"temperature": temperature}
    (folder / "model.json").write_text(json.dumps(description))


def shift() -> dict[str, Any]:
    shares = {BENIGN: (0.5, 0.0), SCRIPT: (0.25, 0.5), TEN: (0.25, 0.5)}
    images = {"splits": ["val"], "images": 30, "groups": 30}
    classes = {
        name: {"source": {"value": source}, "em": {"value": em}, "bbse": {}, "true": {}}
        for name, (source, em) in shares.items()
    }
    return {"class_names": CLASS_NAMES, "source": images, "target": images, "classes": classes}


def test_only_the_temperature_is_applied_by_default(run_folder: Path) -> None:
    postprocessing, problems = resolve_postprocessing(
        write_scores(run_folder), CLASS_NAMES, PostprocessingOptions()
    )
    assert (postprocessing.temperature, postprocessing.prevalence, postprocessing.threshold, problems) == (
        1.6,
        None,
        None,
        [],
    )
    postprocessing, problems = resolve_postprocessing(
        run_folder, CLASS_NAMES, PostprocessingOptions(temperature="none")
    )
    assert (postprocessing.temperature, problems) == (None, [])
    set_temperature(run_folder, None)  # export.temperature: none in the recipe
    for option, temperature in ((None, None), ("validation", 1.6)):
        options = PostprocessingOptions(temperature=option)
        assert resolve_postprocessing(run_folder, CLASS_NAMES, options)[0].temperature == temperature


def test_thresholds_and_prevalence_are_those_of_the_run(run_folder: Path) -> None:
    write_scores(run_folder, label_shift=shift())
    postprocessing, problems = resolve_postprocessing(
        run_folder, CLASS_NAMES, PostprocessingOptions("none", "target", "sensitivity")
    )
    assert problems == []
    assert postprocessing.threshold == Threshold(SCRIPT, 0.15, 1.6)
    assert postprocessing.prevalence is not None
    assert postprocessing.prevalence.training == (0.5, 0.25, 0.25)
    assert postprocessing.prevalence.served == pytest.approx((1e-6, 0.5, 0.5), rel=1e-5)
    own = {BENIGN: 0.1, SCRIPT: 0.2, TEN: 0.7}
    postprocessing, _ = resolve_postprocessing(
        run_folder, CLASS_NAMES, PostprocessingOptions("none", own, "specificity")
    )
    assert postprocessing.prevalence == Prevalence((0.5, 0.25, 0.25), pytest.approx((0.1, 0.2, 0.7)))
    (run_folder / "recipe.resolved.yaml").write_text("phases: [{class_weights: balanced}]\n")
    postprocessing, _ = resolve_postprocessing(run_folder, CLASS_NAMES, PostprocessingOptions("none", own))
    assert postprocessing.prevalence is not None
    assert postprocessing.prevalence.training == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_all_missing_values_of_a_run_are_reported_together(run_folder: Path) -> None:
    postprocessing, problems = resolve_postprocessing(
        run_folder, CLASS_NAMES, PostprocessingOptions("validation", "target", "sensitivity")
    )
    assert postprocessing.to_json(CLASS_NAMES) == {"temperature": None, "prevalence": None, "threshold": None}
    assert [problem.split(":")[0] for problem in problems] == ["prevalence target", "threshold sensitivity"]
    wrong = {"benign": 0.5, "malignant": 0.7}
    _, problems = resolve_postprocessing(
        write_scores(run_folder), CLASS_NAMES, PostprocessingOptions(prevalence=wrong)
    )
    text = "\n".join(problems)
    assert all(word in text for word in ("'malignant'", "'10'", "1.2"))


def test_the_command_refuses_unavailable_options_and_writes_nothing(run_folder: Path) -> None:
    for options, message in (
        (["--prevalence", "target", "--threshold", "specificity"], "prevalence"),
        (["--prevalence", "benign"], "CLASS=SHARE"),
        (["--prevalence", "benign=2"], "CLASS=SHARE"),
    ):
        result = CliRunner().invoke(app, ["export", str(run_folder), *options])
        assert result.exit_code != 0
        assert message in str(result.exception)
    assert not (run_folder / "export").exists()


@pytest.mark.slow
def test_another_temperature_than_that_of_the_run_is_a_fault(run_folder: Path) -> None:
    write_scores(run_folder, label_shift=shift())
    options = PostprocessingOptions("validation", "target", "sensitivity")
    export = export_run(run_folder, options=options)
    assert [finding.check for finding in check_export(export).findings if finding.passed is False] == []
    postprocessing = read_manifest(export).postprocessing
    assert postprocessing == resolve_postprocessing(run_folder, CLASS_NAMES, options)[0]
    assert load_trained(run_folder).class_names == CLASS_NAMES
    assert export_once(run_folder, options=options) == export
    assert export_once(run_folder, options=PostprocessingOptions()) != export, (
        "other postprocessing is another version"
    )
    set_temperature(run_folder, 2.5)
    findings = check_export(export).findings
    faults = {finding.check: finding.detail for finding in findings if finding.passed is False}
    assert set(faults) == {"settings"}
    assert "temperature" in faults["settings"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("scores.json", "["),
        ("scores.json", "[" * 100_000),
        ("scores.json", '{"val": 3}'),
        ("scores.json", "temperature 0"),
        ("scores.json", "temperature NaN"),
        ("scores.json", '"temperature" "hot"'),
        ("split.csv", "a,b\n1,2\n"),
        ("recipe.resolved.yaml", "phases: 3"),
        ("model.json", '{"class_names": [], "image_size_px": Infinity}'),
    ],
)
def test_a_damaged_file_of_a_run_is_named_and_nothing_is_exported(
    file: str, content: str, run_folder: Path, tmp_path: Path
) -> None:
    write_scores(run_folder)
    if "temperature" in content:
        content = (run_folder / file).read_text().replace("1.6", content.split()[-1])
    (run_folder / file).write_text(content)
    shares = [f"--prevalence={name}={share}" for name, share in zip(CLASS_NAMES, (0.5, 0.3, 0.2), strict=True)]  # fmt: skip
    with pytest.raises(RequestError, match=file):
        CliRunner().invoke(
            app,
            ["export", str(run_folder), "--out", str(tmp_path / "served"), *shares],
            catch_exceptions=False,
        )
    assert not (tmp_path / "served").exists()
