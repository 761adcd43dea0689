"""What the levels of a folder mean: classes, splits, and masks next to images. Only names are read."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kerastl.data.identity import normalize
from kerastl.errors import RequestError, join_words, quote

Parts = tuple[str, ...]
"""A folder as the names on the path from the root."""

SPLIT_WORDS = {
    **dict.fromkeys(["train", "training", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "dev", "development"], "val"),
    **dict.fromkeys(["test", "testing", "tst", "holdout"], "test"),
}
IMAGE_WORDS = frozenset(
    ["image", "img", "photo", "picture", "frame", "scan", "slice", "sample", "data", "dataset"]
)
IMAGE_WORDS |= {"set", "subset", "split", "folder", "file"}
MASK_WORDS = frozenset(["mask", "label", "annotation", "annot", "segmentation", "seg", "gt", "bbox"])
JOINED = re.compile(rf"({'|'.join(sorted(SPLIT_WORDS, reverse=True))})(?={'|'.join(IMAGE_WORDS)})")
MASKS = re.compile(r"ground[\W_]*truth|segmentation[\W_]*(class|object)")
SHOWN = 5


class FolderName(NamedTuple):
    """Words of a folder name. Case, hyphens, underscores, spaces, digits and plurals do not matter.

    Args:
        split: The split that it names, if any.
        is_image, is_mask: Whether it has a word for images or for masks.
        rest: Its other words.
    """

    split: str | None
    is_image: bool
    is_mask: bool
    rest: Parts


@cache
def parse_name(name: str) -> FolderName:
    """Return the words of a name such as `training_set`, `TestImages` or `ground truth`."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    text = MASKS.sub(" mask ", JOINED.sub(r"\1 ", text.casefold().replace("jpegimage", "image")))
    words = {word.removesuffix("s"): None for word in re.findall(r"[^\W\d_]+", text)}
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    known = IMAGE_WORDS | MASK_WORDS | (SPLIT_WORDS.keys() if len(splits) == 1 else set())
    split = splits[0] if len(splits) == 1 else None
    rest = tuple(word for word in words if word not in known)
    return FolderName(split, not IMAGE_WORDS.isdisjoint(words), not MASK_WORDS.isdisjoint(words), rest)


def split_of(text: str) -> str | None:
    """Return the split that a cell or a folder names, `train`, `val` or `test`, or None for other text."""
    name = parse_name(text)
    return None if name.rest or name.is_mask or re.search(r"\d", text) else name.split


@dataclass
class Folder:
    """A folder with images in it or below it.

    Args:
        path: The names on the path from the root.
        has_images: Whether it holds images itself.
        children: Its subfolders with images, by name.
    """

    path: Parts = ()
    has_images: bool = False
    children: dict[str, Folder] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path[-1]

    @property
    def words(self) -> FolderName:
        """The words of its name."""
        return parse_name(self.name)

    @property
    def content(self) -> Folder:
        """The folder, or its only subfolder if that is only named after images, e.g. `cat/images`."""
        only = next(iter(self.children.values())) if len(self.children) == 1 and not self.has_images else None
        return only.content if only and only.words == (None, True, False, ()) else self

    @classmethod
    def of(cls, folders: Iterable[Parts]) -> Folder:
        """Return the root of folders with images."""
        root = cls()
        for parts in folders:
            node = root
            for depth, name in enumerate(parts, 1):
                node = node.children.setdefault(name, cls(parts[:depth]))
            node.has_images = True
        return root

    def below(self) -> Iterator[Folder]:
        """Yield the folder and all folders below it."""
        yield self
        for child in self.children.values():
            yield from child.below()


@dataclass
class Layout:
    """Meaning of the folders below a root.

    Args:
        root: The folder.
        group_pattern: Regular expression whose group is the patient. Subfolders that it matches are not classes.
        class_level: Level of the class folders below the root, 1 for its subfolders. None detects it.
        meaning: Split and class of each folder of images that are read. The class is None if there are no classes.
        notes: One line per assumption.
        splits: The split of each split folder by its name.
    """

    root: Path
    group_pattern: str | None = None
    class_level: int | None = None
    meaning: dict[Parts, tuple[str | None, str | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    splits: dict[str, str | None] = field(default_factory=dict)

    def remove_masks(self, folder: Folder) -> None:
        """Remove the folders of masks that are next to a folder of images."""
        children = list(folder.children.values())
        masks = [child for child in children if child.words.is_mask and len(child.path) != self.class_level]
        for child in masks:
            images = next((other for other in children if _may_be_masks(other.words, child.words)), None)
            if images and child.words.rest and not images.words.is_image:
                reason = f"{quote(child.name)} may hold the masks of {quote(images.name)}. If so, move it."
                raise self._ambiguity_error(reason, children)
            if images:
                del folder.children[child.name]
        for child in folder.children.values():
            self.remove_masks(child)

    def find_classes(self, folder: Folder, split: str | None = None) -> None:
        """Find the class folders below a folder: at the class level or, without one, by their names.

        Raises:
            RequestError: The folders are ambiguous, or a split folder has no subfolders.
        """
        children, level = list(folder.children.values()), len(folder.path) + 1
        if level != self.class_level and split is None and _are_splits(children):
            for child in children:
                self.splits[child.name] = child.words.split
                self.find_classes(child, child.words.split)
        elif self.class_level and level < self.class_level:
            if names := [child.name for child in children if child.words.split and not split]:
                self.notes.append(f"The folders {_listed(names)} are not used as splits.")
            for child in children:
                self.find_classes(child, split)
        elif self.class_level:
            self._read_classes(children, split)
        elif folder.content.has_images and not folder.content.children:
            self._read_unlabeled(folder, split)
        elif split is None and (reason := _describe_unclear_splits(children)):
            raise self._ambiguity_error(reason, children, _below(children))
        elif len(children) == 1 and not children[0].has_images:
            self.notes.append(f"The classes are the subfolders of {'/'.join(children[0].path)}.")
            self.find_classes(children[0], split)
        else:
            self._read_classes(children, split)

    def _read_unlabeled(self, folder: Folder, split: str | None) -> None:
        if split:
            raise RequestError(
                f"{self.root / '/'.join(folder.path)} has no subfolders. A split folder needs one per class. "
                "If the folders are classes and not splits, set class_level: 1. If its images are unlabeled, move it."
            )
        self.mark(folder)

    def _read_classes(self, classes: Sequence[Folder], split: str | None) -> None:
        """Read folders as classes. Their subfolders are splits, or the classes share no names of subfolders."""
        contents = [folder.content for folder in classes]
        lower = [_below([content]) for content in contents]
        subfolders = _below(contents)
        has_images = any(content.has_images for content in contents)
        is_class_first = split is None and _are_splits(subfolders) and not has_images
        if self.class_level is None:
            groups = (
                [_below([child.content for child in group]) for group in lower] if is_class_first else lower
            )
            named = [child.name for child in subfolders if child.words.split and not child.words.rest]
            ambiguous = self._shared(groups) or ([] if is_class_first or split else named)
            if ambiguous:
                reason = f"Some of them contain {_listed(ambiguous)}."
                raise self._ambiguity_error(reason, classes, [folder for group in groups for folder in group])
        if subfolders and self.class_level is None and not is_class_first:
            listed, level = _listed("/".join(child.path) for child in subfolders), len(subfolders[0].path)
            self.notes.append(f"Merged {listed} into their classes. To separate them: class_level: {level}.")
        for folder, group in zip(classes, lower, strict=True):
            for child in group if is_class_first else [folder]:
                self.mark(child, child.words.split if is_class_first else split, folder.name)
        self.splits |= {child.name: child.words.split for child in subfolders if is_class_first}

    def note_splits(self) -> None:
        """Add notes about the splits, about missing ones, and about other splits next to the root."""
        parent, missing = self.root.parent, sorted({"val", "test"} - set(self.splits.values()))
        if self.splits:
            self.notes.append(f"Kept the given splits: {', '.join(self.splits)}.")
            if missing:
                self.notes.append(
                    f"There is no folder for {' and '.join(missing)}, so images of train are used."
                )
        elif split_of(self.root.name):
            others = [path.name for path in parent.iterdir() if split_of(path.name) and path != self.root]
            if others:
                self.notes.append(f"{parent} also has {_listed(others)}. To use all splits, read {parent}.")

    def mark(self, folder: Folder, split: str | None = None, label: str | None = None) -> None:
        """Assign a split and a class to all images below a folder."""
        self.meaning |= {inner.path: (split, label) for inner in folder.below() if inner.has_images}

    def _shared(self, groups: Sequence[Sequence[Folder]]) -> list[str]:
        """Return the names of folders, except patients, that occur in more than one group."""
        find_patient = re.compile(self.group_pattern or "(?!)").search
        counts, names = Counter[str](), set[str]()
        for group in groups:
            matches = {folder.name: find_patient("/".join((*folder.path, ""))) for folder in group}
            names |= {name for name, match in matches.items() if not match or (match[1] or "/") not in name}
            counts.update({normalize(name) for name in names & matches.keys()})
        return sorted(name for name in names if counts[normalize(name)] > 1)

    def _ambiguity_error(self, reason: str, *interpretations: Sequence[Folder]) -> RequestError:
        lines = [f"{self.root}: it is not clear which folders are the classes. {reason}".rstrip()]
        lines += [
            f"  class_level: {len(folders[0].path)} reads the classes {_listed(folder.name for folder in folders)}."
            for folders in interpretations
            if len({folder.name for folder in folders}) > 1
        ]
        lines.append(
            "Choose the level with --set data.reader.class_level=1 (target.reader.class_level for the target, "
            "class_level=1 in Python), or move the folders. Nothing was run."
        )
        return RequestError("\n".join(lines))


def _below(folders: Iterable[Folder]) -> list[Folder]:
    return [child for folder in folders for child in folder.children.values()]


def _listed(names: Iterable[str]) -> str:
    """Return the distinct names in order, shortened."""
    names = list(dict.fromkeys(map(quote, names)))
    return join_words(names, "and") if len(names) <= SHOWN else ", ".join([*names[:SHOWN], "..."])


def _may_be_masks(images: FolderName, masks: FolderName) -> bool:
    """Return whether a folder may hold the masks of a folder of images."""
    is_named = images.is_image or images.split or images.rest
    return bool(is_named) and not images.is_mask and (images.split, images.rest) == (masks.split, masks.rest)


def _are_splits(folders: Sequence[Folder]) -> bool:
    """Return whether folders are splits: their names differ only in the split, one is train, and none occurs twice."""
    splits = {folder.words.split for folder in folders}
    keys = {(folder.path[:-1], folder.words.split) for folder in folders}
    rests = {folder.words.rest for folder in folders}
    return "train" in splits and None not in splits and len(rests) == 1 and len(keys) == len(folders)


def _describe_unclear_splits(folders: Sequence[Folder]) -> str:
    """Return why folders that are not only splits may still be splits, or an empty string."""
    named = [folder for folder in folders if folder.words.split]
    plain = [folder for folder in named if not folder.words.rest]
    likely = named if len(named) == len(folders) else plain
    is_nested = any(folder.children and not folder.has_images for folder in plain)
    splits = {folder.words.split for folder in likely}
    if len(splits) < 2 and not is_nested and ("train" in splits or len(plain) < len(folders)):
        return ""
    others = _listed(folder.name for folder in folders if folder not in likely)
    rest = f"are next to {others}" if others else "must be one train and at most one val and one test"
    return f"The split folders {_listed(folder.name for folder in likely)} {rest}."
