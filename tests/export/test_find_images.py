"""Finding image files and storing the list of paths. No TensorFlow."""

import inspect
import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from kerastl.data.readers.folder import Skipped
from kerastl.errors import RequestError
from kerastl.export import find_images
from kerastl.export.predict import read_file_list, store_file_list


def test_file_names_of_any_bytes_are_found_and_stored_unchanged(tmp_path: Path) -> None:
    names = [b"a\nb.png", b"a\xff.png", b"\xc3\xbc.png", b"a'\"\\.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    paths = list(find_images([tmp_path]))
    assert {os.fsencode(path.name) for path in paths} == set(names)
    with store_file_list(paths) as files:
        assert [path for batch in files.batches(3) for path in batch] == paths


def test_circular_links_end_and_pipes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    names = [path.name for path in find_images([tmp_path, tmp_path / "pipe.png"])]
    assert names == ["pipe.png", "round.png", "pipe.png"]
    with pytest.raises(RequestError, match=r"round\.png"):
        list(find_images([tmp_path / "round.png"]))


def test_images_are_recognized_by_content_and_other_files_are_counted(tmp_path: Path) -> None:
    photo = b"\xff\xd8\xff\xe0"
    images = {"a.jfif": photo, "a.jpe": photo, "a": photo, "a.dcm": bytes(128) + b"DICM", "text.png": b"text",
              "zero.jpg": b"", "a.jp2": b"\xff\x4f\xff\x51", "a.heic": b"\0\0\0\x18ftypheic"}  # fmt: skip
    others = {"Thumbs.db": b"x", "1.txt": b"x", "zero": b"", ".DS_Store": b"x", "._a.png": b"x"}
    for name, content in (images | others).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "b.dat").write_bytes(photo)
    for name in (".git", "@eaDir"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thumbnail.jpg").write_bytes(photo)
    (tmp_path / "again").symlink_to(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe")
    skipped = Skipped()
    assert {path.name for path in find_images([tmp_path], skipped)} == {*images, "b.dat"}
    assert skipped.counts() == {
        ".db": 1, ".txt": 1, "empty": 1, "not a regular file": 1, "hidden file": 2, "hidden folder": 2, "link": 1,
    }  # fmt: skip


def test_a_folder_deleted_during_the_search_is_yielded(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    paths = find_images([tmp_path])
    assert next(paths) == tmp_path / "a" / "1.png"
    shutil.rmtree(tmp_path / "b")
    assert list(paths) == [tmp_path / "b", tmp_path / "c" / "3.png"]


def test_folders_nested_deeper_than_the_recursion_limit_are_searched(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "1.png").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert list(find_images([tmp_path])) == [deep / "1.png"]
    finally:
        sys.setrecursionlimit(limit)


def test_the_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a1.png", "a01.png", "a001.png", "a2.png", "a10.png"]
    for name in names:
        (tmp_path / name).touch()
    orders = set()
    scandir = os.scandir

    class Reversed:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self) -> None: ...

        def __next__(self) -> os.DirEntry[str]:
            return next(self.entries)

        def __exit__(self, *_: object) -> None: ...

    for listing in (scandir, Reversed):
        monkeypatch.setattr(os, "scandir", listing)
        orders.add(tuple(path.name for path in find_images([tmp_path])))
    assert len(orders) == 1
    assert next(iter(orders))[-2:] == ("a2.png", "a10.png")


def test_a_file_list_has_one_path_per_line(tmp_path: Path) -> None:
    given = io.BytesIO(b"a b.png\r\n\n/x/\xff.png\nlast")
    names = [os.fsencode(path) for path in read_file_list(given)]
    assert names == [b"a b.png", b"/x/\xff.png", b"last"]
    with pytest.raises(RequestError, match="Line 2"):
        list(read_file_list(io.BytesIO(b"a.png\nb.png\0c.png\0")))
    with pytest.raises(RequestError, match="too long"), Path("/dev/zero").open("rb") as endless:
        list(read_file_list(endless))


def test_batches_start_at_the_given_index(tmp_path: Path) -> None:
    paths = [Path(f"/data/{'long' * 20}/{number}.png") for number in range(20_000)]
    with store_file_list(paths, tmp_path) as files:
        assert files.count == 20_000
        assert list(tmp_path.iterdir()) == []
        assert next(files.batches(7)) == paths[:7]
        left = list(files.batches(64, first=19_904))
        assert [len(batch) for batch in left] == [64, 32]
        assert [path for batch in left for path in batch] == paths[19_904:]
        same = files.sha256
    with store_file_list(paths[::-1]) as files:
        assert files.sha256 != same
