"""Reader `folder`: one subfolder per class, or folders train, val and test with one subfolder per class."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, MinLen

from kerastl.data.convert import reason_to_ignore
from kerastl.data.identity import SPELLINGS_FOOTER, Identity, footer_of, is_missing
from kerastl.data.layout import Folder, Layout, Parts
from kerastl.data.readers import path_hint
from kerastl.data.records import Collection, Record, check_class_names, check_group_names, natural_order
from kerastl.errors import Problem, RequestError, pluralize, raise_problems, shell_command
from kerastl.options import StrictModel

SHOWN_KINDS = 20
SHOWN_NAMES = 3
SHOWN = 5
SYSTEM_FOLDERS = frozenset(["__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"])
"""Folders that operating systems create, in lower case."""
MASK_FILE = re.compile(r"(.+)[ _-](mask|seg|segmentation|label|annotation|gt)s?[ _-]?\d*", re.IGNORECASE)


IGNORED = {
    "link": ("symbolic link", "with a missing target or a target outside the folder, e.g. {}."),
    "folder_link": ("link", "to a folder, e.g. {}."),
    "name": ("file", "with a name that is not UTF-8. Rename them."),
    "outside": ("image", "outside the class folders or in folders of masks, e.g. {}."),
    "mask": ("mask", "with the name of an image next to it, e.g. {}."),
    "hidden": ("hidden folder", "(the name starts with a dot, or the system made it), e.g. {}."),
    "empty": ("folder", "without images, e.g. {}."),
    "hidden_file": ("hidden file", "(the name starts with a dot), e.g. {}."),
}
"""Kinds of ignored files and folders, besides those that are not images, and their notes."""


def is_hidden_folder(name: str) -> bool:
    """Return whether a folder with this name is ignored."""
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


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
            kinds = [
                f"{len(names)} {kind}: {', '.join([*dict.fromkeys(names)][:SHOWN_NAMES])}"
                for kind, names in by_count
            ]
            shown = "; ".join(kinds[:SHOWN_KINDS]) + ("; ..." if len(kinds) > SHOWN_KINDS else "")
            total = sum(map(len, self.kinds.values()))
            kind = "is not a supported image" if total == 1 else "are not supported images"
            lines.append(f"Ignored {pluralize(total, 'file')} that {kind}. {shown}.")
        for key, (noun, text) in IGNORED.items():
            if names := self.names[key]:
                examples = ", ".join([*dict.fromkeys(names)][:SHOWN_NAMES])
                lines.append(f"Ignored {pluralize(len(names), noun)} {text.format(examples)}")
        return lines

    def table_hint(self, folder: Path) -> list[str]:
        """Return how to read a folder that has Parquet files but no images. Without Parquet files, the list is empty."""
        if ".parquet" not in self.kinds:
            return []
        source = f'dataset.dataset({json.dumps(str(folder))}, format="parquet")'
        script = (
            f'from pyarrow import dataset, parquet; parquet.write_table({source}.to_table(), "all.parquet")'
        )
        return [
            "Parquet files are tables. Use the path of one file, or join the files of all classes of one split: "
            + shell_command("python", "-c", script)
        ]


def find_images(root: Path, skipped: Skipped) -> tuple[dict[Parts, list[Path]], list[Parts]]:
    """Find the images below a folder in a fixed order, by the content of the files. Hidden files are ignored.

    A folder with several links to it is read once, under its own path if that is below the root.

    Args:
        root: The folder. Links that lead out of it are not followed.
        skipped: Collects the ignored files.

    Returns:
        The images of each folder with images, and all folders. Folders are paths relative to the root.
    """
    images, folders, seen = defaultdict[Parts, list[Path]](list), list[Parts](), set[tuple[int, int]]()
    waiting, links = [root], list[Path]()
    while waiting or links:
        current = waiting.pop() if waiting else links.pop(0)
        status = current.stat()
        if (status.st_dev, status.st_ino) in seen:
            skipped.names["folder_link"].append(current.relative_to(root).as_posix())
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.append(current.relative_to(root).parts)
        deeper: list[Path] = []
        for entry in _entries(current):
            if not _stays_inside(entry, root, skipped) or not _is_utf8(entry.name, skipped):
                continue
            if not entry.is_dir():
                if skipped.is_image(Path(entry.path)):
                    images[folders[-1]].append(Path(entry.path))
            elif is_hidden_folder(entry.name):
                skipped.names["hidden"].append(entry.name)
            else:
                (links if entry.is_symlink() else deeper).append(Path(entry.path))
        waiting += reversed(deeper)
    return images, folders


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


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


FOOTER = (
    "Expected a folder with one subfolder of images per class. If the classes are deeper, set class_level, e.g. 2 for "
    "the subfolders of its subfolders. Nothing was run."
)


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
        path: The folder. Its subfolders are the classes, or split folders such as train, val and test (or training_set,
            Validation, test-images ...) with one subfolder per class. Splits may also be below the classes.
        group_pattern: Regular expression with one group, searched in each path relative to the folder. Images with
            the same group stay in one split, e.g. `(patient\d+)`.
        labelled: Whether subfolders are classes. If false, all images are unlabeled.
        class_level: Level of the class folders below `path`, 1 for its subfolders. By default, it is detected, and
            folders with more than one interpretation are rejected.
        identity: `normalized` rejects names of classes and groups that differ only in case, spaces, Unicode forms or
            number formats, as spellings of one name. `exact` treats them as different names.
    """

    RULES: ClassVar = (_group_pattern_has_one_group,)
    path: Path
    group_pattern: Annotated[str, MinLen(1)] | None = None
    labelled: bool = True
    class_level: Annotated[int, Ge(1), Le(20)] | None = None
    identity: Identity = "normalized"

    def problems(self) -> list[str]:
        """Return the problems of the path, without reading images."""
        if self.path.is_dir():
            return []
        path = self.path.absolute()
        wrong = f"{path} is a file, not a folder" if path.is_file() else f"the folder {path} does not exist"
        return [f"path: {wrong}{path_hint(self.path)}"]


def read(options: Options, *, seed: int = 0, cache_dir: Path | None = None) -> Collection:  # noqa: ARG001
    """Read the image files of a folder with class, split and group. No image is decoded.

    Raises:
        Problems: The folder does not exist, a class is not in train, or class names are spellings of one name.
        RequestError: There are no images, the level of the classes is not clear, or the group pattern does not match
            a path.
    """
    raise_problems(f"The folder {options.path}", [Problem("", text) for text in options.problems()])
    root = options.path.resolve()
    skipped = Skipped()
    try:
        images, folders = find_images(root, skipped)
    except PermissionError as error:
        raise RequestError(f"Cannot read {error.filename}: permission denied.") from error
    if not images:
        raise RequestError(
            "\n".join([f"{root} has no images.", *skipped.notes(), *skipped.table_hint(options.path), FOOTER])
        )
    _remove_mask_files(images, root, skipped)
    layout = _read_layout(root, images, options)
    records = _records(root, layout, images, options)
    unread = [file for parts, files in images.items() if parts not in layout.meaning for file in files]
    skipped.names["outside"] = [file.relative_to(root).as_posix() for file in unread]
    full = {parts[:depth] for parts in images for depth in range(len(parts) + 1)}
    skipped.names["empty"] = [
        "/".join(parts) for parts in folders if parts not in full and parts[:-1] in full
    ]
    if any(record.label for record in records):
        _check_classes(root, records, skipped, options)
    else:
        layout.notes.append(f"Read {pluralize(len(records), 'unlabeled image')} from {root.name}.")
        if options.labelled:
            layout.notes.append(
                f"{root.name} has no class folders. If it is a class itself, read {root.parent}."
            )
    _check_groups(records, options)
    names = natural_order(record.label for record in records if record.label is not None)
    notes = (*layout.notes, *skipped.notes())
    return Collection(root, names, tuple(records), notes, skipped.counts(), identity=options.identity)


def _remove_mask_files(images: dict[Parts, list[Path]], root: Path, skipped: Skipped) -> None:
    """Remove files such as `scan_mask.png` next to `scan.png`."""
    for parts, files in images.items():
        stems = {file.stem for file in files}
        matches = {file: MASK_FILE.fullmatch(file.stem) for file in files}
        masks = {file for file, match in matches.items() if match and match[1] in stems}
        skipped.names["mask"] += [file.relative_to(root).as_posix() for file in files if file in masks]
        images[parts] = [file for file in files if file not in masks]


def _read_layout(root: Path, images: Iterable[Parts], options: Options) -> Layout:
    layout, top = Layout(root, options.group_pattern, options.class_level), Folder.of(images)
    layout.remove_masks(top)
    if options.labelled:
        layout.find_classes(top)
        layout.note_splits()
    else:
        layout.mark(top)
    if not layout.meaning:
        raise RequestError(
            f"class_level: {options.class_level} is deeper than the folders of images in {root}. Use a lower level."
        )
    return layout


def _records(
    root: Path, layout: Layout, images: Mapping[Parts, list[Path]], options: Options
) -> list[Record]:
    """Return the records, in natural order of their split and class."""
    from natsort import natsort_keygen  # slow to import, and not needed by `check`

    key = natsort_keygen()
    read = [(layout.meaning[parts], files) for parts, files in images.items() if parts in layout.meaning]
    read.sort(key=lambda item: [key(word or "") for word in item[0]])
    return [_record(file, root, label, split, options) for (split, label), files in read for file in files]


def _record(file: Path, root: Path, label: str | None, split: str | None, options: Options) -> Record:
    path = file.relative_to(root).as_posix()
    match = re.search(options.group_pattern, path) if options.group_pattern else None
    group = match[1] if match and not is_missing(match[1] or "", options.identity) else None
    return Record(path, file, label, split, group)


def _check_classes(root: Path, records: list[Record], skipped: Skipped, options: Options) -> None:
    by_split: dict[str | None, set[str]] = defaultdict(set)
    for record in records:
        by_split[record.split].add(record.label or "")
    names = set().union(*by_split.values())
    problems = check_class_names(names, options.identity)
    footer = footer_of(problems) if problems else FOOTER
    for split, classes in by_split.items():
        if split in ("val", "test"):
            unknown = natural_order(classes - by_split["train"])
            problems += [Problem(f"class {name!r}", f"is in {split} but not in train") for name in unknown]
    if len(names) < 2 and not problems:
        problems = [Problem("", f"has only the class {names.pop()!r}. At least two classes are needed.")]
    raise_problems(f"The folder {root}", problems, "\n".join([*skipped.notes(), footer]))


def _check_groups(records: list[Record], options: Options) -> None:
    if options.group_pattern is None:
        return
    without = [record.path for record in records if record.group is None]
    if without:
        raise RequestError(
            f"group_pattern {options.group_pattern!r} does not match "
            f"{pluralize(len(without), 'path')} of {len(records):,}, e.g. {without[0]}."
        )
    problems = check_group_names(records, "group_pattern", options.identity)
    raise_problems(f"The folder {options.path}", problems, SPELLINGS_FOOTER, SHOWN)
