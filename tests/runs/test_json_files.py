"""The JSON files of a run: written with the bytes that were read, and refused with the path and the key."""

import json

import pytest

from kerastl.errors import RequestError
from kerastl.runs import Adaptation, Freeze, ModelDescription, Scores, Summary

AUC = {"value": 0.9, "low": None, "high": None, "reason": "6 groups"}
SPLIT = {"overall": {"auc": AUC, "images": {"value": 12}}, "count": 12, "confusion": [[5, 1], [2, 4]]}


def write(folder, name, content):
    text = content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True) + "\n"
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (Scores, {"test": SPLIT, "interval": {"method": "bootstrap", "level": 0.95, "seed": 7}}),
        (Scores, {"val": SPLIT | {"calibration": {
            "bins": 15, "temperature": {"value": None, "from": "val", "reason": "no"},
            "before": {"overall": {}}, "after": {"overall": {}}}}}),
        (Summary, {"runs": {".": {"test": {"auc": AUC}}}, "chosen": "."}),
        (Adaptation, {"verdict": "adapt", "chosen": "dann", "reason": "", "candidates": {}, "oracle": None}),
        (Freeze, {"phases": [{"phase": "head", "layers": [], "faults": ["one"]}], "exports": {}}),
        (ModelDescription, {
            "class_names": ["a", "b"], "image_size_px": 96, "max_pixels": 100, "window": [0, 400.5],
            "data_root": "/data", "target_root": None}),
    ],
)  # fmt: skip
def test_a_file_is_written_with_the_bytes_that_were_read(model, content, tmp_path):
    write(tmp_path, model.FILE, content)
    first = (tmp_path / model.FILE).read_bytes()
    model.read(tmp_path).write(tmp_path)
    assert (tmp_path / model.FILE).read_bytes() == first


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"tset": SPLIT}, "the key tset is unknown"),
        ({"test": {}}, "the key test.overall is missing"),
        ({"test": {"overall": {"auc": 3}}}, "test.overall.auc: must be"),
        ('{"test": {"overall": {"auc": {"value": NaN}}}}', "test.overall.auc.value: must be a finite number"),
        ({"test": {"overall": {"auc": {"value": True}}}}, "test.overall.auc.value: must be a finite number"),
        ({"test": {"overall": {"auc": {"value": 10**400}}}}, "test.overall.auc.value: must be a finite number"),
        ("{", "Invalid JSON"),
        ("[]", "must be an object"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_refused_with_its_path_and_key(content, problem, tmp_path):
    write(tmp_path, "scores.json", content)
    with pytest.raises(RequestError) as caught:
        Scores.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'scores.json'} is damaged: {problem}")
    assert str(caught.value).endswith("Run the recipe again.")


def test_a_missing_file_is_refused_or_none(tmp_path):
    assert Scores.read_if_present(tmp_path) is None
    with pytest.raises(RequestError, match=r"has no scores\.json"):
        Scores.read(tmp_path)


def test_values_are_attributes_and_items_by_the_keys_of_the_file(tmp_path):
    write(tmp_path, "scores.json", {"test": SPLIT})
    scores = Scores.read(tmp_path)
    assert list(scores.splits) == ["test"]
    assert scores.test.overall["auc"].value == scores["test"]["overall"]["auc"]["value"] == 0.9
    with pytest.raises(KeyError):
        scores["tset"]
