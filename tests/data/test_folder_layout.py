"""Which folders are classes, splits, masks or wrappers: found, or rejected with every reading and the key to set."""

import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastl.data import Collection, read_folder
from kerastl.errors import KerastlError, RequestError

WORDS = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test", "testing"],
}
ENDINGS = ["", "set", "_set", "-data", " images", "_2017", "Split"]
CASES = [str.lower, str.upper, str.title]
CLASSES = st.sampled_from(
    [("cat", "dog"), ("0", "1", "2"), ("benign", "malignant"), ("train_station", "bus stop")]
)


def below(root: Path, *levels: tuple[str, ...]) -> Path:
    """Write one file into each folder of the product of the levels."""
    for number, parts in enumerate(product(*levels)):
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(bytes([number]))
    return root


def counts(collection: Collection) -> Counter:
    return Counter((record.split, record.label) for record in collection.records)


@st.composite
def split_names(draw) -> dict[str, str]:
    """Return the folder name of each split, written in one style. There is always train, and one more."""
    kinds = draw(st.sampled_from([("train", "test"), ("train", "val"), ("train", "val", "test")]))
    ending, case = draw(st.sampled_from(ENDINGS)), draw(st.sampled_from(CASES))
    prefix = draw(st.sampled_from(["", "seg_", "asl-alphabet_", "01 "]))
    return {kind: prefix + case(draw(st.sampled_from(WORDS[kind])) + ending) for kind in kinds}


@settings(max_examples=25, deadline=None)
@given(
    split_names(),
    CLASSES,
    st.sampled_from(["splits first", "classes first", "repeated names"]),
    st.integers(0, 2),
)
def test_split_folders_of_any_name_are_found_at_any_level(names, classes, order, wrappers):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        inner = root.joinpath(*["archive", "dataset"][:wrappers])
        for split in names.values():
            levels = {
                "splits first": ((split,), classes),
                "classes first": (classes, (split,)),
                "repeated names": ((split,), (split,), classes),
            }
            below(inner, *levels[order])
        collection = read_folder(root)
    assert counts(collection) == {(split, label): 1 for split in names for label in classes}
    assert set(collection.class_names) == set(classes)
    notes = "\n".join(collection.notes)
    assert all(name in notes for name in names.values()), "the splits are reported"
    assert all(kind in notes for kind in {"val", "test"} - names.keys()), "missing splits are reported"


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(
        [
            ("2019", "2020"),
            ("hospital a", "hospital b", "c"),
            ("train", "extra"),
            ("val", "test"),
            ("v1", "test"),
        ]
    ),
    CLASSES,
    st.booleans(),
)
def test_two_levels_of_folders_with_equal_names_are_rejected_with_both_interpretations(
    upper, classes, is_partial
):
    with tempfile.TemporaryDirectory() as folder:
        root = below(Path(folder, "photos"), upper, classes)
        if is_partial:
            below(root, upper[:1], ("rare",))
        with pytest.raises(RequestError) as caught:
            read_folder(root)
        message = str(caught.value)
        assert "class_level: 1 reads the classes" in message
        assert "class_level: 2 reads the classes" in message
        assert all(repr(name) in message for name in (*upper, *classes))
        assert "data.reader.class_level=1" in message
        assert set(read_folder(root, class_level=1).class_names) == set(upper)
        assert set(read_folder(root, class_level=2).class_names) >= set(classes)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["images", "Image", "imgs", "JPEGImages", "CT slices"[3:]]),
    st.sampled_from(
        ["masks", "mask", "labels", "Annotations", "ground_truth", "SegmentationClass"[:12], "gt"]
    ),
    CLASSES,
    st.sampled_from(["pairs first", "classes first", "in splits"]),
)
def test_masks_next_to_images_are_not_read(images, masks, classes, order):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "scans")
        if order == "pairs first":
            below(root, (images, masks), classes)
        elif order == "classes first":
            below(root, classes, (images, masks))
        else:
            below(root, ("train", "test"), classes, (images, masks))
        collection = read_folder(root)
        unlabeled = read_folder(root, labelled=False)
    assert set(collection.class_names) == set(classes)
    paths = [Path(record.path).parts for record in (*collection.records, *unlabeled.records)]
    assert all(images in parts and masks not in parts for parts in paths)
    assert any("in folders of masks" in note and f"{masks}/" in note for note in collection.notes)


@pytest.mark.parametrize("ending", ["_mask", "_mask_1", "-seg", " Labels", "_GT", "_annotation2"])
def test_masks_with_the_names_of_images_are_not_read(tmp_path, ending):
    for name in ("benign", "normal"):
        below(tmp_path, (name,))
        for image in ("scan (1)", "scan (2)", "other_mask"):
            (tmp_path / name / f"{image}.png").write_bytes(image.encode())
        (tmp_path / name / f"scan (1){ending}.png").write_bytes(b"mask")
    collection = read_folder(tmp_path)
    assert not any(ending in record.path for record in collection.records if "other" not in record.path)
    assert sum("other_mask" in record.path for record in collection.records) == 2
    assert any("2 masks with the name of an image" in note for note in collection.notes)


UNCLEAR = {
    "splits without train": (("val", "test"), ("cat", "dog")),
    "a single split that is not train": (("test",), ("cat", "dog")),
    "splits next to another folder": (("train", "test", "extra"), ("cat", "dog")),
    "splits of each site": (("site a", "site b"), ("train", "test"), ("cat", "dog")),
    "classes in the names of splits": (("cat_train", "cat_test", "dog_train", "dog_test"),),
    "masks of each class": (("cat", "cat_masks", "dog", "dog_masks"),),
    "one class at each site": (("site a", "site b"), ("benign",)),
    "train and validation in one folder": (("trainval", "test"), ("cat", "dog")),
}


@pytest.mark.parametrize("levels", UNCLEAR.values(), ids=UNCLEAR)
def test_other_unclear_folders_are_rejected(tmp_path, levels):
    with pytest.raises(RequestError, match=r"not clear which folders are the classes(.|\n)*class_level"):
        read_folder(below(tmp_path / "photos", *levels))


def test_a_class_with_splits_next_to_one_without_is_rejected(tmp_path):
    below(tmp_path, ("cat",), ("train", "test"))
    below(tmp_path, ("dog",))
    with pytest.raises(RequestError, match="Some of them contain 'test' and 'train'"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "car", "plane"),
        ("train_station", "test_tube", "cow"),
        ("mask", "no_mask"),
        ("1", "2", "mask"),
    ],
)
def test_classes_may_be_named_like_splits_or_masks(tmp_path, names):
    assert set(read_folder(below(tmp_path, names)).class_names) == set(names)


def test_split_folders_without_classes_are_rejected(tmp_path):
    with pytest.raises(RequestError, match=r"test has no subfolders.*class_level: 1"):
        read_folder(below(tmp_path, ("train", "test")))
    assert read_folder(tmp_path, class_level=1).class_names == ("test", "train")


def test_class_level_keeps_splits_above_and_below(tmp_path):
    above = read_folder(
        below(tmp_path / "above", ("train", "test"), ("site a", "site b"), ("cat", "dog")), class_level=3
    )
    assert counts(above) == {(split, label): 2 for split in ("train", "test") for label in ("cat", "dog")}
    under = read_folder(below(tmp_path / "under", ("cat", "dog"), ("train", "test")), class_level=1)
    assert counts(under) == {(split, label): 1 for split in ("train", "test") for label in ("cat", "dog")}
    pooled = read_folder(below(tmp_path / "pooled", ("val", "test"), ("cat", "dog")), class_level=2)
    assert {record.split for record in pooled.records} == {None}
    assert any(
        "'val' and 'test' are not used as splits" in note or "'test' and 'val'" in note
        for note in pooled.notes
    )
    with pytest.raises(RequestError, match="class_level: 4 is deeper"):
        read_folder(tmp_path / "pooled", class_level=4)


def test_folders_of_patients_are_not_classes(tmp_path):
    below(tmp_path, ("benign", "malignant"), ("p1", "p2"))
    collection = read_folder(tmp_path, group_pattern="(p[0-9])/")
    assert collection.class_names == ("benign", "malignant")
    with pytest.raises(RequestError, match="class_level"):
        read_folder(tmp_path)


def test_a_class_folder_without_classes_names_the_folder_above(tmp_path):
    collection = read_folder(below(tmp_path / "photos", ("cat", "dog")) / "cat")
    assert collection.class_names == ()
    assert str(tmp_path / "photos") in collection.notes[1]
    with pytest.raises(KerastlError, match=str(tmp_path / "photos")):
        collection.split(val_fraction=0.2, test_fraction=0.2, seed=0)


def test_one_split_of_several_is_reported(tmp_path):
    below(tmp_path / "photos", ("train", "test"), ("cat", "dog"))
    notes = read_folder(tmp_path / "photos" / "train").notes
    assert any("'test'" in note and str(tmp_path / "photos") in note for note in notes)


def test_folders_of_the_system_and_empty_folders_are_ignored_with_a_note(tmp_path):
    below(tmp_path, ("train", "test", "__MACOSX", "@eaDir", ".cache"), ("cat", "dog"))
    (tmp_path / "train" / "bird" / "deeper").mkdir(parents=True)
    collection = read_folder(tmp_path)
    assert collection.class_names == ("cat", "dog")
    assert len(collection.records) == 4
    assert any("3 hidden folders" in note for note in collection.notes)
    assert any("1 folder without images, e.g. train/bird." in note for note in collection.notes)


def test_a_link_to_a_folder_is_not_read_in_its_place(tmp_path):
    below(tmp_path, ("train", "test"), ("cat", "dog"))
    (tmp_path / "latest").symlink_to(tmp_path / "train")
    collection = read_folder(tmp_path)
    assert counts(collection) == {
        (split, label): 1 for split in ("train", "test") for label in ("cat", "dog")
    }
    assert {Path(record.path).parts[0] for record in collection.records} == {"train", "test"}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sampled_from(["persian", "p1", "2019", "site a", "x", "left"]), min_size=2, max_size=4, unique=True
    ),
    CLASSES,
    st.booleans(),
)
def test_subfolders_of_a_class_are_reported(subfolders, classes, has_images):
    """One level too high: the classes may be animals and vehicles, or the animals and vehicles of each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        for number, name in enumerate(subfolders):
            below(root, classes[number % 2 : number % 2 + 1], (name,))
        if has_images:
            below(root, classes)
        collection = read_folder(root)
        inner = read_folder(root, class_level=2)
    assert set(collection.class_names) == set(classes if has_images else classes[:2])
    assert any("into their classes. To separate them: class_level: 2" in note for note in collection.notes)
    assert set(inner.class_names) == set(subfolders)
    assert not any("as parts" in note for note in inner.notes)


LINKS = [
    ("cat/loop", ".."),
    ("dog/self", "."),
    ("bird", "cat"),
    ("a", "dog"),
    ("dog/cats", "../cat"),
    ("z/z", ".."),
]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(LINKS), min_size=1, unique=True))
def test_links_to_folders_that_were_already_read_are_reported(links):
    with tempfile.TemporaryDirectory() as folder:
        root = below(Path(folder, "photos"), ("cat", "dog"))
        for name, target in links:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).symlink_to(target)
        collection = read_folder(root)
    assert counts(collection) == {(None, "cat"): 1, (None, "dog"): 1}
    assert collection.ignored["link"] == len(links)
    assert any("to a folder, e.g. " in note for note in collection.notes)


def test_examples_of_ignored_files_differ(tmp_path):
    below(tmp_path, ("cat", "dog", "bird"))
    for name in ("cat/.DS_Store", "dog/.DS_Store", "bird/.DS_Store", "bird/.hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    notes = read_folder(tmp_path).notes
    assert any(
        note.endswith("4 hidden files (the name starts with a dot), e.g. .DS_Store, .hidden.png.")
        for note in notes
    )
