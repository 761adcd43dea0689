import csv
import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions_drawn import made

from kerastl.errors import RequestError
from kerastl.evaluation import assign_subgroups, is_binned, read_predictions, write_predictions
from kerastl.evaluation import score as score_fully

score = partial(score_fully, resamples=100)


def test_each_value_is_scored_as_if_it_were_alone():
    one = made(count=240, groups=60, domains=("a", "b"))
    sex = ["f" if row % 60 < 30 else "m" for row in range(240)]
    told = score(one, subgroups={"sex": sex})["test"]["subgroups"]["sex"]
    assert list(told) == ["f", "m"]
    for value in "fm":
        alone = one.take([row for row in range(240) if sex[row] == value])
        expected = score(alone)["test"]
        assert {name: told[value][name] for name in expected["overall"]} == expected["overall"]
        assert told[value]["images"]["value"] == 120
        assert told[value]["groups"]["value"] == 30
        assert told[value]["auc"]["low"] < told[value]["auc"]["high"]


def test_fewer_than_ten_patients_get_no_interval_and_one_class_no_auc():
    one = made(count=120, groups=30)
    eye = ["left" if row % 30 < 9 else "right" for row in range(120)]
    told = score(one, subgroups={"eye": eye, "label": one.labels.tolist()})["test"]["subgroups"]
    assert told["eye"]["left"]["auc"]["low"] is None
    assert "9 groups are fewer than 10" in told["eye"]["left"]["auc"]["reason"]
    assert told["eye"]["right"]["auc"]["low"] is not None
    assert told["label"]["0"]["auc"] == {
        "value": None, "low": None, "high": None, "reason": "no image of class1",
    }  # fmt: skip


def test_without_columns_nothing_is_added():
    one = made()
    assert "subgroups" not in score(one)["test"]
    with_columns = score(one, subgroups={"x": ["a"] * 120})
    del with_columns["test"]["subgroups"]
    assert with_columns == score(one)


def test_values_stand_as_people_count_and_those_not_given_last():
    values = (["scanner 10", "", "scanner 2", None, float("nan"), " scanner 1 "] * 20)[:120]
    told = score(made(), subgroups={"scanner": values})["test"]["subgroups"]["scanner"]
    assert list(told) == ["scanner 1", "scanner 2", "scanner 10", ""]
    assert told[""]["images"]["value"] == 60


def test_many_numbers_are_cut_at_the_quartiles_of_the_training_images():
    ages = [*range(1, 101), *range(1000, 1020), None]
    learnt = [True] * 100 + [False] * 21
    found = assign_subgroups({"age": ages}, learnt)["age"]
    low, middle, high = np.percentile(np.arange(1, 101), (25, 50, 75))
    for age, name in zip(ages[:-1], found[:-1], strict=True):
        place = 1 + sum(age >= edge for edge in (low, middle, high))
        assert name.startswith(f"Q{place}: ")
    assert sorted(set(found[:100])) == [
        "Q1: under 25.75", "Q2: 25.75 to under 50.5", "Q3: 50.5 to under 75.25", "Q4: 75.25 and over",
    ]  # fmt: skip
    assert found[100] == "Q4: 75.25 and over"
    assert found[-1] == ""
    assert assign_subgroups({"age": found}, learnt)["age"] == found


def test_without_training_images_all_are_cut_and_few_numbers_are_not():
    assert set(assign_subgroups({"x": list(range(20))}, [False] * 20)["x"]) == {
        "Q1: under 4.75", "Q2: 4.75 to under 9.5", "Q3: 9.5 to under 14.25", "Q4: 14.25 and over",
    }  # fmt: skip
    assert not is_binned(list(range(12)))
    assert is_binned(list(range(13)))
    assert assign_subgroups({"x": [1, 2.5, "3"]}, [True] * 3)["x"] == ("1", "2.5", "3")


def test_where_many_share_one_number_there_are_fewer_ranges():
    packs = [0] * 80 + list(range(1, 21))
    found = assign_subgroups({"packs": packs}, [True] * 100)["packs"]
    assert set(found) == {"Q2: 0 and over"}
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
def test_every_image_has_one_subgroup(values, learnt):
    mask = [row < learnt for row in range(len(values))]
    found = assign_subgroups({"x": values}, mask)["x"]
    assert len(found) == len(values)
    for value, name in zip(values, found, strict=True):
        assert (name == "") == (value is None or value != value)


def test_too_many_texts_and_wrong_lengths_are_refused_together_without_a_value():
    names = [f"Mrs {row}" for row in range(31)]
    with pytest.raises(RequestError) as caught:
        assign_subgroups({"name": names, "short": ["a"], "good": ["a"] * 31}, [True] * 31)
    text = str(caught.value)
    assert "'name' has 31 different texts" in text
    assert "'short' has 1 values for 31 images" in text
    assert "Mrs" not in text
    assert "good" not in text
    assert assign_subgroups({"name": [*names[:30], "Mrs 1"]}, [True] * 31)


HOSTILE = ("=cmd|' /C calc'!A1", "<script>alert(1)</script>", "../../etc/passwd", 'a,b\n"c"', "prob_x")


def test_predictions_hold_the_columns_at_the_end_and_give_them_back(tmp_path):
    columns = {name: tuple(HOSTILE[row % 5] for row in range(120)) for name in HOSTILE[:4]}
    one = dataclasses.replace(made(), subgroups=columns)
    file = tmp_path / "predictions.csv"
    write_predictions(file, one)
    with file.open(newline="") as opened:
        header, *rows = list(csv.reader(opened))
    assert header[6:8] == ["prob_class0", "prob_class1"]
    assert header[8:] == [f"subgroup_{name}" for name in columns]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in (header, *rows) for cell in row)
    again = read_predictions(file)
    assert again.class_names == one.class_names
    assert again.subgroups == columns
    assert json.dumps(score(again)) == json.dumps(score(one))
    assert set(score(again)["test"]["subgroups"]) == set(columns)


def test_rows_that_are_taken_keep_their_values():
    one = dataclasses.replace(made(), subgroups={"n": tuple(str(row) for row in range(120))})
    assert one.take([5, 3]).subgroups == {"n": ("5", "3")}
    assert one.of("test").subgroups == one.subgroups
