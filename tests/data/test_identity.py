"""Spellings of one value are equal, missing values are missing, and nothing is merged without a message."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_images import uniform_image, write

from kerastl.data import Collection, ImageDataset, Record, read_folder, read_table
from kerastl.data.identity import is_missing, normalize
from kerastl.data.readers.table import Columns
from kerastl.errors import Problems

NUMBERS = [
    "7",
    "7.0",
    "7.",
    "07",
    "007",
    "7e0",
    "0.7E1",
    "+7",
    "7,0",
    "\uff17",
    "\u0667",
    "7.000",
    "70e-1",
    "'007",
]
THOUSANDS = [
    "1000",
    "1,000",
    "1 000",
    "1\u202f000",
    "1\u00a0000",
    "1'000",
    "1\u2019000",
    "1e3",
    "1000.0",
    "1,000.00",
]
CODES = ["P7", "p7", "P07", "p007", "\uff307", "\u200bP7", "P\u00ad7", "P7\ufeff", "P\u20607", "P7\ufe0f"]
NAMES = ["St. Mary", "ST. MARY", "St.  Mary", "St.\u00a0Mary", "St.\u3000mary", "St. M\u200dary", "st.\tMary"]
ACCENTS = ["Caf\u00e9", "cafe\u0301", "CAF\u00c9"]
DASHES = ["a-1", "A\u20131", "a\u20111", "a\u22121", "a\u20141", "A-01"]
EQUAL = [
    NUMBERS,
    THOUSANDS,
    CODES,
    NAMES,
    ACCENTS,
    DASHES,
    ["Straße", "STRASSE", "strasse"],
    ["0", "-0", "0.0", "000"],
]
MISSING = [
    "nan",
    "NaN",
    "None",
    "NONE",
    "N/A",
    "n/a",
    "NULL",
    "null",
    "-",
    "\u2013",
    "--",
    "#N/A",
    "<NA>",
    "NaT",
    "\u200b",
    "\\N",
    "?",
]


@pytest.mark.parametrize("spellings", EQUAL, ids=lambda spellings: spellings[0])
def test_spellings_of_one_value_are_equal(spellings):
    assert len({normalize(text) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("7", "70"), ("7", "-7"), ("7", "7.01"), ("P7", "P70"), ("P7", "P-7"), ("1.5", "15"), ("v1.05", "v1.5"), ("café", "cafe"),
     ("1" * 40, "1" * 39 + "2"), ("1e5", "1e6"), ("10", "1"), ("a 1", "a1"), ("1.2.840.10", "1.2.840.1"), ("+", "-")],
)  # fmt: skip
def test_different_values_stay_different(first, second):
    assert normalize(first) != normalize(second)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_normalization_is_idempotent_and_ignores_surrounding_spaces(text):
    assert normalize(normalize(text)) == normalize(text)
    assert normalize(f" \u00a0{text}\u200b\t") == normalize(text)


@pytest.mark.parametrize("text", MISSING)
def test_words_for_missing_values_are_missing_unless_exact(text):
    assert is_missing(text)
    assert not is_missing(text, "exact")


@pytest.mark.parametrize(
    "text", ["0", "no", "negative", "unknown", "Nancy", "Nona", "N", "+", "none of these", "nan1"]
)
def test_other_words_are_values(text):
    assert not is_missing(text)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(8):
        write(folder / f"{index}.png", uniform_image(index))
    return folder


def table_of(root, **cells: list[str]):
    """Write a table of eight images. Other columns have a valid value in each row."""
    columns = {
        "label": ["a", "b"] * 4,
        "patient_id": list("stuvwxyz"),
        "site": ["A"] * 8,
        "sex": ["f", "m"] * 4,
    } | cells
    lines = [",".join(["path", *columns])]
    for row in range(8):
        quoted = ['"' + values[row] + '"' for values in columns.values()]
        lines.append(",".join([f"{row}.png", *quoted]))
    (root / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return root / "table.csv"


SEX = Columns(subgroups=("sex",))


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["label", "patient_id", "site", "sex"]))
def test_two_spellings_in_a_column_are_rejected_with_their_lines(root, data, column):
    spellings = data.draw(st.sampled_from([NUMBERS, THOUSANDS, CODES, NAMES, ACCENTS, DASHES]))
    first, second = data.draw(
        st.lists(st.sampled_from(spellings), min_size=2, max_size=2, unique_by=str.strip)
    )
    cells = [first, "other", "third", "other", "third", second.replace("\t", " \t"), "other", "third"]
    if len({text.strip() for text in (first, second)}) < 2:
        return
    path = table_of(root, **{column: cells})
    with pytest.raises(Problems) as caught:
        read_table(path, columns=SEX)
    assert f"column '{column}'" in str(caught.value)
    assert "(line 2)" in str(caught.value)
    assert "(line 7)" in str(caught.value)
    assert "data.reader.identity=exact" in str(caught.value)
    exact = read_table(path, columns=SEX, identity="exact")
    assert len(exact.records) == 8


def test_an_equal_patient_is_not_divided_by_the_split(root):
    """20 patients, one with two spellings: rejected, so no split can divide it."""
    with pytest.raises(
        Problems, match=r"'7' \(line 2\) and '7.0' \(line 3\) are spellings of the same value"
    ):
        read_table(table_of(root, patient_id=["7", "7.0", "8", "9", "10", "11", "12", "13"]))


def test_equal_patients_of_different_sites_are_rejected_when_one_site_is_read(root):
    path = table_of(root, site=["A", "B"] * 4, patient_id=["P1", "p1", "P2", "P3", "P4", "P5", "P6", "P7"])
    with pytest.raises(Problems, match=r"'P1' \(line 2\) and 'p1' \(line 3\)"):
        read_table(path, domains=("A",))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(MISSING))
def test_missing_words_are_missing_in_every_column(root, word):
    cells = ["x", word, "y", "x", "y", "x", "y", "x"]
    text = dict.fromkeys(("label", "patient_id", "site", "sex"), cells)
    collection = read_table(table_of(root, **text), columns=SEX)
    record = collection.records[1]
    assert (record.label, record.group, record.domain, record.subgroups) == (None, None, None, (("sex", ""),))
    notes = "\n".join(collection.notes)
    assert "1 unlabeled image" in notes
    assert "1 image without a value in column 'patient_id'" in notes
    if word.strip() and word.isascii():
        assert f"Column 'patient_id': {word!r} (line 3) is read as a missing value" in notes
    exact = read_table(table_of(root, **text), columns=SEX, identity="exact").records[1]
    assert exact.label == exact.group == word


def test_numbers_with_and_without_a_prefix_are_reported_as_possibly_one_patient(root):
    cells = ["1", "P01", "10", "pat-10", "P 2", "3", "sub_4", "P5"]
    (note,) = [text for text in read_table(table_of(root, patient_id=cells)).notes if "prefix" in text]
    assert "2 values with a prefix and without it, e.g. '1' (line 2) and 'P01' (line 3)" in note


@pytest.mark.parametrize(
    "cells", [["P1", "P2"], ["1", "2"], ["1", "P2"], ["1", "1a"], ["1", "A1B"], ["2", "scan2-3"]]
)
def test_different_patients_are_not_reported_as_one(root, cells):
    assert "prefix" not in " ".join(read_table(table_of(root, patient_id=cells * 4)).notes)


def test_several_missing_words_are_reported_in_the_plural(root):
    notes = "\n".join(read_table(table_of(root, patient_id=["NA", "-", *"abcdef"])).notes)
    assert (
        "'NA' (line 2), '-' (line 3) are read as missing values. If they are values, set identity: exact."
        in notes
    )


def test_images_without_a_patient_are_groups_of_their_own(root):
    table = table_of(root, patient_id=["nan", "NaN", "-", "", "N/A", "null", "none", "x"])
    groups = [record.group for record in read_table(table).records]
    assert groups == [None] * 7 + ["x"]


def test_numbers_of_a_subgroup_column_share_their_first_spelling(root):
    table = table_of(root, sex=["50.0", "50", "61", "50.00", "", "61.0", "70", "80"])
    values = [dict(record.subgroups)["sex"] for record in read_table(table, columns=SEX).records]
    assert values == ["50.0", "50.0", "61", "50.0", "", "61", "70", "80"]


def test_rows_without_a_domain_are_reported(root):
    table = table_of(root, site=["A", "A", "nan", "B", "B", "", "A", "A"])
    collection = read_table(table, domains=("A",))
    assert len(collection.records) == 4
    assert any("2 rows without a domain" in note for note in collection.notes)


@pytest.mark.parametrize(
    "names",
    [
        ("Cat", "cat"),
        ("1", "01"),
        ("1", "1.0"),
        ("a b", "a  b"),
        ("caf\u00e9", "cafe\u0301"),
        ("x-y", "x\u2013y"),
    ],
)
def test_class_folders_of_one_name_are_rejected_unless_exact(tmp_path, names):
    for name in (*names, "other"):
        write(tmp_path / name / "0.png", uniform_image(1))
    with pytest.raises(Problems, match=r"spellings of the same value(.|\n)*identity"):
        read_folder(tmp_path)
    assert set(read_folder(tmp_path, identity="exact").class_names) == {*names, "other"}


@pytest.mark.parametrize("name", ["nan", "None", "NULL", "-"])
def test_a_class_folder_named_like_a_missing_value_is_rejected_unless_exact(tmp_path, name):
    for folder in (name, "a", "b"):
        write(tmp_path / folder / "0.png", uniform_image(1))
    with pytest.raises(Problems, match="means that the class is missing"):
        read_folder(tmp_path)
    assert name in read_folder(tmp_path, identity="exact").class_names


def test_groups_of_a_pattern_are_compared(tmp_path):
    for name in ("a/P1_0.png", "b/p01_0.png", "b/P2_0.png"):
        write(tmp_path / name, uniform_image(1))
    with pytest.raises(Problems, match=r"'P1' \(a/P1_0.png\) and 'p01' \(b/p01_0.png\)"):
        read_folder(tmp_path, group_pattern="([Pp][0-9]+)_")
    assert len(read_folder(tmp_path, group_pattern="([Pp][0-9]+)_", identity="exact").records) == 3


def test_a_dataset_can_have_the_class_names_of_an_exact_reader(tmp_path):
    for name in ("Cat", "cat", "none"):
        write(tmp_path / name / "0.png", uniform_image(1))
    dataset = ImageDataset(read_folder(tmp_path, identity="exact"), image_size_px=8)
    assert sorted(dataset.labels.tolist()) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(0, 99))
def test_records_made_in_python_are_compared_like_cells(data, seed):
    """A patient written in two ways would be in two splits."""
    spellings = data.draw(st.sampled_from([NUMBERS, THOUSANDS, CODES, NAMES, ACCENTS, DASHES]))
    first, second = data.draw(st.lists(st.sampled_from(spellings), min_size=2, max_size=2, unique=True))
    groups = data.draw(st.permutations([first, second, *"stuvwxyz"]))
    records = tuple(
        Record(f"{number}.png", Path(f"{number}.png"), "ab"[number % 2], group=group)
        for number, group in enumerate([*groups, *(f"q{index}" for index in range(20))])
    )
    options = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": seed}
    collection = Collection(None, ("a", "b"), records)
    with pytest.raises(Problems, match=r"groups: .* are spellings of the same value"):
        collection.split(**options)
    assert len(replace(collection, identity="exact").split(**options).records) == 30
    labels = (first, second, "other")
    records = tuple(replace(record, group=None, label=labels[row % 3]) for row, record in enumerate(records))
    with pytest.raises(Problems, match=r"class names: .* are spellings of the same value"):
        Collection(None, labels, records).split(**options)


def test_a_split_of_an_exact_reader_keeps_its_groups_apart(root):
    table = table_of(root, patient_id=["P7", "p7", "07", "7", "x", "X", "y", "Y"])
    collection = read_table(table, identity="exact").split(val_fraction=0.2, test_fraction=0.2, seed=1)
    assert len({record.group for record in collection.records}) == 8


SIMILAR_COLUMNS = [
    ("group", ["PatientID", "patient", "Subject ID", "case_id", "MRN", "Group", "study-id"]),
    ("label", ["class", "Class", "diagnosis", "Labels", "target", "klass"]),
    ("split", ["Split", "fold", "subset", "is_test", "Partition"]),
    ("domain", ["hospital", "Center", "institution", "Domain"]),
]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(SIMILAR_COLUMNS))
def test_a_column_that_is_not_used_for_its_likely_purpose_is_reported(root, data, names):
    key, similar = names
    column = data.draw(st.sampled_from(similar))
    cells = {"label": ["a", "b"] * 4} | {column: list("stuvwxyz")}
    rows = [",".join(["path", *cells])] + [
        ",".join([f"{row}.png", *(values[row] for values in cells.values())]) for row in range(8)
    ]
    text = "\n".join(rows) if key != "label" else "\n".join(rows).replace("label,", "about,")
    (root / "likely.csv").write_text(text)
    notes = "\n".join(read_table(root / "likely.csv").notes)
    assert f"column {column!r} is not used. If it is the {key} column, set columns.{key}." in notes


@pytest.mark.parametrize("column", ["Label", "LABEL", "la\u200bbel", "\uff4cabel"])
def test_two_columns_of_one_name_are_rejected(root, column):
    (root / "two.csv").write_text(f"path,label,{column}\n0.png,a,b\n1.png,b,b\n", encoding="utf-8")
    with pytest.raises(Problems, match=r"column names: 'label' and .* are spellings of the same value"):
        read_table(root / "two.csv")
