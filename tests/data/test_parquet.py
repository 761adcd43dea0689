"""Parquet tables with images in a column: the records, the stored files, and what hostile or invalid files give."""

import json
import shlex
import sys
import tracemalloc

import numpy as np
import pyarrow
import pytest
from make_images import encoded, uniform_image
from pyarrow import parquet

import kerastl
from kerastl.cli import main
from kerastl.data import check_images, read_table
from kerastl.data.cache import cache_entries
from kerastl.data.parquet import ParquetTable
from kerastl.data.readers.table import Columns
from kerastl.errors import RequestError

IMAGES = [
    np.random.default_rng(index).integers(0, 256, (8 + index, 8, 3)).astype(np.uint8) for index in range(6)
]
LABELS = [1, 0, 1, 0, 1, 0]


CONTENTS = [encoded(pixels) for pixels in IMAGES]
NESTED = [{"bytes": content, "path": f"photos/{index}.png"} for index, content in enumerate(CONTENTS)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERASTL_CACHE", str(folder))
    return folder


def write(folder, columns, classes=None, name="table.parquet", **options):
    table = pyarrow.table(columns)
    if classes:
        features = {"label": {"names": classes, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ({"image": NESTED}, {}),
        ({"image": CONTENTS}, {}),
        ({"scan": CONTENTS}, {}),
        ({"image": pyarrow.array(CONTENTS, pyarrow.large_binary())}, {"row_group_size": 2}),
        ({"path": CONTENTS}, {"compression": "zstd"}),
        ({"image": NESTED}, {"write_statistics": False, "row_group_size": 4}),
        ({"image": [{"bytes": content} for content in CONTENTS], "thumbnail": CONTENTS}, {}),
    ],
)
def test_images_in_a_column_are_read_like_files(tmp_path, column, options):
    columns = {
        "label": LABELS,
        "patient_id": [7, 7, 8, 8, 9, None],
        "split": ["train"] * 5 + ["dev"],
        **column,
    }
    collection = read_table(write(tmp_path, columns, ["cat", "dog"], **options))
    assert collection.class_names == ("cat", "dog")
    assert [record.path for record in collection.records] == [f"table.parquet#{row}" for row in range(6)]
    assert [record.label for record in collection.records] == [["cat", "dog"][label] for label in LABELS]
    assert [record.group for record in collection.records] == ["7", "7", "8", "8", "9", None]
    assert [record.split for record in collection.records] == ["train"] * 5 + ["val"]
    assert [record.file.read_bytes() for record in collection.records] == CONTENTS


def test_classes_of_hugging_face_datasets_have_their_names_and_minus_one_is_unlabeled(tmp_path):
    columns = {"image": NESTED, "label": [0, -1, 1, None, 1, 0]}
    labels = [record.label for record in read_table(write(tmp_path, columns, ["cat", "dog"])).records]
    assert labels == ["cat", None, "dog", None, "dog", "cat"]
    with pytest.raises(
        RequestError, match="column 'label' has the value 1, but the file defines only the classes 0 to 0"
    ):
        read_table(write(tmp_path, columns, ["cat"]))


@pytest.mark.parametrize(("labels", "is_noted"), [([0, -1, 1, 1, 0, 0], True), ([-1, 1, 1, 1, -1, 1], False)])
def test_minus_one_is_a_class_next_to_others_without_the_metadata_of_hugging_face(tmp_path, labels, is_noted):
    collection = read_table(write(tmp_path, {"image": CONTENTS, "label": labels}))
    assert [record.label for record in collection.records] == list(map(str, labels))
    assert any("Label -1 is read as a class" in note for note in collection.notes) == is_noted


def test_images_may_be_paths_next_to_stored_images(tmp_path):
    (tmp_path / "a.png").write_bytes(CONTENTS[0])
    columns = {"image": [{"bytes": None, "path": "a.png"}, *NESTED[1:]], "label": LABELS}
    records = read_table(write(tmp_path, columns)).records
    assert [record.path for record in records[:2]] == ["a.png", "table.parquet#1"]
    assert [record.file.read_bytes() for record in records] == CONTENTS
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    paths = [{"bytes": None, "path": "../a.png"}, {"bytes": None, "path": None}, None]
    outside = {"image": pyarrow.array(paths, kind), "label": [0, 1, 1]}
    with pytest.raises(
        RequestError,
        match=r"(?s)3 problems.*row 0: \.\./a\.png is outside.*row 1: there is no image\. Remove the row.*\n.*row 2: there",
    ):
        read_table(write(tmp_path, outside))


def test_images_are_stored_once_and_again_after_the_table_changes(tmp_path, cache):
    path = write(tmp_path, {"image": CONTENTS, "label": LABELS})
    first = read_table(path).records
    first[0].file.write_bytes(b"kept")
    assert read_table(path).records[0].file.read_bytes() == b"kept"
    changed = read_table(write(tmp_path, {"image": CONTENTS[::-1], "label": LABELS, "x": LABELS})).records
    assert [record.file.read_bytes() for record in changed] == CONTENTS[::-1]
    entries = cache_entries(cache)
    assert [(entry.kind, entry.describe()) for entry in entries] == [("parquet", "6 images")] * 2


def test_check_stores_no_image_and_does_not_import_tensorflow(tmp_path, cache, capsys, monkeypatch):
    path = write(tmp_path, {"image": CONTENTS * 2, "label": LABELS * 2})
    opened = []
    monkeypatch.setattr("kerastl.data.parquet.ParquetTable.images", lambda *args: opened.append(args))
    arguments = [
        "check",
        "folder-classifier",
        "--data",
        str(path),
        "--set",
        "backbone={name: small_cnn, weights: none}",
    ]
    before = "tensorflow" in sys.modules
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--set", "phases=[{name: all, epochs: 1, trainable: all}]"])
    assert (stop.value.code, opened, ("tensorflow" in sys.modules) == before) == (0, [], True)
    assert not (cache / "parquet").exists()
    assert "table.parquet" in capsys.readouterr().out


def test_hostile_images_are_quarantined_by_row(tmp_path, capsys):
    tiff = encoded(IMAGES[0], "TIFF")
    contents = [*CONTENTS[:4], b"", b"no image", CONTENTS[0][:-30], tiff]
    path = write(tmp_path, {"image": contents, "label": list("abababab")})
    collection = kerastl.read_images(path, max_unreadable_fraction=0.5)
    assert [record.path for record in collection.records] == [
        f"table.parquet#{row}" for row in (0, 1, 2, 3, 7)
    ]
    assert collection.records[-1].file.suffix == ".png"  # converted like a file
    printed = capsys.readouterr().err
    assert "Excluded table.parquet#4: the file is empty" in printed
    assert "Excluded table.parquet#5: this is not an image" in printed
    assert "Excluded table.parquet#6: the file is truncated" in printed


def test_copies_in_two_rows_are_found(tmp_path):
    contents = [*CONTENTS, CONTENTS[0]]
    path = write(tmp_path, {"image": contents, "label": [*LABELS, 0]})
    with pytest.raises(
        RequestError, match=r"table\.parquet#0 and table\.parquet#6: the same image has the labels"
    ):
        read_table(path).split(val_fraction=0.2, test_fraction=0.2, seed=0)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": CONTENTS, "label": [["a"], ["b"]] * 3}, {}, "'label' has values of type list"),
        ({"image": CONTENTS, "label": [b"\xff", b"b"] * 3}, {}, "'label' contains bytes that are not text"),
        (
            {"image": CONTENTS, "label": LABELS},
            {"label": "image"},
            "'image' contains bytes that are not text",
        ),
        ({"image": NESTED, "label": LABELS}, {"group": "image"}, "'image' has values of type struct"),
        ({"a": CONTENTS, "b": CONTENTS, "label": LABELS}, {}, r"no column 'path'.*columns\.path"),
        (
            {"path": ["x.png"] * 6, "image": CONTENTS, "label": LABELS},
            {},
            r"'image' contains images.*columns\.path: image",
        ),
        ({"image": pyarrow.array([], pyarrow.binary()), "label": []}, {}, "no rows"),
        ({"image": CONTENTS, "label": LABELS}, {"label": "kind"}, "no column 'kind'"),
    ],
)
def test_invalid_columns_are_refused_by_name(tmp_path, columns, options, message):
    path = write(tmp_path, columns)
    with pytest.raises(RequestError, match=f"(?s){message}"):
        read_table(path, columns=Columns(**options))


def test_labels_in_bytes_and_categories_are_text(tmp_path):
    kinds = pyarrow.array(["in", "out"] * 3).dictionary_encode()
    path = write(
        tmp_path,
        {"image": CONTENTS, "label": [b"cat", b"dog"] * 3, "domain": kinds, " split ": ["train"] * 6},
    )
    records = read_table(path).records
    assert {(record.label, record.domain, record.split) for record in records} == {
        ("cat", "in", "train"), ("dog", "out", "train")
    }  # fmt: skip


def test_damaged_files_raise_only_request_errors(tmp_path):
    whole = write(tmp_path, {"image": NESTED, "label": LABELS}).read_bytes()
    generator = np.random.default_rng(0)
    damaged = tmp_path / "damaged.parquet"
    messages = []
    for attempt in range(60):
        content = bytearray(whole)
        for position in generator.integers(len(whole) // 2 * (attempt % 2), len(whole), 4):
            content[position] = generator.integers(256)
        damaged.write_bytes(content if attempt % 3 else content[: generator.integers(len(whole))])
        try:
            assert len(read_table(damaged).records) == 6
        except RequestError as error:
            messages.append(str(error))
    assert len(messages) >= 20
    assert all("damaged.parquet" in message for message in messages)


def test_a_split_keeps_the_names_of_the_rows(tmp_path):
    pixels = [uniform_image(index) for index in range(12)]
    path = write(tmp_path, {"image": [encoded(image) for image in pixels], "label": ["a", "b"] * 6})
    collection = read_table(path)
    checked = check_images(
        collection, max_pixels=10_000, cache_dir=None, converted_dir=tmp_path / "converted"
    )
    divided = checked.collection.split(val_fraction=0.25, test_fraction=0.25, seed=1)
    names = [record.path for part in (divided.train, divided.val, divided.test) for record in part.records]
    assert sorted(names) == sorted(record.path for record in collection.records)


def test_a_folder_of_parquet_files_is_refused_with_a_command_that_joins_them(tmp_path, monkeypatch):
    folder = tmp_path / "it's 1"
    (folder / "data").mkdir(parents=True)
    for index, name in ((0, "a.parquet"), (3, "b.parquet")):
        rows = slice(index, index + 3)
        write(folder / "data", {"image": NESTED[rows], "label": LABELS[rows]}, ["cat", "dog"], name=name)
    with pytest.raises(RequestError) as refused:
        kerastl.read_images(folder)
    (line,) = [line for line in str(refused.value).splitlines() if "Parquet files are tables" in line]
    python, option, script = shlex.split(line.partition(" split: ")[2])
    assert (python, option) == ("python", "-c")
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    records = read_table(tmp_path / "all.parquet").records
    assert [record.label for record in records] == ["dog", "cat"] * 3
    assert [record.file.read_bytes() for record in records] == CONTENTS


def test_a_path_in_place_of_images_is_refused_with_the_call_that_reads_it(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    for path in ("photos", tmp_path / "x.parquet"):
        with pytest.raises(RequestError) as refused:
            kerastl.evaluate(model, path)
        assert str(refused.value).endswith(f"Read it first: kerastl.read_images({str(path)!r}).")


LARGE = b"\0" * 140_000_000
ROWS = 20_000


def repeated(cell):
    """Return a column with the same cell in each row, which is stored once."""
    return pyarrow.DictionaryArray.from_arrays(np.zeros(ROWS, np.int32), pyarrow.array([cell]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (lambda: {"image": [*CONTENTS, LARGE]}, "'image' would unpack from"),
        (lambda: {"image": [*NESTED, {"bytes": LARGE}]}, "'image.bytes' would unpack from"),
        (lambda: {"image": CONTENTS, "label": [*"abcde", LARGE.decode()]}, "'label' would unpack from"),
        (lambda: {"image": repeated(bytes(2**20))}, "'image' would unpack from"),
        (lambda: {"image": repeated(b"x"), "label": repeated("a" * 2**20)}, ""),
    ],
    ids=["bytes", "structure", "text", "repeated bytes", "repeated text"],
)
def test_a_small_file_with_gigabytes_of_cells_needs_little_memory(tmp_path, columns, message):
    path = write(tmp_path, columns(), compression="zstd", dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 2_000_000
    default = pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(default)
    pyarrow.set_memory_pool(pool)
    tracemalloc.start()
    try:
        table, found = ParquetTable(path), ""
        try:
            num_rows = sum(1 for _ in table.rows([name for name in table.names if name == "label"]))
            assert sum(1 for _ in table.image_paths("image")) == table.num_rows
            num_images = sum(1 for _ in table.images("image"))
            assert num_rows == num_images == table.num_rows
        except RequestError as error:
            found = str(error)
        peak = pool.max_memory() + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pyarrow.set_memory_pool(default)
    assert message in found
    assert bool(message) == bool(found)
    assert peak < 100_000_000


def test_images_that_are_compressed_in_the_table_are_read(tmp_path):
    """Uncompressed images can be smaller in a table by a factor of 10."""
    contents = [encoded(pixels.repeat(4, 0).repeat(4, 1), "BMP") for pixels in IMAGES] * 1000
    path = write(tmp_path, {"image": contents}, compression="zstd", use_dictionary=False)
    assert sum(map(len, contents)) / path.stat().st_size > 5
    assert list(ParquetTable(path).images("image")) == contents
