from dataclasses import replace

import pytest

from kerastl.data import Collection, Record


@pytest.fixture
def two(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    return Collection(
        tmp_path,
        ("x", "y"),
        (
            Record("a", tmp_path / "a", "x", "train", "patient 1", "north"),
            Record("b", tmp_path / "b", "y", "test", "patient 2", "north"),
        ),
    )


@pytest.mark.parametrize(
    "edit",
    [
        {"path": "c"},
        {"label": "y"},
        {"label": None},
        {"split": "val"},
        {"split": None},
        {"group": "patient 3"},
        {"group": None},
        {"domain": "south"},
        {"domain": None},
    ],
    ids=str,
)
def test_whatever_is_said_of_a_image_is_in_the_fingerprint(two, edit):
    first, second = two.records
    assert replace(two, records=(replace(first, **edit), second)).fingerprint() != two.fingerprint()


def test_nothing_is_not_the_empty_text_and_words_do_not_run_together(two):
    first, second = two.records
    edits = [
        {"label": None, "group": None},
        {"label": "", "group": None},
        {"label": None, "group": ""},
        {"label": "ab", "group": "c"},
        {"label": "a", "group": "bc"},
        {"label": 'a", "b', "group": None},
    ]
    prints = {replace(two, records=(replace(first, **edit), second)).fingerprint() for edit in edits}
    assert len(prints) == len(edits)


def test_order_does_not_matter_even_where_one_image_stands_twice(two):
    first, second = two.records
    again = replace(first, group="patient 9")
    orders = [(first, again, second), (again, first, second), (second, again, first)]
    assert len({replace(two, records=records).fingerprint() for records in orders}) == 1
    assert replace(two, records=(first, second)).fingerprint() == two.fingerprint()


def test_place_does_not_matter_and_content_does(two, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    records = []
    for record in two.records:
        record.file.rename(moved / record.path)
        records.append(replace(record, file=moved / record.path))
    other = Collection(moved, two.class_names, tuple(records))
    for record in two.records:
        record.file.write_bytes(record.path.encode())
    assert other.fingerprint() == two.fingerprint()
    (moved / "a").write_bytes(b"another image")
    assert other.fingerprint() != two.fingerprint()
