"""Files with the same bytes: kept in one split, or rejected with the files and the key that accepts them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_images import encoded, noise

from kerastl.data import Collection, Record, group_key, read_folder, split, split_target
from kerastl.data.duplicates import find_copies, join_copies, names_of_copies
from kerastl.errors import Problems, RequestError
from kerastl.workflows.domains import check_distinct_images

OPTIONS = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 3}


def image(number: int, label: str | None, content: int | None = None, **fields) -> Record:
    """Return a record without a file. Images with the same `content` are copies."""
    digest = hashlib.sha256(str(number if content is None else content + 1000).encode()).hexdigest()
    return Record(f"{number}.png", Path(f"/none/{number}.png"), label, sha256=digest, **fields)


def collection_of(*records: Record) -> Collection:
    """Return 20 images each of the classes a and b, and the given ones."""
    others = [image(100 + number, "ab"[number % 2]) for number in range(40)]
    if records[0].split:
        others = [
            replace(record, split="train" if number < 30 else "test") for number, record in enumerate(others)
        ]
    return Collection(Path("/none"), ("a", "b"), (*records, *others))


def splits_of(collection: Collection) -> dict[str, str]:
    return {record.path: record.split for record in collection.records}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(2, 4), min_size=1, max_size=6),
    st.integers(0, 99),
    st.sampled_from(["auto", "keep_together"]),
)
def test_copies_stay_in_one_split_and_are_reported(sizes, seed, duplicates):
    records = [
        image(10 * row + column, "ab"[row % 2], row)
        for row, size in enumerate(sizes)
        for column in range(size)
    ]
    divided = split(collection_of(*records), **OPTIONS | {"seed": seed}, duplicates=duplicates)
    splits = splits_of(divided)
    for row, size in enumerate(sizes):
        assert len({splits[f"{10 * row + column}.png"] for column in range(size)}) == 1
    assert f"same bytes): {sum(sizes) - len(sizes)} of {len(divided.records)} images" in divided.notes[-1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_copies_join_the_groups_of_patients(seed):
    """p1 and p2 share an image, p2 and p3 another one: all three are one unit, and keep their names."""
    records = [image(0, "a", 1, group="p1"), image(1, "a", 1, group="p2"), image(2, "a", 2, group="p2"),
               image(3, "a", 2, group="p3"), image(4, "a", group="p1"), image(5, "a", group="p3"), image(6, "a", group="p4")]  # fmt: skip
    divided = split(collection_of(*records), **OPTIONS | {"seed": seed})
    splits = splits_of(divided)
    assert len({splits[f"{number}.png"] for number in range(6)}) == 1
    assert [record.group for record in divided.records[:7]] == ["p1", "p2", "p2", "p3", "p1", "p3", "p4"]
    assert len({group_key(record) for record in divided.records[:7]}) == 2


def test_data_without_copies_is_split_as_before():
    data = collection_of(image(0, "a"))
    unchecked = data.with_records(replace(record, sha256="") for record in data.records)
    assert splits_of(split(data, **OPTIONS)) == splits_of(split(unchecked, **OPTIONS))


REJECTED = {
    "two labels": (
        (("a", None), ("b", None)),
        ["auto", "refuse"],
        "has the labels 'a' and 'b'",
        "keep_together",
    ),
    "two given splits": (
        (("a", "train"), ("a", "test")),
        ["auto", "refuse", "keep_together"],
        "is in train and test",
        "allow",
    ),
    "three given splits": (
        (("a", "train"), ("a", "val"), ("a", "test")),
        ["auto"],
        "is in train, val and test",
        "allow",
    ),
    "labels and splits": (
        (("a", "train"), ("b", "test")),
        ["auto", "keep_together"],
        "is in train and test",
        "allow",
    ),
    "one label": ((("a", None), ("a", None)), ["refuse"], "the same image", "keep_together"),
}


@pytest.mark.parametrize(("cells", "modes", "reason", "value"), REJECTED.values(), ids=REJECTED)
def test_copies_are_rejected_with_their_files_and_the_key_that_accepts_them(cells, modes, reason, value):
    data = collection_of(
        *(image(number, label, 0, split=given) for number, (label, given) in enumerate(cells))
    )
    for duplicates in modes:
        with pytest.raises(Problems) as caught:
            split(data, **OPTIONS, duplicates=duplicates)
        assert reason in str(caught.value)
        assert all(f"{number}.png" in str(caught.value) for number in range(len(cells)))
        assert f"data.duplicates={value}" in str(caught.value)
    accepted = split(data, **OPTIONS, duplicates=value)
    assert len(accepted.records) == len(data.records)
    note = accepted.notes[-1]
    assert "Copies (files with the same bytes)" in note
    assert ("1 image with different labels, e.g. 0.png and 1.png" in note) == ("b" in dict(cells))


def test_allowed_copies_may_be_in_different_splits():
    data = collection_of(*(image(number, "a", 0) for number in range(12)))
    assert len(set(splits_of(split(data, **OPTIONS, duplicates="allow")).values())) == 3
    keys = [group_key(record) for record in join_copies(data, "allow").records]
    assert len(set(keys)) == len(keys)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([None, "p1", "p2", "p3"]), st.sampled_from("AB")),
        max_size=12,
    )
)
def test_images_have_one_name_if_a_chain_of_copies_and_patients_connects_them(rows):
    records = [
        image(number, "a", content, group=group, domain=domain)
        for number, (content, group, domain) in enumerate(rows)
    ]
    names = names_of_copies(records)
    connected = [{number} for number in range(len(rows))]
    for _ in rows:  # repeat until all chains are followed
        for number, (content, group, domain) in enumerate(rows):
            for other, (other_content, *patient) in enumerate(rows):
                if content == other_content or (group and patient == [group, domain]):
                    connected[number] |= connected[other]
    for number, others in enumerate(connected):
        patients = {(rows[other][1] or other, rows[other][2]) for other in others}
        assert bool(names[number]) == (len(patients) > 1), "a patient may have an image twice"
        if names[number]:
            assert {other for other, name in enumerate(names) if name == names[number]} == others


def test_all_copies_are_counted_and_the_first_are_listed():
    records = [image(2 * row + column, "ab"[column], row) for row in range(30) for column in range(2)]
    with pytest.raises(Problems) as caught:
        split(collection_of(*records), **OPTIONS)
    assert len(caught.value.problems) == 30
    assert "and 20 more" in str(caught.value)


def test_copies_in_one_given_split_are_kept_with_a_note():
    data = collection_of(image(0, "a", 0, split="train"), image(1, "a", 0, split="train"))
    divided = split(data, **OPTIONS)
    assert splits_of(divided)["0.png"] == splits_of(divided)["1.png"], "val is taken from train"
    assert "0.png and 1.png" in divided.notes[-1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_copies_of_a_target_test_image_are_not_trained_on(seed):
    copies = [
        image(number, "ab"[row % 2] if number % 2 else None, row)
        for row in range(8)
        for number in (2 * row, 2 * row + 1)
    ]
    options = {"groups_per_class": 2, "test_fraction": 0.4, "seed": seed}
    for labels in ("few", "none"):
        splits = splits_of(split_target(collection_of(*copies), labels=labels, **options))
        for row in range(8):
            if splits[f"{2 * row + 1}.png"] == "target_test":
                assert f"{2 * row}.png" not in splits, "the unlabeled copy is left out"


def test_copies_across_domains_are_rejected_unless_allowed():
    source, target = (
        collection_of(image(0, "a", 7)),
        Collection(None, ("a",), (image(900, "a", 7), image(901, "a"))),
    )
    with pytest.raises(
        RequestError,
        match=r"1 image of the target is .*900\.png \(0\.png in the source\).*data\.duplicates=allow",
    ):
        check_distinct_images(source, target)
    check_distinct_images(source, target, duplicates="allow")
    with pytest.raises(RequestError, match=r"target\.domains"):
        check_distinct_images(source, source, duplicates="allow")


@pytest.fixture
def photos(tmp_path):
    for label in ("cat", "dog"):
        for number in range(8):
            file = tmp_path / "photos" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(noise(8, 8, seed=number + 100 * (label == "dog"))))
    return tmp_path / "photos"


def test_files_are_compared_by_content_in_python(photos, capsys):
    content = (photos / "cat" / "0.png").read_bytes()
    (photos / "cat" / "copy.jpg").write_bytes(content)
    divided = read_folder(photos).split(**OPTIONS)
    assert splits_of(divided)["cat/0.png"] == splits_of(divided)["cat/copy.jpg"]
    assert "1 of 17 images, e.g. cat/0.png and cat/copy.jpg" in capsys.readouterr().err
    (photos / "dog" / "other.png").write_bytes(content)
    with pytest.raises(
        Problems, match=r"cat/0\.png, cat/copy\.jpg and dog/other\.png: the same image has the labels"
    ):
        read_folder(photos).split(**OPTIONS)
    assert read_folder(photos).split(**OPTIONS, duplicates="allow")


def test_links_and_hard_links_are_copies(photos):
    (photos / "dog" / "link.png").symlink_to(photos / "cat" / "0.png")
    (photos / "dog" / "hard.png").hardlink_to(photos / "cat" / "1.png")
    with pytest.raises(Problems) as caught:
        read_folder(photos).split(**OPTIONS)
    assert len(caught.value.problems) == 2


def test_only_files_of_equal_size_are_read(photos, monkeypatch):
    (photos / "cat" / "9.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    (photos / "cat" / "long.png").write_bytes((photos / "cat" / "0.png").read_bytes() + b"end")
    read = []
    monkeypatch.setattr(
        "kerastl.data.duplicates.hash_contents", lambda files: [read.append(f) or f.name for f in files]
    )
    find_copies(read_folder(photos).records)
    assert photos / "cat" / "long.png" not in read
    assert {photos / "cat" / "0.png", photos / "cat" / "9.png"} <= set(read)


def test_a_check_hashes_each_file_with_its_only_read(checking, checking_again, monkeypatch):
    contents = {f"{number}.png": encoded(noise(seed=number)) for number in range(4)} | {
        "copy.png": encoded(noise(seed=0))
    }
    contents["photo.tif"] = encoded(noise(seed=9), "TIFF")
    first = checking(contents)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} is read again"))
    monkeypatch.setattr(Path, "open", lambda self, *_, **__: pytest.fail(f"{self} is read again"))
    for result in (first, checking_again(first)):
        hashes = {record.path: record.sha256 for record in result.collection.records}
        assert hashes == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        copies = find_copies(result.collection.records)
        assert [sorted(record.path for record in same) for same in copies] == [["0.png", "copy.png"]]
        result.collection.fingerprint()
