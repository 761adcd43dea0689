"""Reader `folder`: one subfolder per class, or folders train, val and test with one subfolder per class."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import MinLen

from kerastl.data.convert import reason_to_ignore
from kerastl.data.records import SPLIT_WORDS, Collection, Record, check_class_names, natural_order, pluralize
from kerastl.errors import Problem, RequestError, raise_problems
from kerastl.options import StrictModel

SHOWN_KINDS = 20
SHOWN_NAMES = 3


IGNORED = {
    "link": ("symbolic link", "with a missing target or a target outside the folder, e.g. {}."),
    "folder_link": ("link", "to a folder, e.g. {}."),
    "name": ("file", "with a name that is not UTF-8. Rename them."),
    "outside": ("image", "outside the class folders."),
    "hidden": ("hidden folder", "(the name starts with a dot), e.g. {}."),
    "hidden_file": ("hidden file", "(the name starts with a dot), e.g. {}."),
}
"""Kinds of ignored files and folders, besides those that are not images, and their notes."""


class Skipped:
    """Files and folders that are ignored: names by kind of file, and by a key of `IGNORED`."""

    def __init__(self) -> None:
        self.kinds = defaultdict[str, list[str]](list)
        self.names = defaultdict[str, list[str]](list)

    def is_image(self, file: Path, *, or_unsupported: bool = False) -> bool:
        """Return whether a file is read as an image, by `reason_to_ignore`. Other files are added to the ignored files."""
        if file.name.startswith("."):
            self.names["hidden_file"].append(file.name)
            return False
        kind = reason_to_ignore(file, or_unsupported=or_unsupported)
        if kind is not None:
            self.kinds[kind].append(file.name.encode(errors="backslashreplace").decode())
        return kind is None

    def counts(self) -> dict[str, int]:
        """Return the number of ignored files and folders by kind."""
        named = {IGNORED[key][0]: len(names) for key, names in self.names.items() if names}
        return {kind: len(names) for kind, names in self.kinds.items()} | named

    def notes(self) -> list[str]:
        """Return one line per reason."""
        lines = []
        if self.kinds:
            by_count = sorted(self.kinds.items(), key=lambda item: -len(item[1]))
            kinds = [f"{len(names)} {kind}: {_shown(names)}" for kind, names in by_count]
            shown = "; ".join(kinds[:SHOWN_KINDS]) + ("; ..." if len(kinds) > SHOWN_KINDS else "")
            total = sum(map(len, self.kinds.values()))
            lines.append(f"Ignored {pluralize(total, 'file')} without a supported image. {shown}.")
        for key, (noun, text) in IGNORED.items():
            if names := self.names[key]:
                lines.append(f"Ignored {pluralize(len(names), noun)} {text.format(names[0])}")
        return lines


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")


def list_subfolders(folder: Path, root: Path, skipped: Skipped) -> list[Path]:
    """Return the visible subfolders of a folder in natural order. Links to the outside of `root` are ignored."""
    folders = []
    skipped.names["hidden"] += sorted(path.name for path in folder.glob(".*") if path.is_dir())
    for entry in _entries(folder):
        if _stays_inside(entry, root, skipped) and entry.is_dir() and _is_utf8(entry.name, skipped):
            folders.append(Path(entry.path))
    from natsort import natsorted  # slow to import, and not needed by `check`

    return natsorted(folders, key=lambda folder: folder.name)


def images(folder: Path, root: Path, skipped: Skipped, *, nested: bool = True) -> Iterator[Path]:
    """Yield the images below `folder` in a fixed order. The content decides; hidden files are ignored.

    Args:
        folder: The folder to search.
        root: Links to the outside of this folder are not followed.
        skipped: Collects the ignored files.
        nested: Whether to search subfolders, each once even if several links lead to it.
    """
    waiting, seen = [folder], set()
    while waiting:
        current = waiting.pop()
        identity = current.stat()
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        deeper = []
        for entry in _entries(current, hidden=True):
            if not _stays_inside(entry, root, skipped):
                continue
            if not entry.is_dir():
                if _is_utf8(entry.name, skipped) and skipped.is_image(Path(entry.path)):
                    yield Path(entry.path)
            elif not entry.name.startswith("."):
                deeper.append(Path(entry.path))
            elif current != folder:
                skipped.names["hidden"].append(entry.name)
        waiting += reversed(deeper) if nested else []


def _entries(folder: Path, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        shown = (entry for entry in entries if hidden or not entry.name.startswith("."))
        return sorted(shown, key=lambda entry: entry.name)


def _is_utf8(name: str, skipped: Skipped) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        skipped.names["name"].append(ascii(name))
        return False
    return True


def _stays_inside(entry: os.DirEntry[str], root: Path, skipped: Skipped) -> bool:
    if not entry.is_symlink():
        return True
    with contextlib.suppress(OSError, RuntimeError):
        if Path(entry.path).resolve(strict=True).is_relative_to(root):
            return True
    skipped.names["link"].append(entry.name.encode(errors="backslashreplace").decode())
    return False


FOOTER = "Expected a folder with one subfolder of images per class. Nothing was run."


def _group_pattern_has_one_group(options: Options) -> Iterator[tuple[str, str]]:
    if options.group_pattern is None:
        return
    try:
        groups = re.compile(options.group_pattern).groups
    except re.error as error:
        yield "group_pattern", f"is not a valid regular expression: {error}."
    else:
        if groups != 1:
            yield "group_pattern", f"must have exactly one group (...), but has {groups}."


class Options(StrictModel):
    r"""Options of the reader `folder`.

    Args:
        path: The folder. Its subfolders are the classes. If all subfolders are named train, val (validation, valid,
            dev) or test, they are the splits and are kept.
        group_pattern: Regular expression with one group, searched in each path relative to the folder. Images with
            the same group stay in one split, e.g. `(patient\d+)`.
        labelled: Whether subfolders are classes. If false, all images are unlabeled.
    """

    RULES: ClassVar = (_group_pattern_has_one_group,)
    path: Path
    group_pattern: Annotated[str, MinLen(1)] | None = None
    labelled: bool = True

    def problems(self) -> list[str]:
        """Return the problems of the path, without reading images."""
        if not self.path.exists():
            return [f"path: the folder {self.path.absolute()} does not exist"]
        if not self.path.is_dir():
            return [f"path: {self.path.absolute()} is a file, not a folder"]
        return []


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Read the image files of a folder with class, split and group. No image is decoded.

    Raises:
        Problems: The folder does not exist, has an empty class, or class names differ only in case.
        RequestError: There are no images, or the group pattern does not match a path.
    """
    raise_problems(f"The folder {options.path}", [Problem("", text) for text in options.problems()])
    root = options.path.resolve()
    skipped = Skipped()
    try:
        folders = list_subfolders(root, root, skipped) if options.labelled else []
        if folders:
            records, notes = _read_labeled(root, folders, options, skipped)
        else:
            records, notes = _read_unlabeled(root, options, skipped)
    except PermissionError as error:
        raise RequestError(f"Cannot read {error.filename}: permission denied.") from error
    _check_groups(records, options)
    names = natural_order(record.label for record in records if record.label is not None)
    return Collection(root, names, tuple(records), (*notes, *skipped.notes()), skipped.counts())


def _read_unlabeled(root: Path, options: Options, skipped: Skipped) -> tuple[list[Record], list[str]]:
    files = list(images(root, root, skipped))
    if not files:
        raise RequestError("\n".join([f"{root} has no images.", *skipped.notes(), FOOTER]))
    records = [_record(file, root, None, None, options) for file in files]
    return records, [f"Read {pluralize(len(files), 'unlabeled image')} from {root.name}."]


def _read_labeled(
    root: Path, folders: list[Path], options: Options, skipped: Skipped
) -> tuple[list[Record], list[str]]:
    splits = _split_folders(root, folders)
    records: list[Record] = []
    problems: list[Problem] = []
    parents = splits.items() if splits else [(None, root)]
    for split, parent in parents:
        outside = Skipped()
        skipped.names["outside"] += (file.name for file in images(parent, root, outside, nested=False))
        skipped.names["hidden_file"] += outside.names["hidden_file"]
        for kind, names in outside.kinds.items():
            skipped.kinds[kind] += names
        classes = list_subfolders(parent, root, skipped) if splits else folders
        if not classes:
            problems.append(Problem(parent.name, "has no subfolders. A split folder needs one per class."))
        for folder in classes:
            files = list(images(folder, root, skipped))
            if not files:
                where = f"{parent.name}/{folder.name}" if splits else folder.name
                problems.append(Problem(f"class folder {where!r}", "has no images"))
            records += [_record(file, root, folder.name, split, options) for file in files]
    _check_classes(root, records, problems, skipped)
    return records, _split_notes(splits)


def _split_folders(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folder of each split, or nothing if the subfolders are classes.

    Raises:
        RequestError: There are other folders next to split folders, or two folders for a split.
    """
    words = {folder.name: SPLIT_WORDS.get(folder.name.lower()) for folder in folders}
    names = {word for word in words.values() if word}
    if "train" not in names or (len(names) < 2 and len(folders) > 1):
        return {}
    others = [name for name, word in words.items() if not word]
    if others:
        raise RequestError(
            f"{root} has split folders ({', '.join(sorted(names))}) and other folders "
            f"({', '.join(others[:5])}). Move the other folders, or the split folders into a new folder."
        )
    splits: dict[str, Path] = {}
    for folder in folders:
        word = words[folder.name] or ""
        if word in splits:
            raise RequestError(
                f"{root} has two folders for the split {word}: {splits[word].name} and "
                f"{folder.name}. Keep only one."
            )
        splits[word] = folder
    return splits


def _split_notes(splits: dict[str, Path]) -> list[str]:
    if not splits:
        return []
    names = ", ".join(folder.name for folder in splits.values())
    notes = [f"Kept the given splits: {names}."]
    missing = [word for word in ("val", "test") if word not in splits]
    if missing:
        notes.append(f"There is no folder for {' and '.join(missing)}, so images of train are used.")
    return notes


def _record(file: Path, root: Path, label: str | None, split: str | None, options: Options) -> Record:
    path = file.relative_to(root).as_posix()
    match = re.search(options.group_pattern, path) if options.group_pattern else None
    return Record(path, file, label, split, match.group(1) if match else None)


def _check_classes(root: Path, records: list[Record], problems: list[Problem], skipped: Skipped) -> None:
    by_split: dict[str | None, set[str]] = defaultdict(set)
    for record in records:
        by_split[record.split].add(record.label or "")
    names = set().union(*by_split.values())
    problems = problems + check_class_names(names)
    for split, classes in by_split.items():
        if split in ("val", "test"):
            unknown = natural_order(classes - by_split["train"])
            problems += [Problem(f"class {name!r}", f"is in {split} but not in train") for name in unknown]
    if len(names) < 2 and not problems:
        content = f"only the class {next(iter(names))!r}" if names else "no images"
        problems = [Problem("", f"has {content}. At least two classes are needed.")]
    raise_problems(f"The folder {root}", problems, "\n".join([*skipped.notes(), FOOTER]))


def _check_groups(records: list[Record], options: Options) -> None:
    if options.group_pattern is None:
        return
    without = [record.path for record in records if record.group is None]
    if without:
        raise RequestError(
            f"group_pattern {options.group_pattern!r} does not match "
            f"{pluralize(len(without), 'path')} of {len(records):,}, e.g. {without[0]}."
        )
