"""The folder reader: valid folders, and all problems of invalid ones."""

import os
from collections import Counter
from pathlib import Path

import pytest
from make_images import encoded, noise, smooth, uniform_image, write

from kerastl.data import Collection, read_folder, read_table
from kerastl.data.readers import reader_name
from kerastl.data.readers.folder import Skipped, find_images
from kerastl.errors import Problems, RequestError


def folder_of(root, classes: dict[str, int]):
    for name, count in classes.items():
        for index in range(count):
            write(root / name / f"{index}.png", uniform_image(index))
    return root


def test_subfolders_are_classes_in_natural_order(tmp_path):
    collection = read_folder(folder_of(tmp_path, {"1": 2, "10": 1, "2": 3}))
    assert isinstance(collection, Collection)
    assert collection.class_names == ("1", "2", "10")
    assert Counter(record.label for record in collection.records) == {"1": 2, "2": 3, "10": 1}
    assert {record.path for record in collection.records if record.label == "1"} == {"1/0.png", "1/1.png"}
    assert all(record.file.is_absolute() for record in collection.records)


def test_nested_folders_are_read_and_hidden_ones_ignored(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1, "a/deep/er": 2, ".hidden": 3, "b/.git": 2})
    write(tmp_path / "b" / "._0.png", uniform_image(1))
    collection = read_folder(tmp_path)
    assert Counter(record.label for record in collection.records) == {"a": 3, "b": 1}


def test_images_are_recognized_by_content_and_other_files_are_counted(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    photo = encoded(smooth(), "JPEG")
    images = {"x.JPeG": photo, "x.jfif": photo, "x.jpe": photo, "x": photo, "x.backup": encoded(noise(), "WEBP"),
              "text.png": b"no image", "zero.png": b"", "x.jpg/deep.dat": encoded(noise(), "GIF")}  # fmt: skip
    others = {"Thumbs.db": b"\xd0\xcf\x11\xe0", "1.txt": b"BM is no image", "2.txt": b"x", "README": b"x",
              "zero": b"", "icon.svg": b"<svg/>", "x.jp2": b"\0\0\0\x0cjP  \r\n\x87\n", "x.dcm": bytes(128) + b"DICM",
              ".DS_Store": b"x", "._0.png": b"x", "../table.csv": b"x"}  # fmt: skip
    for name, content in (images | others).items():
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(content)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.mkfifo(tmp_path / "a" / "pipe")
    collection = read_folder(tmp_path)
    read = {record.path.removeprefix("a/") for record in collection.records if record.label == "a"}
    assert read == {*images, "0.png", "pipe.png"}
    notes = "\n".join(collection.notes)
    assert "Ignored 10 files that are not supported images." in notes
    for kind in (
        "2 .txt: 1.txt, 2.txt", "1 .db: Thumbs.db", "1 without extension: README", "1 empty: zero", "1 .csv: table.csv",
        "1 .svg: icon.svg", "1 JPEG 2000 (convert to PNG): x.jp2", "1 DICOM (convert to PNG): x.dcm",
    ):  # fmt: skip
        assert kind in notes
    assert "Ignored 2 hidden files" in notes
    counts = Skipped()
    assert find_images(tmp_path / "a", counts)
    assert counts.counts()["hidden file"] == 2
    assert counts.counts()["not a regular file"] == 1


@pytest.mark.parametrize("word", ["val", "validation", "valid", "dev"])
def test_given_splits_are_kept_under_all_their_names(tmp_path, word):
    for split in ("train", word, "test"):
        folder_of(tmp_path / split, {"a": 2, "b": 2})
    collection = read_folder(tmp_path)
    assert collection.class_names == ("a", "b")
    assert Counter(record.split for record in collection.records) == {"train": 4, "val": 4, "test": 4}
    assert f"{word}/a/0.png" in {record.path for record in collection.records}


def test_note_reports_a_missing_split(tmp_path):
    for split in ("train", "test"):
        folder_of(tmp_path / split, {"a": 2, "b": 2})
    assert any("no folder for val" in note for note in read_folder(tmp_path).notes)


def test_train_can_be_a_class_name(tmp_path):
    collection = read_folder(folder_of(tmp_path, {"train": 1, "car": 1, "plane": 1}))
    assert collection.class_names == ("car", "plane", "train")
    assert {record.split for record in collection.records} == {None}


def test_other_folders_next_to_splits_are_rejected(tmp_path):
    for split in ("train", "test", "extra"):
        folder_of(tmp_path / split, {"a": 1, "b": 1})
    with pytest.raises(RequestError, match="extra"):
        read_folder(tmp_path)


def test_two_folders_for_one_split_are_rejected(tmp_path):
    for split in ("train", "val", "validation"):
        folder_of(tmp_path / split, {"a": 1, "b": 1})
    with pytest.raises(RequestError, match="'train', 'val' and 'validation'"):
        read_folder(tmp_path)


def test_class_missing_in_train_is_rejected(tmp_path):
    folder_of(tmp_path / "train", {"a": 1, "b": 1})
    folder_of(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(Problems, match="class 'c': is in test but not in train"):
        read_folder(tmp_path)


def test_empty_class_folders_are_ignored_with_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "1.txt").write_text("x")
    collection = read_folder(tmp_path)
    assert collection.class_names == ("a", "b")
    assert any("2 folders without images, e.g. empty, notes." in note for note in collection.notes)


def test_single_class_is_rejected(tmp_path):
    with pytest.raises(Problems, match="only the class 'a'"):
        read_folder(folder_of(tmp_path, {"a": 3}))


def test_class_names_that_differ_in_case_are_rejected(tmp_path):
    with pytest.raises(Problems, match=r"'Cat' and 'cat'"):
        read_folder(folder_of(tmp_path, {"Cat": 1, "cat": 1, "dog": 1}))


def test_class_names_that_differ_in_unicode_form_are_rejected(tmp_path):
    with pytest.raises(Problems, match="spellings of the same value"):
        read_folder(folder_of(tmp_path, {"caf\u00e9": 1, "cafe\u0301": 1}))


def test_bar_in_a_class_name_is_rejected(tmp_path):
    with pytest.raises(Problems, match=r"'a\|b'.*several labels"):
        read_folder(folder_of(tmp_path, {"a|b": 1, "c": 1}))


def test_special_characters_in_class_names_are_kept(tmp_path):
    names = ["<script>alert(1)<", "a..", "=1+1", "a\nb", "%s{0}"]
    collection = read_folder(folder_of(tmp_path, dict.fromkeys(names, 1)))
    assert set(collection.class_names) == set(names)


def test_folder_without_subfolders_is_unlabeled(tmp_path):
    write(tmp_path / "1.png", uniform_image(1))
    write(tmp_path / "2.png", uniform_image(2))
    collection = read_folder(tmp_path)
    assert collection.class_names == ()
    assert [record.label for record in collection.records] == [None, None]


def test_subfolders_are_not_classes_with_labelled_false(tmp_path):
    collection = read_folder(
        folder_of(tmp_path, {"p1": 2, "p2": 1}), labelled=False, group_pattern="(p[0-9])/"
    )
    assert collection.class_names == ()
    assert Counter(record.group for record in collection.records) == {"p1": 2, "p2": 1}


def test_links_to_the_outside_are_ignored_with_a_note(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    folder_of(inside, {"a": 1, "b": 1})
    folder_of(outside, {"secret": 2})
    (inside / "c").symlink_to(outside / "secret")
    (inside / "a" / "9.png").symlink_to(outside / "secret" / "0.png")
    (inside / "a" / "broken.png").symlink_to("nowhere.png")
    collection = read_folder(inside)
    assert collection.class_names == ("a", "b")
    assert len(collection.records) == 2
    assert any("3 symbolic links" in note for note in collection.notes)


def test_circular_links_are_read_once(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    assert len(read_folder(tmp_path).records) == 2


def test_images_outside_class_folders_are_ignored_with_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    write(tmp_path / "stray.png", uniform_image(3))
    collection = read_folder(tmp_path)
    assert len(collection.records) == 2
    assert any(
        "1 image outside the class folders" in note and "stray.png" in note for note in collection.notes
    )


def test_names_that_are_not_utf8_are_ignored_with_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.png"))
    (tmp_path / "a" / "0.png").rename(odd)
    write(tmp_path / "a" / "1.png", uniform_image(1))
    collection = read_folder(tmp_path)
    assert len(collection.records) == 2
    assert any("not UTF-8" in note for note in collection.notes)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a valid regular expression"),
        ("abc", "exactly one group"),
        ("(a)(b)", "exactly one group"),
    ],
)
def test_invalid_group_pattern_is_rejected(tmp_path, pattern, message):
    with pytest.raises(Problems, match=message):
        read_folder(folder_of(tmp_path, {"a": 1, "b": 1}), group_pattern=pattern)


def test_group_pattern_must_match_every_path(tmp_path):
    with pytest.raises(RequestError, match=r"does not match 1 path of 3, e\.g\. b/0\.png"):
        read_folder(folder_of(tmp_path, {"a": 2, "b": 1}), group_pattern="(a)/")


def test_missing_folder_is_reported_with_its_full_path(tmp_path):
    with pytest.raises(Problems, match=str(tmp_path / "none")):
        read_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(Problems, match="is a file"):
        read_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="has no images"):
        read_folder(tmp_path / "empty")


def test_fingerprint_depends_on_content_and_label_only(tmp_path):
    first = read_folder(folder_of(tmp_path / "one", {"a": 2, "b": 1}))
    two = read_folder(folder_of(tmp_path / "two", {"a": 2, "b": 1}))
    assert first.fingerprint() == two.fingerprint()
    turned = Collection(first.root, first.class_names, first.records[::-1])
    assert turned.fingerprint() == first.fingerprint()
    write(tmp_path / "two" / "a" / "0.png", uniform_image(77))
    assert two.fingerprint() != first.fingerprint()


def test_hidden_folders_and_outside_links_are_reported(tmp_path: Path) -> None:
    for name in ("cat", "dog", "..b"):
        write(tmp_path / "data" / name / "1.png", uniform_image(1))
    notes = read_folder(tmp_path / "data").notes
    assert any("..b" in note for note in notes)
    linked = tmp_path / "linked"
    for name in ("cat", "dog"):
        (linked / name).mkdir(parents=True)
        (linked / name / "1.png").symlink_to(tmp_path / "data" / name / "1.png")
    with pytest.raises(RequestError, match="symbolic links"):
        read_folder(linked)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("https://x.org/a b.zip", "Download it (curl -LO 'https://x.org/a b.zip'), unpack archives"),
        ("s3://bucket/labels.csv", "Download it, unpack archives"),
        ("photos.zip", "Unpack it (unzip photos.zip -d photos)"),
        ("my photos.tar.gz", "Unpack it (tar -xf 'my photos.tar.gz')"),
        ("photos/*.jpg", "Patterns are not expanded. Use the path of a folder, such as photos"),
        ("labels.xlsx", "Use the path of a folder of images, or of a table (.csv, .tsv or .parquet)"),
        ("photo", "There is 'photos'"),
        ("lables.csv", "There is 'labels.csv'"),
        ("gone/photos", "does not exist"),
    ],
)
def test_a_path_that_cannot_be_read_has_a_hint(tmp_path, monkeypatch, path, hint):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("photos.zip", "my photos.tar.gz", "labels.xlsx", "labels.csv"):
        Path(name).touch()
    for given in (path, Path(path)):
        with pytest.raises(Problems) as caught:
            (read_table if reader_name(given) == "table" else read_folder)(given)
        assert hint in str(caught.value)


def test_a_reserved_letter_in_a_class_name_has_its_own_advice(tmp_path):
    for name in ("cat|dog", "bird"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(name.encode())
    with pytest.raises(Problems) as caught:
        read_folder(tmp_path)
    assert "'|' is reserved" in str(caught.value)
    assert "identity" not in str(caught.value)
