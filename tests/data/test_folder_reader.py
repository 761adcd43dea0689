"""Folders of images, tidy and hostile."""

import os
from collections import Counter
from pathlib import Path

import pytest
from images_drawn import colour, write

from kerastl.data import Collection, read_folder
from kerastl.errors import Problems, RequestError


def folder_of(root, classes: dict[str, int]):
    for name, count in classes.items():
        for index in range(count):
            write(root / name / f"{index}.png", colour(index))
    return root


def test_a_sub_folder_is_a_class_and_classes_come_in_natural_order(tmp_path):
    found = read_folder(folder_of(tmp_path, {"1": 2, "10": 1, "2": 3}))
    assert isinstance(found, Collection)
    assert found.class_names == ("1", "2", "10")
    assert Counter(record.label for record in found.records) == {"1": 2, "2": 3, "10": 1}
    assert {record.path for record in found.records if record.label == "1"} == {"1/0.png", "1/1.png"}
    assert all(record.file.is_absolute() for record in found.records)


def test_nested_folders_belong_to_their_class_and_hidden_ones_to_none(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1, "a/deep/er": 2, ".hidden": 3, "b/.git": 2})
    write(tmp_path / "b" / "._0.png", colour(1))
    found = read_folder(tmp_path)
    assert Counter(record.label for record in found.records) == {"a": 3, "b": 1}


def test_any_case_of_a_known_extension_is_a_image_and_others_are_counted_in_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    write(tmp_path / "a" / "x.JPeG", colour(5), kind="JPEG")
    for name in ("a/Thumbs.db", "a/1.txt", "b/2.txt", "b/README"):
        (tmp_path / name).write_text("no image")
    found = read_folder(tmp_path)
    assert len(found.records) == 3
    assert "4 files" in found.notes[0]
    assert "2 .txt" in found.notes[0]
    assert "1 .db" in found.notes[0]


@pytest.mark.parametrize("word", ["val", "validation", "valid", "dev"])
def test_ready_made_splits_are_kept_under_any_of_their_names(tmp_path, word):
    for split in ("train", word, "test"):
        folder_of(tmp_path / split, {"a": 2, "b": 2})
    found = read_folder(tmp_path)
    assert found.class_names == ("a", "b")
    assert Counter(record.split for record in found.records) == {"train": 4, "val": 4, "test": 4}
    assert f"{word}/a/0.png" in {record.path for record in found.records}


def test_a_note_says_which_split_is_missing(tmp_path):
    for split in ("train", "test"):
        folder_of(tmp_path / split, {"a": 2, "b": 2})
    assert any("no folder for val" in note for note in read_folder(tmp_path).notes)


def test_train_may_be_a_class_among_vehicles(tmp_path):
    found = read_folder(folder_of(tmp_path, {"train": 1, "car": 1, "plane": 1}))
    assert found.class_names == ("car", "plane", "train")
    assert {record.split for record in found.records} == {None}


def test_splits_beside_other_folders_are_refused(tmp_path):
    for split in ("train", "test", "extra"):
        folder_of(tmp_path / split, {"a": 1, "b": 1})
    with pytest.raises(RequestError, match="extra"):
        read_folder(tmp_path)


def test_two_folders_for_one_split_are_refused(tmp_path):
    for split in ("train", "val", "validation"):
        folder_of(tmp_path / split, {"a": 1, "b": 1})
    with pytest.raises(RequestError, match="val and validation"):
        read_folder(tmp_path)


def test_a_class_of_test_that_was_never_trained_is_refused(tmp_path):
    folder_of(tmp_path / "train", {"a": 1, "b": 1})
    folder_of(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(Problems, match="class 'c': is in test but not in train"):
        read_folder(tmp_path)


def test_every_empty_class_folder_is_named_at_once(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "1.txt").write_text("x")
    with pytest.raises(Problems) as error:
        read_folder(tmp_path)
    assert "'empty'" in str(error.value)
    assert "'notes'" in str(error.value)


def test_one_class_only_is_refused(tmp_path):
    with pytest.raises(Problems, match="only the class 'a'"):
        read_folder(folder_of(tmp_path, {"a": 3}))


def test_names_equal_by_case_are_refused_by_both_names(tmp_path):
    with pytest.raises(Problems, match=r"'Cat' and 'cat'"):
        read_folder(folder_of(tmp_path, {"Cat": 1, "cat": 1, "dog": 1}))


def test_accents_written_in_two_ways_are_one_name(tmp_path):
    with pytest.raises(Problems, match="differ only in case"):
        read_folder(folder_of(tmp_path, {"caf\u00e9": 1, "cafe\u0301": 1}))


def test_a_bar_in_a_class_name_is_refused(tmp_path):
    with pytest.raises(Problems, match=r"'a\|b'.*several labels"):
        read_folder(folder_of(tmp_path, {"a|b": 1, "c": 1}))


def test_hostile_class_names_are_just_text(tmp_path):
    names = ["<script>alert(1)<", "a..", "=1+1", "a\nb", "%s{0}"]
    found = read_folder(folder_of(tmp_path, dict.fromkeys(names, 1)))
    assert set(found.class_names) == set(names)


def test_a_folder_without_sub_folders_is_unlabelled(tmp_path):
    write(tmp_path / "1.png", colour(1))
    write(tmp_path / "2.png", colour(2))
    found = read_folder(tmp_path)
    assert found.class_names == ()
    assert [record.label for record in found.records] == [None, None]


def test_sub_folders_are_no_classes_when_told_so(tmp_path):
    found = read_folder(folder_of(tmp_path, {"p1": 2, "p2": 1}), labelled=False, group_pattern="(p[0-9])/")
    assert found.class_names == ()
    assert Counter(record.group for record in found.records) == {"p1": 2, "p2": 1}


def test_links_out_of_the_folder_are_not_followed_and_this_is_said(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    folder_of(inside, {"a": 1, "b": 1})
    folder_of(outside, {"secret": 2})
    (inside / "c").symlink_to(outside / "secret")
    (inside / "a" / "9.png").symlink_to(outside / "secret" / "0.png")
    (inside / "a" / "broken.png").symlink_to("nowhere.png")
    found = read_folder(inside)
    assert found.class_names == ("a", "b")
    assert len(found.records) == 2
    assert any("3 symbolic links" in note for note in found.notes)


def test_links_that_go_in_circles_end(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    assert len(read_folder(tmp_path).records) == 2


def test_images_beside_the_class_folders_are_left_out_with_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    write(tmp_path / "stray.png", colour(3))
    found = read_folder(tmp_path)
    assert len(found.records) == 2
    assert any("1 image outside the class folders" in note for note in found.notes)


def test_a_name_that_is_not_utf8_is_left_out_with_a_note(tmp_path):
    folder_of(tmp_path, {"a": 1, "b": 1})
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.png"))
    (tmp_path / "a" / "0.png").rename(odd)
    write(tmp_path / "a" / "1.png", colour(1))
    found = read_folder(tmp_path)
    assert len(found.records) == 2
    assert any("not UTF-8" in note for note in found.notes)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is not a valid regular expression"), ("abc", "exactly one group"), ("(a)(b)", "exactly one group")],
)
def test_a_group_pattern_that_cannot_work_is_refused(tmp_path, pattern, message):
    with pytest.raises(Problems, match=message):
        read_folder(folder_of(tmp_path, {"a": 1, "b": 1}), group_pattern=pattern)


def test_a_group_pattern_must_fit_every_path(tmp_path):
    with pytest.raises(RequestError, match=r"does not match 1 path of 3, e\.g\. b/0\.png"):
        read_folder(folder_of(tmp_path, {"a": 2, "b": 1}), group_pattern="(a)/")


def test_a_missing_folder_and_a_file_are_refused_by_their_full_path(tmp_path):
    with pytest.raises(Problems, match=str(tmp_path / "none")):
        read_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(Problems, match="is a file"):
        read_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="has no images"):
        read_folder(tmp_path / "empty")


def test_the_fingerprint_knows_content_and_label_but_no_order_and_no_place(tmp_path):
    one = read_folder(folder_of(tmp_path / "one", {"a": 2, "b": 1}))
    two = read_folder(folder_of(tmp_path / "two", {"a": 2, "b": 1}))
    assert one.fingerprint() == two.fingerprint()
    turned = Collection(one.root, one.class_names, one.records[::-1])
    assert turned.fingerprint() == one.fingerprint()
    write(tmp_path / "two" / "a" / "0.png", colour(77))
    assert two.fingerprint() != one.fingerprint()


def test_hidden_class_folders_and_links_out_are_told_and_not_just_gone(tmp_path: Path) -> None:
    for name in ("cat", "dog", "..b"):
        write(tmp_path / "data" / name / "1.png", colour(1))
    notes = read_folder(tmp_path / "data").notes
    assert any("..b" in note for note in notes)
    linked = tmp_path / "linked"
    for name in ("cat", "dog"):
        (linked / name).mkdir(parents=True)
        (linked / name / "1.png").symlink_to(tmp_path / "data" / name / "1.png")
    with pytest.raises(Problems, match="symbolic links"):
        read_folder(linked)
