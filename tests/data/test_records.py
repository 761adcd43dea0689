from dataclasses import replace

import pytest

from kerastl.data import Collection, Record


@pytest.fixture
def collection(tmp_path):
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
def test_fingerprint_covers_every_field_of_a_record(collection, edit):
    first, second = collection.records
    assert (
        replace(collection, records=(replace(first, **edit), second)).fingerprint()
        != collection.fingerprint()
    )


def test_fingerprint_distinguishes_none_from_empty_text(collection):
    first, second = collection.records
    edits = [
        {"label": None, "group": None},
        {"label": "", "group": None},
        {"label": None, "group": ""},
        {"label": "ab", "group": "c"},
        {"label": "a", "group": "bc"},
        {"label": 'a", "b', "group": None},
    ]
    prints = {replace(collection, records=(replace(first, **edit), second)).fingerprint() for edit in edits}
    assert len(prints) == len(edits)


def test_fingerprint_ignores_order(collection):
    first, second = collection.records
    again = replace(first, group="patient 9")
    orders = [(first, again, second), (again, first, second), (second, again, first)]
    assert len({replace(collection, records=records).fingerprint() for records in orders}) == 1
    assert replace(collection, records=(first, second)).fingerprint() == collection.fingerprint()


def test_fingerprint_depends_on_content_not_location(collection, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    records = []
    for record in collection.records:
        record.file.rename(moved / record.path)
        records.append(replace(record, file=moved / record.path))
    other = Collection(moved, collection.class_names, tuple(records))
    for record in collection.records:
        record.file.write_bytes(record.path.encode())
    assert other.fingerprint() == collection.fingerprint()
    (moved / "a").write_bytes(b"another image")
    assert other.fingerprint() != collection.fingerprint()
