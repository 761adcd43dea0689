"""Reader `tfds`: a prepared dataset of TensorFlow Datasets. Its encoded images are stored as files once."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen

from kerastl.console import track
from kerastl.data.cache import cache_folder, fill_entry
from kerastl.data.convert import extension_of
from kerastl.data.identity import Identity, footer_of
from kerastl.data.layout import split_of
from kerastl.data.records import Collection, Record, check_class_names, natural_order
from kerastl.errors import RequestError, did_you_mean, first_line, raise_problems, suggest
from kerastl.options import StrictModel
from kerastl.runs import read_csv, write_csv

# name[/config][:version]. A namespace before the name would need the network.
NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?")
INDEX = "index.csv"


def _dataset_is_a_name(options: Options) -> Iterator[tuple[str, str]]:
    if not NAME.fullmatch(options.dataset):
        yield ("dataset", f"must be name, name/config or name/config:1.0.0, got {options.dataset!r}.")


class Options(StrictModel):
    """Options of the reader `tfds`.

    Args:
        dataset: Name in the catalog, optionally with configuration and version: `name/config:1.0.0`.
        splits: Splits to read. By default, train, validation and test, if they exist.
        image_key: Name of the image feature.
        label_key: Name of the class feature.
        data_dir: Folder with the prepared datasets. By default, that of TensorFlow Datasets.
        download: Whether to download and prepare a missing dataset.
        identity: `normalized` rejects class names that differ only in case, spaces, Unicode forms or number formats.
            `exact` treats them as different classes.
    """

    RULES: ClassVar = (_dataset_is_a_name,)
    dataset: Annotated[str, MinLen(1)]
    splits: tuple[str, ...] = ()
    image_key: str = "image"
    label_key: str = "label"
    data_dir: Path | None = None
    download: bool = False
    identity: Identity = "normalized"


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Return one record per example, with the path `tfds:name/split/number`.

    The encoded images are written unchanged to files in `cache_dir` once. Later calls do not open the dataset.

    Raises:
        RequestError: The dataset is not prepared, a split or feature does not exist, or the cache is not writable.
    """
    builder = _prepared(options)
    splits = _splits(builder, options)
    names = _class_names(builder, options)
    folder = _folder(builder, options, cache_dir)

    def missing_splits() -> list[str]:
        return [split for split in splits if not (folder / split / INDEX).is_file()]

    def write() -> None:
        for split in missing_splits():
            _write_split(builder, split, options, folder, names)

    fill_entry(folder, is_complete=lambda: not missing_splits(), write=write)
    records = _records(options, splits, folder)
    labels = natural_order(record.label for record in records if record.label is not None)
    problems = check_class_names(labels, options.identity)
    raise_problems(f"The dataset {options.dataset}", problems, footer_of(problems))
    note = f"{builder.info.full_name}: {', '.join(splits)}, {len(records):,} images stored in {folder}."
    return Collection(None, labels, records, (note,), identity=options.identity)


def _records(options: Options, splits: list[str], folder: Path) -> tuple[Record, ...]:
    """Return the records of the stored images. Splits are kept if they include train and another split."""
    split_words = {split: split_of(split) for split in splits}
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
            f"Cannot import TensorFlow Datasets: {error}. It may need a package that it does not declare: "
            "pip install tensorflow-datasets importlib_resources"
        ) from error
    return tensorflow_datasets


def _prepared(options: Options) -> Any:
    """Return the builder of a prepared dataset.

    The builder is created from files, because one from the catalog would access the network.
    """
    library = _library()
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    data_dir = {} if options.data_dir is None else {"data_dir": str(options.data_dir.absolute())}
    try:
        return builder_from_files(options.dataset, **data_dir)
    except (ValueError, AssertionError, OSError) as error:
        if not options.download:
            raise RequestError(_not_prepared(options)) from error
    try:
        library.builder(options.dataset, **data_dir).download_and_prepare()
        return builder_from_files(options.dataset, **data_dir)
    # Builders have many authors and raise any type of error: of the network, the disk, checksums and their own.
    except Exception as error:
        raise RequestError(f"Cannot download the dataset {options.dataset}: {first_line(error)}") from error


def _not_prepared(options: Options) -> str:
    from tensorflow_datasets.core.utils import file_utils

    folders = file_utils.list_data_dirs(given_data_dir=options.data_dir)
    name = options.dataset.partition("/")[0].partition(":")[0]
    # The catalog of community datasets would need the network.
    known = _library().list_builders(with_community_datasets=False)
    hint = "" if name in known else suggest(name, known)
    return (
        f"The dataset {options.dataset} is not prepared on this machine. {hint}Searched in "
        f"{', '.join(map(str, folders))}. To download and prepare it: --set data.reader.download=true. "
        "If it is in another folder: --set data.reader.data_dir=DIR. Nothing was run."
    )


def _splits(builder: Any, options: Options) -> list[str]:
    splits = [name for name in builder.info.splits if builder.info.splits[name].num_examples]
    unknown = [name for name in options.splits if name not in splits]
    if unknown:
        raise RequestError(
            f"{options.dataset} has no split {unknown[0]!r}. {did_you_mean(unknown[0], splits)}"
        )
    standard = [name for name in splits if split_of(name)]
    return list(dict.fromkeys(options.splits)) or standard or splits


def _class_names(builder: Any, options: Options) -> Any:
    """Return the label feature, which maps class indices to names.

    Raises:
        RequestError: A feature does not exist or has another type.
    """
    features = _library().features
    available = builder.info.features
    for key, feature_type, option in (
        (options.image_key, features.Image, "image_key"),
        (options.label_key, features.ClassLabel, "label_key"),
    ):
        if key not in available or not isinstance(available[key], feature_type):
            suitable = [name for name in available if isinstance(available[name], feature_type)]
            raise RequestError(
                f"{options.dataset} has no {feature_type.__name__} feature {key!r}. Features: "
                f"{', '.join(available)}. Suitable for {option}: {', '.join(suitable) or 'none'}."
            )
    return available[options.label_key]


def _folder(builder: Any, options: Options, cache_dir: Path | None) -> Path:
    """Return the folder for the files of this dataset, version and features."""
    cache_dir = cache_dir or cache_folder()
    state = "\0".join([str(builder.data_dir), options.image_key, options.label_key])
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return cache_dir.absolute() / "tfds" / f"{builder.info.name}-{digest}"


def _write_split(builder: Any, split: str, options: Options, folder: Path, names: Any) -> None:
    """Write the images of a split and their index atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{split}.", ignore_cleanup_errors=True) as part:
        rows = []
        total = builder.info.splits[split].num_examples
        examples = track(_examples(builder, split, options), f"writing {split}", total)
        for index, (content, number) in enumerate(examples):
            file = f"{index:07d}.{extension_of(content) or 'bin'}"
            Path(part, file).write_bytes(content)
            rows.append((index, file, names.int2str(number) if number >= 0 else ""))
        write_csv(Path(part, INDEX), ["index", "file", "label"], rows)
        Path(part).rename(folder / split)


def _examples(builder: Any, split: str, options: Options) -> Iterator[tuple[bytes, int]]:
    """Yield `(encoded image, class index)` in the order of the files.

    `as_dataset` cannot read array_record files, and `as_data_source` cannot read TFRecord files.
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
        # Read files sequentially, so that the index of an example does not depend on the machine.
        read_config=library.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    for example in dataset:
        yield example[options.image_key].numpy(), int(example[options.label_key])
