"""Read a prepared data set of TensorFlow Datasets: its images are written out once, as they are stored."""

from __future__ import annotations

import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen

from kerastl.console import track
from kerastl.data.cache import cache_folder, cache_not_writable, entry_lock, mark_in_use
from kerastl.data.convert import extension_of
from kerastl.data.records import SPLIT_WORDS, Collection, Record, check_class_names, natural_order
from kerastl.errors import Problem, Problems, RequestError
from kerastl.options import StrictModel
from kerastl.runs import read_csv, write_csv

# name[/config][:version]; a namespace before the name would be looked up on the network.
NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?")
INDEX = "index.csv"


def _dataset_is_a_name(options: Options) -> Iterator[tuple[str, str]]:
    if not NAME.fullmatch(options.dataset):
        yield ("dataset", f"must be name, name/config or name/config:1.0.0, got {options.dataset!r}.")


class Options(StrictModel):
    """Options of the reader `tfds`.

    Args:
        dataset: name in the catalogue, with configuration and version where wanted: `name/config:1.0.0`.
        splits: which of its splits; empty: train, validation and test, as far as it has them.
        image_key: feature that holds the image.
        label_key: feature that holds the class.
        data_dir: where data sets are prepared; TensorFlow Datasets' own place where not given.
        download: fetch and prepare the data set when it is not there.
    """

    RULES: ClassVar = (_dataset_is_a_name,)
    dataset: Annotated[str, MinLen(1)]
    splits: tuple[str, ...] = ()
    image_key: str = "image"
    label_key: str = "label"
    data_dir: Path | None = None
    download: bool = False


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Return a record for each example; `path` is `tfds:name/split/number`.

    Every image is written to a file once, its bytes untouched, below `cache_dir`; the next call
    finds them there and does not open the data set.

    Raises:
        RequestError: the data set is not prepared, has no such split, or holds no images or classes; or
            the cache cannot be written.
    """
    builder = _prepared(options)
    splits = _splits(builder, options)
    names = _class_names(builder, options)
    folder = _folder(builder, options, cache_dir)
    try:
        _write_missing(builder, splits, options, folder, names)
    except OSError as error:
        # A cache that can only be read serves what is in it.
        if not all((folder / split / INDEX).is_file() for split in splits):
            raise cache_not_writable(folder.parent.parent, error) from error
    records = _records(options, splits, folder)
    labels = natural_order(record.label for record in records if record.label is not None)
    wrong = check_class_names(labels)
    if len(labels) == 1:
        wrong.append(Problem("", f"holds only the class {labels[0]!r}: at least two are needed"))
    if wrong:
        raise Problems(f"The data set {options.dataset}", wrong)
    note = f"{builder.info.full_name}: {', '.join(splits)}, {len(records):,} images as files in {folder}."
    return Collection(None, labels, records, (note,))


def _records(options: Options, splits: list[str], folder: Path) -> tuple[Record, ...]:
    """Return the records of images that lie as files; the splits are kept where they are a division."""
    split_words = {split: SPLIT_WORDS.get(split) for split in splits}
    is_ready = len(splits) > 1 and "train" in split_words.values() and all(split_words.values())
    return tuple(
        Record(
            path=f"tfds:{options.dataset}/{split}/{row['index']}",
            file=folder / split / row["file"],
            label=row["label"] or None,
            split=split_words[split] if is_ready else None,
        )
        for split in splits
        for row in read_csv(folder / split / INDEX)
    )


def _library() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise RequestError(
            f"TensorFlow Datasets cannot be imported: {error}. It needs importlib_resources, which it "
            "does not declare: pip install tensorflow-datasets importlib_resources"
        ) from error
    return tensorflow_datasets


def _prepared(options: Options) -> Any:
    """Return the builder of a data set that lies on this disk.

    It is made from files only: one made from a catalogue's code asks the network what it should hold.
    """
    library = _library()
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    place = {} if options.data_dir is None else {"data_dir": str(options.data_dir.absolute())}
    try:
        return builder_from_files(options.dataset, **place)
    except (ValueError, AssertionError, OSError) as error:
        if not options.download:
            raise RequestError(_not_prepared(options)) from error
    try:
        library.builder(options.dataset, **place).download_and_prepare()
        return builder_from_files(options.dataset, **place)
    # Builders are scripts of many authors: network, disk, checksums and their own errors all end up here.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise RequestError(
            f"The data set {options.dataset} cannot be fetched: {reason[0] if reason else error!r}"
        ) from error


def _not_prepared(options: Options) -> str:
    from tensorflow_datasets.core.utils import file_utils

    places = file_utils.list_data_dirs(given_data_dir=options.data_dir)
    name = options.dataset.partition("/")[0].partition(":")[0]
    # The catalogue of community data sets would be fetched.
    known = _library().list_builders(with_community_datasets=False)
    near = [] if name in known else difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"The data set {options.dataset} is not prepared on this machine.{hint} Looked in "
        f"{', '.join(map(str, places))}. To fetch and prepare it: --set data.reader.download=true. "
        "If it lies elsewhere: --set data.reader.data_dir=DIR. Nothing was run."
    )


def _splits(builder: Any, options: Options) -> list[str]:
    there = [name for name in builder.info.splits if builder.info.splits[name].num_examples]
    strange = [name for name in options.splits if name not in there]
    if strange:
        near = difflib.get_close_matches(strange[0], there, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RequestError(
            f"{options.dataset} has no split {strange[0]!r}.{hint} It has: {', '.join(there)}."
        )
    usual = [name for name in there if name in SPLIT_WORDS]
    return list(dict.fromkeys(options.splits)) or usual or there


def _class_names(builder: Any, options: Options) -> Any:
    """Return the label feature, which turns numbers into names.

    Raises:
        RequestError: no such features, or not an image and a class.
    """
    features = _library().features
    found = builder.info.features
    for key, wanted, option in (
        (options.image_key, features.Image, "image_key"),
        (options.label_key, features.ClassLabel, "label_key"),
    ):
        if key not in found or not isinstance(found[key], wanted):
            fitting = [name for name in found if isinstance(found[name], wanted)]
            raise RequestError(
                f"{options.dataset} has no {wanted.__name__} feature {key!r}; features: "
                f"{', '.join(found)}. Fitting for {option}: {', '.join(fitting) or 'none'}."
            )
    return found[options.label_key]


def _folder(builder: Any, options: Options, cache_dir: Path | None) -> Path:
    """Return where the files of this data set lie: another version or feature, another folder."""
    cache_dir = cache_dir or cache_folder()
    state = "\0".join([str(builder.data_dir), options.image_key, options.label_key])
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return cache_dir.absolute() / "tfds" / f"{builder.info.name}-{digest}"


def _write_missing(builder: Any, splits: list[str], options: Options, folder: Path, names: Any) -> None:
    """Write the splits that are not there, and note that the folder is used."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with entry_lock(folder):
        for split in splits:
            if not (folder / split / INDEX).is_file():
                _write_split(builder, split, options, folder, names)
        mark_in_use(folder)


def _write_split(builder: Any, split: str, options: Options, folder: Path, names: Any) -> None:
    """Write the images of a split and their index, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder, prefix=f".{split}."))
    try:
        rows = []
        total = builder.info.splits[split].num_examples
        examples = track(_examples(builder, split, options), f"writing {split}", total)
        for index, (content, number) in enumerate(examples):
            file = f"{index:07d}.{extension_of(content) or 'bin'}"
            (building / file).write_bytes(content)
            rows.append((index, file, names.int2str(number) if number >= 0 else ""))
        write_csv(building / INDEX, ["index", "file", "label"], rows)
        building.rename(folder / split)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _examples(builder: Any, split: str, options: Options) -> Iterator[tuple[bytes, int]]:
    """Yield (encoded image, number of the class) in the order of the files.

    `as_dataset` does not read array_record files, `as_data_source` does not read TFRecord.
    """
    library = _library()
    decoders = {options.image_key: library.decode.SkipDecoding()}
    if builder.info.file_format == library.core.FileFormat.ARRAY_RECORD:
        for example in builder.as_data_source(split=split, decoders=decoders):
            yield bytes(example[options.image_key]), int(example[options.label_key])
        return
    dataset = builder.as_dataset(
        split=split,
        decoders=decoders,
        shuffle_files=False,
        # One file after the other: the number of an example must not depend on the machine.
        read_config=library.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    for example in dataset:
        yield example[options.image_key].numpy(), int(example[options.label_key])
