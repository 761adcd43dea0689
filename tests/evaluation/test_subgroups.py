import csv
import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_predictions import make_predictions

from kerastl.errors import Problems, RequestError
from kerastl.evaluation import assign_subgroups, is_binned, read_predictions, write_predictions
from kerastl.evaluation import score as score_fully
from kerastl.evaluation.subgroups import clean_columns

score = partial(score_fully, resamples=100)


def test_subgroup_scores_equal_scores_of_the_subgroup_alone():
    predictions = make_predictions(count=240, groups=60, domains=("a", "b"))
    sex = ["f" if row % 60 < 30 else "m" for row in range(240)]
    scores = score(predictions, subgroups={"sex": sex})["test"]["subgroups"]["sex"]
    assert list(scores) == ["f", "m"]
    for value in "fm":
        alone = predictions.take([row for row in range(240) if sex[row] == value])
        expected = score(alone)["test"]
        assert {name: scores[value][name] for name in expected["overall"]} == expected["overall"]
        assert scores[value]["images"]["value"] == 120
        assert scores[value]["groups"]["value"] == 30
        assert scores[value]["auc"]["low"] < scores[value]["auc"]["high"]


def test_small_subgroup_has_no_interval_and_single_class_has_no_auc():
    predictions = make_predictions(count=120, groups=30)
    eye = ["left" if row % 30 < 9 else "right" for row in range(120)]
    scores = score(predictions, subgroups={"eye": eye, "label": predictions.labels.tolist()})["test"][
        "subgroups"
    ]
    assert scores["eye"]["left"]["auc"]["low"] is None
    assert "9 groups (at least 10 are needed)" in scores["eye"]["left"]["auc"]["reason"]
    assert scores["eye"]["right"]["auc"]["low"] is not None
    assert scores["label"]["0"]["auc"] == {
        "value": None, "low": None, "high": None, "reason": "no image of class1",
    }  # fmt: skip


def test_without_columns_there_are_no_subgroups():
    predictions = make_predictions()
    assert "subgroups" not in score(predictions)["test"]
    with_columns = score(predictions, subgroups={"x": ["a"] * 120})
    del with_columns["test"]["subgroups"]
    assert with_columns == score(predictions)


def test_values_are_in_natural_order_with_unknown_last():
    values = (["scanner 10", "", "scanner 2", None, float("nan"), " scanner 1 "] * 20)[:120]
    scores = score(make_predictions(), subgroups={"scanner": values})["test"]["subgroups"]["scanner"]
    assert list(scores) == ["scanner 1", "scanner 2", "scanner 10", ""]
    assert scores[""]["images"]["value"] == 60


def test_numbers_are_divided_at_the_quartiles_of_the_training_images():
    ages = [*range(1, 101), *range(1000, 1020), None]
    is_training = [True] * 100 + [False] * 21
    subgroups = assign_subgroups({"age": ages}, is_training)["age"]
    low, middle, high = np.percentile(np.arange(1, 101), (25, 50, 75))
    for age, name in zip(ages[:-1], subgroups[:-1], strict=True):
        number = 1 + sum(age >= edge for edge in (low, middle, high))
        assert name.startswith(f"Q{number}: ")
    assert sorted(set(subgroups[:100])) == [
        "Q1: under 25.75", "Q2: 25.75 to under 50.5", "Q3: 50.5 to under 75.25", "Q4: 75.25 and over",
    ]  # fmt: skip
    assert subgroups[100] == "Q4: 75.25 and over"
    assert subgroups[-1] == ""
    assert assign_subgroups({"age": subgroups}, is_training)["age"] == subgroups


def test_without_training_images_quartiles_of_all_images_are_used():
    assert set(assign_subgroups({"x": list(range(20))}, [False] * 20)["x"]) == {
        "Q1: under 4.75", "Q2: 4.75 to under 9.5", "Q3: 9.5 to under 14.25", "Q4: 14.25 and over",
    }  # fmt: skip
    assert not is_binned(list(range(12)))
    assert is_binned(list(range(13)))
    assert assign_subgroups({"x": [1, 2.5, "3"]}, [True] * 3)["x"] == ("1", "2.5", "3")


def test_many_equal_numbers_give_fewer_ranges():
    packs = [0] * 80 + list(range(1, 21))
    subgroups = assign_subgroups({"packs": packs}, [True] * 100)["packs"]
    assert set(subgroups) == {"Q2: 0 and over"}
    packs = [0] * 60 + list(range(1, 41))
    assert set(assign_subgroups({"packs": packs}, [True] * 100)["packs"]) == {
        "Q2: 0 to under 15.25", "Q3: 15.25 and over",
    }  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=False, width=32)),
        min_size=1, max_size=60,
    ),
    st.integers(0, 60),
)  # fmt: skip
def test_every_image_has_one_subgroup(values, num_training):
    mask = [row < num_training for row in range(len(values))]
    subgroups = assign_subgroups({"x": values}, mask)["x"]
    assert len(subgroups) == len(values)
    for value, name in zip(values, subgroups, strict=True):
        assert (name == "") == (value is None or value != value)


def test_invalid_columns_are_rejected_together_without_their_values():
    names = [f"Mrs {row}" for row in range(31)]
    with pytest.raises(RequestError) as caught:
        assign_subgroups({"name": names, "short": ["a"], "good": ["a"] * 31}, [True] * 31)
    text = str(caught.value)
    assert "'name' has 31 distinct values" in text
    assert "'short' has 1 values for 31 images" in text
    assert "Mrs" not in text
    assert "good" not in text
    assert assign_subgroups({"name": [*names[:30], "Mrs 1"]}, [True] * 31)


HOSTILE = ("=cmd|' /C calc'!A1", "<script>alert(1)</script>", "../../etc/passwd", 'a,b\n"c"', "prob_x")


def test_table_preserves_subgroup_columns(tmp_path):
    columns = {name: tuple(HOSTILE[row % 5] for row in range(120)) for name in HOSTILE[:4]}
    predictions = dataclasses.replace(make_predictions(), subgroups=columns)
    file = tmp_path / "predictions.csv"
    write_predictions(file, predictions)
    with file.open(newline="") as opened:
        header, *rows = list(csv.reader(opened))
    assert header[6:8] == ["prob_class0", "prob_class1"]
    assert header[8:10] == ["logit_class0", "logit_class1"]
    assert header[10:] == [f"subgroup_{name}" for name in columns]
    texts = [cell for row in (header, *rows) for cell in (*row[:8], *row[10:])]  # logits can be negative
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in texts)
    again = read_predictions(file)
    assert again.class_names == predictions.class_names
    assert again.subgroups == columns
    assert json.dumps(score(again)) == json.dumps(score(predictions))
    assert set(score(again)["test"]["subgroups"]) == set(columns)


def test_take_keeps_subgroups():
    predictions = dataclasses.replace(
        make_predictions(), subgroups={"n": tuple(str(row) for row in range(120))}
    )
    assert predictions.take([5, 3]).subgroups == {"n": ("5", "3")}
    assert predictions.of("test").subgroups == predictions.subgroups


SPELLINGS = st.sampled_from(
    [("CT", "ct"), ("Site A", "site  a"), ("B\u200b1", "B1"), ("\uff211", "A1"), ("Caf\u00e9", "cafe\u0301"), ("P7", "P07"), ("a-1", "A\u20131")]
)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(SPELLINGS, st.permutations(range(12)))
def test_two_spellings_in_a_column_from_python_are_rejected(pair, order):
    cells = [*pair, *["other"] * 10]
    predictions = make_predictions(count=12)
    with pytest.raises(Problems, match=r"column 'scanner': .* are spellings of the same value"):
        score(predictions, resamples=10, subgroups={"scanner": [cells[row] for row in order]})


@settings(deadline=None, max_examples=30)
@given(
    st.permutations(["7", "7.0", 7, 7.0, "07", "7e0", "\uff17", "\u200b7"]),
    st.permutations([None, math.nan, "nan", "N/A", "-", ""]),
)
def test_numbers_and_missing_values_from_python_are_merged(numbers, missing):
    cleaned = clean_columns({"age": [*numbers, 70, *missing], "text": ["a", "b", "-", *["a"] * 12]})
    assert len(set(cleaned["age"][:8])) == 1
    assert cleaned["age"][8:] == ["70"] + [""] * 6
    assert cleaned["text"][:3] == ["a", "b", ""]


@pytest.mark.parametrize("wrong", [["sex"], "sex", {"sex": "fm"}, {"sex": 1}, 3, {"sex": None}])
def test_subgroups_that_are_not_columns_are_rejected(wrong):
    with pytest.raises(RequestError, match="subgroups: must be a mapping"):
        score(make_predictions(), subgroups=wrong)
