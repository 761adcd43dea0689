"""From what is named to the list of files, whatever lies there. No TensorFlow."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kerastl.errors import RequestError
from kerastl.export import find_pictures
from kerastl.export.predicting.file_list import listed
from kerastl.export.predicting.finding import named_in


def test_names_of_any_bytes_are_found_and_listed_as_they_are(tmp_path: Path) -> None:
    names = [b"a\nb.png", b"a\xff.png", b"\xc3\xbc.png", b"a'\"\\.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    found = list(find_pictures([tmp_path]))
    assert {os.fsencode(path.name) for path in found} == set(names)
    with listed(found) as files:
        assert [path for batch in files.batches(3) for path in batch] == found


def test_links_in_circles_end_and_pipes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    found = [path.name for path in find_pictures([tmp_path, tmp_path / "pipe.png"])]
    assert found == ["pipe.png", "round.png", "pipe.png"]
    with pytest.raises(RequestError, match=r"round\.png"):
        list(find_pictures([tmp_path / "round.png"]))


def test_a_folder_that_vanishes_on_the_way_is_named(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = find_pictures([tmp_path])
    assert next(found) == tmp_path / "a" / "1.png"
    shutil.rmtree(tmp_path / "b")
    assert list(found) == [tmp_path / "b", tmp_path / "c" / "3.png"]


def test_folders_may_be_as_deep_as_paths_go(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):
        deep = deep / "d"
        deep.mkdir()
    (deep / "1.png").touch()
    try:
        assert list(find_pictures([tmp_path])) == [deep / "1.png"]
    finally:
        # Python's own way of removing a folder goes no deeper than its stack.
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)


def test_equal_numbers_have_one_order_however_the_disk_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a1.png", "a01.png", "a001.png", "a2.png", "a10.png"]
    for name in names:
        (tmp_path / name).touch()
    orders = set()
    scandir = os.scandir

    class Turned:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> object:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    for listing in (scandir, Turned):
        monkeypatch.setattr(os, "scandir", listing)
        orders.add(tuple(path.name for path in find_pictures([tmp_path])))
    assert len(orders) == 1
    assert next(iter(orders))[-2:] == ("a2.png", "a10.png")


def test_a_list_has_a_path_a_line_and_nothing_else(tmp_path: Path) -> None:
    given = io.BytesIO(b"a b.png\r\n\n/x/\xff.png\nlast")
    names = [os.fsencode(path) for path in named_in(given)]
    assert names == [b"a b.png", b"/x/\xff.png", b"last"]
    with pytest.raises(RequestError, match="Line 2"):
        list(named_in(io.BytesIO(b"a.png\nb.png\0c.png\0")))
    with pytest.raises(RequestError, match="has no end"), Path("/dev/zero").open("rb") as endless:
        list(named_in(endless))


def test_batches_begin_where_they_are_told_to(tmp_path: Path) -> None:
    paths = [Path(f"/data/{'long' * 20}/{number}.png") for number in range(20_000)]
    with listed(paths, tmp_path) as files:
        assert files.count == 20_000
        assert list(tmp_path.iterdir()) == []
        assert next(files.batches(7)) == paths[:7]
        left = list(files.batches(64, first=19_904))
        assert [len(batch) for batch in left] == [64, 32]
        assert [path for batch in left for path in batch] == paths[19_904:]
        same = files.sha256
    with listed(paths[::-1]) as files:
        assert files.sha256 != same
