"""Read a folder of images: a sub-folder a class, or train, val and test folders of such folders."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import MinLen

from kerastl.data.convert import has_image_name
from kerastl.data.records import SPLIT_WORDS, Collection, Record, check_class_names, natural_order, pluralize
from kerastl.errors import Problem, Problems, RequestError
from kerastl.options import StrictModel

SHOWN_EXTENSIONS = 8


@dataclass
class Skipped:
    """What was seen below a folder and is no image of it."""

    extensions: Counter[str] = field(default_factory=Counter)
    outside_links: list[str] = field(default_factory=list)
    odd_names: int = 0
    loose: int = 0
    hidden: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one line for each kind of thing that was skipped."""
        lines = []
        if self.extensions:
            total = sum(self.extensions.values())
            kinds = [f"{count} {kind}" for kind, count in self.extensions.most_common()]
            shown = ", ".join(kinds[:SHOWN_EXTENSIONS]) + (", ..." if len(kinds) > SHOWN_EXTENSIONS else "")
            lines.append(f"Skipped {pluralize(total, 'file')} that are no images by name: {shown}.")
        if self.outside_links:
            number = pluralize(len(self.outside_links), "symbolic link")
            lines.append(
                f"Did not follow {number} that lead out of the folder or nowhere, "
                f"the first: {self.outside_links[0]}."
            )
        if self.odd_names:
            lines.append(f"Skipped {pluralize(self.odd_names, 'file')} whose name is not UTF-8: rename them.")
        if self.loose:
            number = pluralize(self.loose, "image")
            lines.append(f"Skipped {number} that lie beside the class folders, not in one.")
        if self.hidden:
            number = pluralize(len(self.hidden), "hidden folder")
            lines.append(f"Skipped {number}, whose name begins with a dot, the first: {self.hidden[0]}.")
        return lines


@dataclass(frozen=True)
class Folder:
    """A place below the root: its path as written, and on disk."""

    name: str
    path: Path


def sub_folders(folder: Path, root: Path, skipped: Skipped) -> list[Folder]:
    """Return the visible sub-folders of a folder in natural order; links out of `root` are noted."""
    found = []
    with os.scandir(folder) as entries:
        hidden = [entry.name for entry in entries if entry.name.startswith(".") and entry.is_dir()]
    skipped.hidden += sorted(hidden)
    for entry in _entries(folder):
        if _stays_inside(entry, root, skipped) and entry.is_dir():
            if _is_utf8(entry.name):
                found.append(Folder(entry.name, Path(entry.path)))
            else:
                skipped.odd_names += 1
    from natsort import natsorted  # slow to import, and not needed by `check`

    return natsorted(found, key=lambda item: item.name)


def images(folder: Path, root: Path, skipped: Skipped, *, nested: bool = True) -> Iterator[Path]:
    """Yield the regular files below `folder` that are images by name, in a fixed order.

    Hidden files are passed over. What decides whether a file is an image is its content, later;
    its name decides whether it is looked at.

    Args:
        folder: where to look.
        root: links that lead out of it are not followed.
        skipped: filled with what is passed over.
        nested: also look in sub-folders, each only once however many links lead to it.
    """
    waiting, seen = [folder], set()
    while waiting:
        place = waiting.pop()
        identity = place.stat()
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        deeper = []
        for entry in _entries(place):
            if not _stays_inside(entry, root, skipped):
                continue
            if entry.is_dir():
                deeper.append(Path(entry.path))
            elif entry.is_file() and _is_image(entry.name, skipped):
                yield Path(entry.path)
        waiting += reversed(deeper) if nested else []


def written_path(file: Path, root: Path) -> str:
    """Return a path as outputs write it: relative to the root, with `/`."""
    return file.relative_to(root).as_posix()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(
            (entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_image(name: str, skipped: Skipped) -> bool:
    if not _is_utf8(name):
        skipped.odd_names += 1
        return False
    if has_image_name(name):
        return True
    extension = Path(name).suffix[1:].lower()
    skipped.extensions[f".{extension}" if extension else "without extension"] += 1
    return False


def _stays_inside(entry: os.DirEntry[str], root: Path, skipped: Skipped) -> bool:
    if not entry.is_symlink():
        return True
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        target = None
    if target is not None and target.is_relative_to(root):
        return True
    name = entry.name if _is_utf8(entry.name) else ascii(entry.name)
    skipped.outside_links.append(name)
    return False


FOOTER = "Wanted: a folder with one sub-folder a class, each with images. Nothing was run."


def _group_pattern_has_one_group(options: Options) -> Iterator[tuple[str, str]]:
    if options.group_pattern is None:
        return
    try:
        groups = re.compile(options.group_pattern).groups
    except re.error as error:
        yield "group_pattern", f"is not a regular expression: {error}."
    else:
        if groups != 1:
            yield "group_pattern", f"must have exactly one group (...), has {groups}."


class Options(StrictModel):
    r"""Options of the reader `folder`.

    Args:
        path: the folder; sub-folders are the classes. When all its sub-folders are named train, val
            (validation, valid, dev) and test, these are the splits and are never divided anew.
        group_pattern: a regular expression with one group, searched in each path relative to the
            folder; what the group holds must stay together in one split, e.g. `(patient\d+)`.
        labelled: false: sub-folders are no classes; every image below the folder is unlabelled.
    """

    RULES: ClassVar = (_group_pattern_has_one_group,)
    path: Path
    group_pattern: Annotated[str, MinLen(1)] | None = None
    labelled: bool = True

    def problems(self) -> list[str]:
        """Return what is wrong with the folder, without reading images."""
        found = []
        if not self.path.exists():
            found.append(f"path: there is no folder {self.path.absolute()}")
        elif not self.path.is_dir():
            found.append(f"path: {self.path.absolute()} is a file, a folder is wanted")
        return found


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Return every image of the folder, by content undecided, with class, split and group.

    Raises:
        Problems: an empty class, names that are equal by case, a group pattern that does not fit.
        RequestError: no such folder, no images, one class only.
    """
    problems = options.problems()
    if problems:
        raise Problems(f"The folder {options.path}", [Problem("", text) for text in problems])
    root = options.path.resolve()
    skipped = Skipped()
    try:
        folders = sub_folders(root, root, skipped) if options.labelled else []
        if not folders:
            return _read_unlabeled(root, options, skipped)
        records, notes = _read_labeled(root, folders, options, skipped)
    except PermissionError as error:
        raise RequestError(f"{error.filename} may not be read: permission denied.") from error
    names = natural_order(record.label for record in records if record.label is not None)
    return Collection(root, names, tuple(records), (*notes, *skipped.notes()))


def _read_unlabeled(root: Path, options: Options, skipped: Skipped) -> Collection:
    files = list(images(root, root, skipped))
    if not files:
        raise RequestError("\n".join([f"{root} holds no images.", *skipped.notes(), FOOTER]))
    records = [_record(file, root, None, None, options) for file in files]
    _check_groups(records, options)
    note = f"{root.name} is read as unlabelled: {pluralize(len(files), 'image')}."
    return Collection(root, (), tuple(records), (note, *skipped.notes()))


def _read_labeled(
    root: Path, folders: list[Folder], options: Options, skipped: Skipped
) -> tuple[list[Record], list[str]]:
    splits = _split_folders(root, folders)
    records: list[Record] = []
    problems: list[Problem] = []
    places = splits.items() if splits else [(None, Folder("", root))]
    for split, place in places:
        skipped.loose += sum(1 for _ in images(place.path, root, Skipped(), nested=False))
        classes = sub_folders(place.path, root, skipped) if splits else folders
        if not classes:
            message = "has no class sub-folders; the folders train, val and test hold one a class"
            problems.append(Problem(place.name, message))
        for folder in classes:
            files = list(images(folder.path, root, skipped))
            if not files:
                where = f"{place.name}/{folder.name}" if splits else folder.name
                problems.append(Problem(f"class folder {where!r}", "holds no images"))
            records += [_record(file, root, folder.name, split, options) for file in files]
    _check_classes(root, records, problems, skipped)
    _check_groups(records, options)
    return records, _split_notes(splits)


def _split_folders(root: Path, folders: list[Folder]) -> dict[str, Folder]:
    """Return the ready-made splits, empty when the sub-folders are classes.

    Raises:
        RequestError: split folders beside others, or two folders for one split.
    """
    words = {folder.name: SPLIT_WORDS.get(folder.name.lower()) for folder in folders}
    found = {word for word in words.values() if word}
    if "train" not in found or (len(found) < 2 and len(folders) > 1):
        return {}
    others = [name for name, word in words.items() if not word]
    if others:
        raise RequestError(
            f"{root} holds split folders ({', '.join(sorted(found))}) beside others "
            f"({', '.join(others[:5])}): move the others away, or the splits into a folder of their own."
        )
    splits: dict[str, Folder] = {}
    for folder in folders:
        word = words[folder.name] or ""
        if word in splits:
            raise RequestError(
                f"{root} has two folders for the split {word}: {splits[word].name} and "
                f"{folder.name}. Keep one."
            )
        splits[word] = folder
    return splits


def _split_notes(splits: dict[str, Folder]) -> list[str]:
    if not splits:
        return []
    names = ", ".join(folder.name for folder in splits.values())
    notes = [f"Ready-made splits are kept as they are: {names}."]
    missing = [word for word in ("val", "test") if word not in splits]
    if missing:
        notes.append(f"There is no folder for {' and '.join(missing)}: carved out of train.")
    return notes


def _record(file: Path, root: Path, label: str | None, split: str | None, options: Options) -> Record:
    path = written_path(file, root)
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
            strangers = natural_order(classes - by_split["train"])
            problems += [Problem(f"class {name!r}", f"is in {split}, not in train") for name in strangers]
    if len(names) < 2 and not problems:
        held = f"only the class {next(iter(names))!r}" if names else "no images"
        problems = [Problem("", f"holds {held}: at least two classes are needed")]
    if problems:
        raise Problems(f"The folder {root}", problems, "\n".join([*skipped.notes(), FOOTER]))


def _check_groups(records: list[Record], options: Options) -> None:
    if options.group_pattern is None:
        return
    without = [record.path for record in records if record.group is None]
    if without:
        raise RequestError(
            f"group_pattern {options.group_pattern!r} finds no group in "
            f"{pluralize(len(without), 'path')} of {len(records):,}, the first: {without[0]}."
        )
