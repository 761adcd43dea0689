"""A curve trains each run once, reports failures and resumes after interruptions. The runs are simulated."""

import json
import re
from dataclasses import dataclass, field, replace

import pytest
from make_curves import hospitals

from kerastl import recipe as recipes
from kerastl import workflows as curves
from kerastl.console import print_status
from kerastl.errors import PermanentFailure, RequestError
from kerastl.runs import RESOLVED_RECIPE, Adaptation, Run, write_csv
from kerastl.workflows import Plan, adapt_curve
from kerastl.workflows.curve_plan import RECIPE as RECIPE_FILE
from kerastl.workflows.curve_plan import REQUEST
from kerastl.workflows.label_budget import CurveDatasets, check_same, request_of

HEADER = ("path", "label", "split", "group", "domain")


def score_of(recipe):
    number = recipe.target.few.groups_per_class if recipe.target.few else 0
    return {"value": 0.5 + 0.01 * recipe.seed + 0.1 * number, "low": 0.4, "high": 0.9}


@dataclass
class Played:
    """Replaces `run`: writes what a run writes, and records the calls."""

    calls: list = field(default_factory=list)
    diverges: str = ""
    stops: str = ""

    def __call__(self, recipe, *, name, out, resume=False, oracle=False):
        print_status("the screen of one run")
        self.calls.append((name, resume))
        run = Run(out)
        assert resume == run.path.exists()
        run.path.mkdir(exist_ok=True)
        few = recipe.target.few.groups_per_class if recipe.target.few else 0
        rows = [
            (f"{label}{group}.png", label, "target_train", f"{label}{group}", "b")
            for label in ("benign", "malignant")
            for group in range(few)
        ]
        write_csv(run.file("split.csv"), HEADER, rows)
        (run.file(RESOLVED_RECIPE)).write_text("")
        if name == self.stops:
            raise KeyboardInterrupt
        if name == self.diverges:
            raise PermanentFailure("loss became nan in phase adapt.\nTry a smaller rate.")
        run.file("history.jsonl").write_text('{"loss": 0.5}\n' * 10)
        overall = {"overall": {"group_auc": score_of(recipe)}, "groups": 6, "count": 12}
        run.write_json("scores.json", {"target_test": overall})
        Adaptation(verdict="adapt", chosen="coral", reason="it ranks first", candidates={}).write(run.path)
        run.finish()
        return run


@pytest.fixture
def played(monkeypatch):
    runner = Played()
    monkeypatch.setattr("kerastl.workflows.run.run", runner)
    monkeypatch.setattr("keras.backend.clear_session", lambda: None)  # nothing is trained
    return runner


FREE = ("phases[1].trainable=all", "augment=none")
RECIPE = hospitals("hospital-unlabelled", *FREE)
ASKED = {"name": "two", "labels": (0, 1, 2), "seeds": 2}


def test_every_run_is_trained_once_and_its_score_is_a_point(played, tmp_path, capsys):
    outcome = adapt_curve(RECIPE, **ASKED, out=tmp_path / "curve")
    assert len(played.calls) == len(dict(played.calls)) == 16
    content = json.loads((tmp_path / "curve" / "curve.json").read_text())
    for point in content["points"]:
        # In this simulation, the adapted model of a seed has the score of A's model.
        expected = 0.5 + 0.01 * point["seed"] + 0.1 * point["groups_per_class"]
        assert point["value"] == pytest.approx(expected)
        assert point["groups"] == point["images"] == 2 * point["groups_per_class"]
    assert {test["method"] for test in content["tests"]} == {"coral"}
    assert outcome.run.finished
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("Run ")]
    assert [line.partition(": ")[0] for line in lines] == [f"Run {number} of 16" for number in range(1, 17)]
    assert all(re.search(r": AUC by group at B 0\.\d{3} \(\d+ s\)$", line) for line in lines)
    assert "the screen of one run" not in err
    summary = json.loads((tmp_path / "curve" / "summary.json").read_text())
    assert summary["chosen"] is None
    assert len(summary["runs"]) == 16


def test_a_resumed_curve_trains_only_the_missing_runs(played, tmp_path, capsys):
    played.stops = "seed_7_scratch_1"
    with pytest.raises(KeyboardInterrupt):
        adapt_curve(RECIPE, **ASKED, out=tmp_path / "curve")
    assert f"--out {tmp_path / 'curve'} --resume" in capsys.readouterr().err
    first = [name for name, _ in played.calls]
    assert len(first) == 7
    played.stops, played.calls = "", []
    adapt_curve(RECIPE, **ASKED, out=tmp_path / "curve", resume=True)
    assert played.calls[0] == ("seed_7_scratch_1", True)
    assert len(played.calls) == 10
    assert not set(first[:-1]) & {name for name, _ in played.calls}
    adapt_curve(RECIPE, **ASKED, out=tmp_path / "whole")
    for file in ("curve.json", "curve.csv", "curve.png", "report.html", "summary.json"):
        resumed, uninterrupted = (tmp_path / name / file for name in ("curve", "whole"))
        assert resumed.read_bytes() == uninterrupted.read_bytes()


def test_a_failed_run_is_a_point_without_a_value_and_the_others_continue(played, tmp_path):
    played.diverges = "seed_8_fine_tune_2"
    outcome = adapt_curve(RECIPE, **ASKED, out=tmp_path / "curve")
    (failed,) = [point for point in outcome.curve.points if point.value is None]
    assert (failed.strategy, failed.seed, failed.groups_per_class) == ("fine_tune", 8, 2)
    assert failed.reason == "loss became nan in phase adapt."
    assert outcome.curve.scores("fine_tune", 2) == pytest.approx((0.77,))
    assert any("seed_8_fine_tune_2 failed" in note for note in outcome.curve.notes)
    assert len(played.calls) == 16


def test_a_failed_source_model_stops_the_curve(played, tmp_path):
    played.diverges = "seed_7_source"
    with pytest.raises(PermanentFailure):
        adapt_curve(RECIPE, **ASKED, out=tmp_path / "curve")
    assert len(played.calls) == 1


def test_a_curve_is_not_resumed_with_another_request_and_keeps_its_files(played, tmp_path):
    out = tmp_path / "curve"
    played.stops = "seed_7_adapted"
    with pytest.raises(KeyboardInterrupt):
        adapt_curve(RECIPE, **ASKED, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(RequestError, match="--seeds"):
        adapt_curve(RECIPE, **ASKED | {"seeds": 1}, out=out, resume=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


MANY = [
    f"phases[{index}].{changed}"
    for index in range(2)
    for changed in (
        "learning_rate=3e-5", "l2_sp=0.1", "ema=0.9", "clip_norm=2", "focal_gamma=1", "accumulate=2",
    )
]  # fmt: skip
PLAN = Plan(RECIPE, (0, 1, 2), (7, 8), 100)
DATASETS = CurveDatasets("group_auc", "patient", {"7": {"source": "a", "target": "b"}})


@pytest.mark.parametrize(
    ("changed", "datasets", "message"),
    [
        ({"labels": (0, 1)}, DATASETS, "--labels"),
        ({"seeds": (7,)}, DATASETS, "--seeds"),
        ({"scratch_epochs": 9}, DATASETS, "--scratch-epochs"),
        ({"recipe": hospitals("hospital-unlabelled", *FREE, "head.dropout=0.5")}, DATASETS, "dropout"),
        ({}, replace(DATASETS, fingerprints={"7": {"source": "a", "target": "c"}}), "images"),
        ({"recipe": hospitals("hospital-unlabelled", *FREE, *MANY)}, DATASETS, "more"),
    ],
)
def test_every_difference_to_the_interrupted_curve_is_named(tmp_path, changed, datasets, message):
    run = Run(tmp_path)
    run.write_json(REQUEST, {"recipe": "two", **request_of(PLAN, DATASETS)})
    run.file(RECIPE_FILE).write_text(recipes.write(RECIPE))
    check_same(PLAN, request_of(PLAN, DATASETS), run)
    other = replace(PLAN, **changed)
    with pytest.raises(RequestError, match=message):
        check_same(other, request_of(other, datasets), run)


def test_the_python_function_is_the_one_named_in_the_docs():
    assert curves.adapt_curve is adapt_curve
