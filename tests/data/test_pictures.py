"""Every file decoded once: what is refused and in which words, the cache, conversion, the window."""

import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from pictures_drawn import by_pillow, colour, encoded, noise, png_of_any_size, smooth, write
from PIL import Image

from kerastl.data import (
    Collection,
    Record,
    TooManyUnreadableError,
    auto_window,
    check_pictures,
    decode_image,
    reasons,
)
from kerastl.data.pictures import png_of_tiff
from kerastl.data.verdicts import FILE_NAME
from kerastl.errors import Problems

LIMIT = 50_000_000


@pytest.fixture
def checking(tmp_path):
    """Write contents as pictures of a class and check them; keyword options go to the check."""

    def check(contents: dict[str, bytes], **options):
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        records = []
        for name, content in contents.items():
            (root / name).write_bytes(content)
            records.append(Record(name, root / name, "a"))
        collection = Collection(root, ("a",), tuple(records))
        given = {
            "max_pixels": LIMIT, "cache_dir": tmp_path / "cache",
            "converted_dir": tmp_path / "converted", "max_unreadable_fraction": 1.0,
        }  # fmt: skip
        return check_pictures(collection, **(given | options))

    return check


GOOD = {"good.png": encoded(noise())}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "zero bytes"),
        (b"not a picture at all", "not a picture"),
        (encoded(noise())[:-30], "cut short"),
        (encoded(smooth(), "JPEG")[:-400], "cut short"),
        (encoded(noise())[:60] + bytes(90) + encoded(noise())[150:], "damaged"),
        (png_of_any_size(30_000, 30_000, whole=False), "30000 x 30000 pixels"),
        (b"II*\0" + bytes(60), "TIFF is damaged"),
    ],
)
def test_a_bad_file_is_named_with_a_reason_people_understand(checking, content, reason):
    found = checking({**GOOD, "bad.png": content})
    assert [path for path, _ in found.quarantined] == ["bad.png"]
    assert reason in found.quarantined[0][1]
    assert "\n" not in found.quarantined[0][1]
    assert [record.path for record in found.collection.records] == ["good.png"]


def test_a_file_that_may_not_be_read_is_quarantined_and_asked_again_next_time(
    checking, monkeypatch
):
    from pathlib import Path

    real = Path.read_bytes

    def guarded(self):
        if self.name == "locked.png":
            raise PermissionError(13, "Permission denied")
        return real(self)

    contents = {**GOOD, "locked.png": encoded(noise())}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", guarded)
        assert checking(contents).quarantined[0] == (
            "locked.png",
            "it may not be read: permission denied",
        )
    for name in contents:
        contents[name] = contents[name]
    assert checking(contents).quarantined == ()


def test_the_content_decides_not_the_extension(checking):
    found = checking(
        {"really_jpeg.png": encoded(smooth(), "JPEG"), "really_png.jpg": encoded(noise())}
    )
    assert found.quarantined == ()


def test_more_unreadable_files_than_allowed_stop_with_the_list(checking):
    contents = {f"good{i}.png": encoded(noise()) for i in range(60)}
    contents |= {f"bad{i:02d}.png": b"x" for i in range(30)}
    with pytest.raises(TooManyUnreadableError) as error:
        checking(contents, max_unreadable_fraction=0.05)
    assert len(error.value.quarantined) == 30
    text = str(error.value)
    assert "30 of 90 pictures" in text
    assert "bad19.png" in text
    assert "bad20.png" not in text
    assert "and 10 more" in text


def test_five_of_a_hundred_are_allowed_and_six_are_not(checking):
    contents = {f"{i}.png": encoded(colour(1, 4)) if i >= 5 else b"x" for i in range(100)}
    assert len(checking(contents, max_unreadable_fraction=0.05).quarantined) == 5
    contents["5.png"] = b"x"
    with pytest.raises(TooManyUnreadableError):
        checking(contents, max_unreadable_fraction=0.05)


def test_a_class_that_loses_every_picture_is_refused(tmp_path):
    good = write(tmp_path / "a.png", noise())
    (tmp_path / "b.png").write_bytes(b"x")
    records = (Record("a.png", good, "a"), Record("b.png", tmp_path / "b.png", "b"))
    collection = Collection(tmp_path, ("a", "b"), records)
    with pytest.raises(Problems, match="class 'b': none of its pictures can be read"):
        check_pictures(
            collection, max_pixels=LIMIT, cache_dir=None, converted_dir=tmp_path / "converted",
            max_unreadable_fraction=0.9,
        )  # fmt: skip


@pytest.fixture
def decodings(monkeypatch):
    """The number of files that were decoded by the check."""
    seen = []
    real = reasons.reason_of_content

    def counted(content, **options):
        seen.append(content)
        return real(content, **options)

    monkeypatch.setattr("kerastl.data.pictures.reason_of_content", counted)
    return seen


def test_a_second_check_decodes_nothing_and_finds_the_same(checking, decodings):
    contents = {**GOOD, "bad.png": b"x", "deep.png": encoded(np.zeros((4, 4), np.uint16))}
    first = checking(contents)
    assert len(decodings) == 3
    second = check_pictures_again(first, checking)
    assert len(decodings) == 3
    assert (first.quarantined, first.has_16_bit) == (second.quarantined, second.has_16_bit)


def check_pictures_again(first, checking):
    """Check the same files without writing them anew."""
    root = first.collection.root
    names = [record.path for record in first.collection.records] + [
        path for path, _ in first.quarantined
    ]
    records = tuple(Record(name, root / name, "a") for name in sorted(names))
    again = Collection(root, ("a",), records)
    return check_pictures(
        again, max_pixels=LIMIT, cache_dir=root.parent / "cache",
        converted_dir=root.parent / "converted", max_unreadable_fraction=1.0,
    )  # fmt: skip


def test_a_changed_file_and_another_limit_are_decoded_again(checking, decodings):
    checking(GOOD)
    checking({"good.png": encoded(noise(9, 9))})
    assert len(decodings) == 2
    with pytest.raises(Problems, match="none of its pictures"):
        checking({"good.png": encoded(noise(9, 9))}, max_pixels=80)
    assert len(decodings) == 3


def test_the_cache_holds_no_path(checking, tmp_path):
    checking({**GOOD, "patient_smith.png": b"x"})
    content = (tmp_path / "cache" / FILE_NAME).read_bytes()
    assert b"smith" not in content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("broken", [b"this is no database" * 100, b""])
def test_a_broken_cache_is_replaced(checking, tmp_path, decodings, broken):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE_NAME).write_bytes(broken)
    first = checking(GOOD)
    check_pictures_again(first, checking)
    assert len(decodings) == 1
    with sqlite3.connect(tmp_path / "cache" / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM verdicts").fetchone() == (1,)
    connection.close()


def test_a_cache_that_cannot_be_written_is_no_obstacle(checking, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert checking(GOOD, cache_dir=tmp_path / "file").quarantined == ()


def test_many_writers_share_one_cache(tmp_path):
    from kerastl.data.verdicts import Verdict, read_verdicts, write_verdicts

    def work(number):
        write_verdicts(tmp_path, {f"{number}-{i}": Verdict(None) for i in range(50)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    keys = [f"{number}-{i}" for number in range(16) for i in range(50)]
    assert len(read_verdicts(tmp_path, keys)) == 800


def tiff(pixels, **options) -> bytes:
    return encoded(pixels, "TIFF", **options)


def test_tiff_is_converted_without_loss(checking):
    found = checking({"colour.tif": tiff(noise()), "grey.tif": tiff(noise(channels=1))})
    assert found.quarantined == ()
    for record in found.collection.records:
        original = by_pillow((found.collection.root / record.path).read_bytes())
        assert record.file.suffix == ".png"
        np.testing.assert_array_equal(decode_image(tf.constant(record.file.read_bytes())), original)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_keeps_its_levels(order):
    levels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    stream = io.BytesIO()
    mode = "I;16" if order == "<" else "I;16B"
    Image.frombytes(mode, (30, 20), levels.astype(f"{order}u2").tobytes()).save(stream, "TIFF")
    png = png_of_tiff(stream.getvalue(), max_pixels=LIMIT)
    assert isinstance(png, bytes)
    stored = tf.io.decode_png(png, dtype=tf.uint16).numpy()[..., 0]
    np.testing.assert_array_equal(stored, levels)


def test_only_the_first_page_of_a_tiff_counts():
    stream = io.BytesIO()
    pages = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    png = png_of_tiff(stream.getvalue(), max_pixels=LIMIT)
    np.testing.assert_array_equal(by_pillow(png), noise(seed=0))


def test_a_tiff_over_the_limit_is_refused_before_it_is_unpacked():
    content = tiff(np.zeros((300, 400), np.uint8), compression="tiff_lzw")
    assert "400 x 300 pixels" in png_of_tiff(content, max_pixels=400 * 300 - 1)
    assert isinstance(png_of_tiff(content, max_pixels=400 * 300), bytes)


def test_floating_point_tiff_is_refused_in_words():
    assert "floating-point" in png_of_tiff(tiff(np.ones((4, 4), np.float32)), max_pixels=LIMIT)


def test_a_tiff_cut_anywhere_gives_a_reason_and_never_an_error():
    content = tiff(noise(12, 9))
    for length in range(4, len(content) - 1, 7):
        assert isinstance(png_of_tiff(content[:length], max_pixels=LIMIT), str | bytes)


def test_animated_webp_and_one_bit_bmp_are_converted_too(checking):
    stream = io.BytesIO()
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    found = checking({"a.webp": stream.getvalue(), "b.bmp": encoded(noise(), "BMP", "1")})
    assert found.quarantined == ()
    first = decode_image(tf.constant(found.collection.records[0].file.read_bytes()))
    np.testing.assert_array_equal(first, noise(seed=0))


def test_sixteen_bit_pictures_are_noticed(checking):
    assert not checking(GOOD).has_16_bit
    deep = encoded(np.zeros((4, 4), np.uint16))
    assert checking({**GOOD, "deep.png": deep}).has_16_bit
    assert checking({**GOOD, "deep.tif": tiff(np.zeros((4, 4), np.uint16))}).has_16_bit


def test_the_window_is_the_percentiles_over_all_pictures_together(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [
        rng.normal(1000 + 200 * i, 150, (64, 64)).clip(0, 4095).astype(np.uint16) for i in range(4)
    ]
    records = [
        Record(f"{i}.png", write(tmp_path / f"{i}.png", one), "a") for i, one in enumerate(pixels)
    ]
    records.append(Record("grey.png", write(tmp_path / "grey.png", noise()), "a"))
    low, high = auto_window(records)
    wanted = np.percentile(np.stack(pixels), [0.5, 99.5])
    assert abs(low - wanted[0]) <= 1
    assert abs(high - wanted[1]) <= 1


def test_without_sixteen_bit_pictures_there_is_no_window(tmp_path):
    assert auto_window([Record("a.png", write(tmp_path / "a.png", noise()), "a")]) is None


def test_pictures_of_one_level_still_have_a_window(tmp_path):
    file = write(tmp_path / "a.png", np.full((5, 5), 900, np.uint16))
    assert auto_window([Record("a.png", file, "a")]) == (900.0, 901.0)
