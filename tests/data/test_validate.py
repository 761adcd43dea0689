"""Validation of image files: reasons for rejection, and the cache of the results."""

import errno
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from make_images import LIMIT, encoded, noise, png_of_any_size, smooth, uniform_image, write

from kerastl.data import Collection, Record, check_images, validate
from kerastl.data.cache import FILE_NAME
from kerastl.errors import Problems

GOOD = {"good.png": encoded(noise())}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "(PNG, JPEG, GIF, BMP, WebP, TIFF, HEIC or AVIF)"),
        (encoded(noise())[:16], "header has no image size"),
        (encoded(noise())[:20], "header has no image size"),
        (encoded(noise())[:-30], "truncated"),
        (encoded(smooth(), "JPEG")[:-400], "truncated"),
        (encoded(noise())[:60] + bytes(90) + encoded(noise())[150:], "damaged"),
        (png_of_any_size(30_000, 30_000, whole=False), "30000 x 30000 pixels"),
        (b"II*\0" + bytes(60), "TIFF file is damaged"),
    ],
)
def test_unreadable_file_is_listed_with_a_reason(checking, content, reason):
    result = checking({**GOOD, "bad.png": content})
    assert [path for path, _ in result.quarantined] == ["bad.png"]
    assert reason in result.quarantined[0][1]
    assert "\n" not in result.quarantined[0][1]
    assert [record.path for record in result.collection.records] == ["good.png"]


FROM_THE_SYSTEM = [
    (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
    (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
    (OSError(errno.EMFILE, "Too many open files"), "cannot be read: Too many open files"),
    (MemoryError(), "not enough memory"),
]


@pytest.mark.parametrize(("error", "reason"), FROM_THE_SYSTEM)
def test_system_errors_are_not_cached(checking, checking_again, monkeypatch, error, reason):
    real = Path.read_bytes

    def failing(self):
        if self.name == "odd.png":
            raise error
        return real(self)

    contents = {**GOOD, "odd.png": encoded(noise())}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        first = checking(contents)
    assert [path for path, _ in first.quarantined] == ["odd.png"]
    assert reason in first.quarantined[0][1]
    assert checking_again(first).quarantined == ()


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_system_errors_in_pillow_are_not_cached(checking, checking_again, monkeypatch, error):
    def failing(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", failing)
        first = checking({**GOOD, "odd.tif": encoded(noise(), "TIFF")})
    assert [path for path, _ in first.quarantined] == ["odd.tif"]
    assert checking_again(first).quarantined == ()


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")])
def test_tensorflow_memory_errors_are_not_cached(checking, checking_again, monkeypatch, error):
    odd, real = encoded(noise(9, 9)), validate.decode_image

    def failing(content, **options):
        if content.numpy() == odd:
            raise error
        return real(content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validate, "decode_image", failing)
        first = checking({**GOOD, "odd.png": odd})
    assert first.quarantined == (("odd.png", "not enough memory to decode it"),)
    assert checking_again(first).quarantined == ()


def test_format_follows_from_content_not_extension(checking):
    result = checking({"really_jpeg.png": encoded(smooth(), "JPEG"), "really_png.jpg": encoded(noise())})
    assert result.quarantined == ()


def test_too_many_unreadable_files_raise_an_error_that_lists_the_first(checking):
    contents = {f"good{i}.png": encoded(noise()) for i in range(60)}
    contents |= {f"bad{i:02d}.png": b"x" for i in range(30)}
    with pytest.raises(Problems) as error:
        checking(contents, max_unreadable_fraction=0.05)
    assert len(error.value.problems) == 30
    _, *listed, more, last = str(error.value).split("\n")
    assert "30 of 90 images cannot be read (33.3%)" in last
    assert [line.split(":")[0].strip() for line in listed] == [f"bad{i:02d}.png" for i in range(20)]
    assert "and 10 more" in more
    assert "quarantine.csv" in last
    assert "data.max_unreadable_fraction" in last


def test_default_limit_is_5_percent_unreadable(checking):
    contents = {f"{i}.png": encoded(uniform_image(1, 4)) if i >= 5 else b"x" for i in range(100)}
    assert len(checking(contents, max_unreadable_fraction=0.05).quarantined) == 5
    contents["5.png"] = b"x"
    with pytest.raises(Problems, match="6 of 100 images"):
        checking(contents, max_unreadable_fraction=0.05)


def test_class_without_readable_images_is_rejected(tmp_path):
    good = write(tmp_path / "a.png", noise())
    (tmp_path / "b.png").write_bytes(b"x")
    records = (Record("a.png", good, "a"), Record("b.png", tmp_path / "b.png", "b"))
    collection = Collection(tmp_path, ("a", "b"), records)
    with pytest.raises(Problems, match="class 'b': none of its images can be read"):
        check_images(
            collection, max_pixels=LIMIT, cache_dir=None, converted_dir=tmp_path / "converted",
            max_unreadable_fraction=0.9,
        )  # fmt: skip


@pytest.fixture
def decodings(monkeypatch):
    """The contents that the check decodes."""
    seen = []
    real = validate.check_content

    def counted(content, **options):
        seen.append(content)
        return real(content, **options)

    monkeypatch.setattr("kerastl.data.validate.check_content", counted)
    return seen


def test_second_check_uses_the_cache(checking, checking_again, decodings):
    contents = {**GOOD, "bad.png": b"x", "deep.png": encoded(np.zeros((4, 4), np.uint16))}
    first = checking(contents)
    assert len(decodings) == 3
    second = checking_again(first)
    assert len(decodings) == 3
    assert (first.quarantined, first.has_16_bit) == (second.quarantined, second.has_16_bit)


def test_changed_file_or_limit_is_checked_again(checking, decodings):
    checking(GOOD)
    checking({"good.png": encoded(noise(9, 9))})
    assert len(decodings) == 2
    with pytest.raises(Problems, match="none of its images"):
        checking({"good.png": encoded(noise(9, 9))}, max_pixels=80)
    assert len(decodings) == 3


def test_cache_contains_no_paths(checking, tmp_path):
    checking({**GOOD, "patient_smith.png": b"x"})
    content = (tmp_path / "cache" / FILE_NAME).read_bytes()
    assert b"smith" not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("broken", [b"this is no database" * 100, b""])
def test_damaged_cache_is_replaced(checking, checking_again, tmp_path, decodings, broken):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE_NAME).write_bytes(broken)
    first = checking(GOOD)
    checking_again(first)
    assert len(decodings) == 1
    with sqlite3.connect(tmp_path / "cache" / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM file_checks").fetchone() == (1,)
    connection.close()


def test_read_only_cache_is_ignored(checking, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert checking(GOOD, cache_dir=tmp_path / "file").quarantined == ()


def test_concurrent_writers_share_a_cache(tmp_path):
    from kerastl.data.cache import FileCheck, read_file_checks, write_file_checks

    def work(number):
        write_file_checks(tmp_path, {f"{number}-{i}": FileCheck(None) for i in range(50)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    keys = [f"{number}-{i}" for number in range(16) for i in range(50)]
    assert len(read_file_checks(tmp_path, keys)) == 800


def test_16_bit_images_are_detected(checking):
    assert not checking(GOOD).has_16_bit
    deep = encoded(np.zeros((4, 4), np.uint16))
    assert checking({**GOOD, "deep.png": deep}).has_16_bit
    assert checking({**GOOD, "deep.tif": encoded(np.zeros((4, 4), np.uint16), "TIFF")}).has_16_bit
