"""`kerastl ls --runs`: the finished runs in a folder."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kerastl.cli import app
from kerastl.runs import RESOLVED_RECIPE, DataSummary, Run, Summary

SIZES = {"smallest": 64, "median": 64, "largest": 64}
IMAGES = DataSummary(
    path="photos\n<b>", images=1300, classes={"cat": 1300}, splits={"test": {"cat": 1300}}, kinds={"png": 1300},
    width_px=SIZES, height_px=SIZES, gray=0, images_16_bit=0, unreadable=0,
)  # fmt: skip
HEADLINE = {
    "split": "target_test", "metric": "auc", "estimate": {"value": 0.75, "low": 0.5, "high": 0.875},
    "images": 1300, "groups": None, "most_confused": None,
}  # fmt: skip


def write_run(folder: Path, day: int, *, finished: bool = True, **content: object) -> Run:
    folder.mkdir(parents=True)
    run = Run(folder)
    run.file(RESOLVED_RECIPE).write_text("format: 1\n")
    Summary(**content).write(folder)
    if finished:
        run.finish()
        os.utime(run.file("finished.json"), (day * 86400, day * 86400))
    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    first = write_run(
        tmp_path / "runs" / "a b", 1, data={"source": IMAGES, "target": IMAGES}, headline=HEADLINE
    )
    write_run(first.path / "runs" / "candidate", 4)
    write_run(tmp_path / "runs" / "more" / "second", 2)
    write_run(tmp_path / "runs" / "unfinished", 3, finished=False)
    return tmp_path / "runs"


def ls(*words: str) -> Result:
    return CliRunner().invoke(app, ["ls", *words])


def test_finished_runs_are_listed_newest_first_with_data_score_and_date(folder):
    title, *rows = ls("--runs").stdout.splitlines()
    assert title.split() == ["run", "finished", "(UTC)", "score", "data"]
    assert [row.split("  ")[0] for row in rows] == ["runs/more/second", "'runs/a b'"]
    assert "1970-01-03 00:00  -" in rows[0]
    assert "1970-01-02 00:00  target test AUC 0.750 (0.500 to 0.875)" in rows[1]
    assert rows[1].endswith("photos<b> (1,300 images), target: photos<b> (1,300 images)")


def test_json_has_the_headline_and_the_data_of_each_run(folder):
    second, first = json.loads(ls("--runs", "runs", "--json").stdout)
    assert first["run"] == str(folder / "a b")
    assert first["finished"] == "1970-01-02T00:00:00Z"
    assert first["headline"]["estimate"] == HEADLINE["estimate"]
    assert first["data"]["source"] == {"path": "photos\n<b>", "images": 1300}
    assert (second["headline"], second["data"]) == (None, {})


def test_damaged_summary_is_a_warning(folder):
    (folder / "a b" / Summary.FILE).write_text("{")
    result = ls("--runs")
    assert "summary.json" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_folder_without_runs_and_missing_folder(tmp_path):
    empty = ls("--runs", str(tmp_path))
    assert (empty.exit_code, "There is no finished run" in empty.stdout) == (0, True)
    missing = ls("--runs", str(tmp_path / "no"))
    assert missing.exit_code != 0
