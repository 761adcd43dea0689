"""What a person should know of the target's pictures before they are learnt from, though nothing is wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kerastl import adaptation
from kerastl.console import say
from kerastl.data.convert import Glimpse, glimpse, is_deep, some_of
from kerastl.recipe import Recipe
from kerastl.stages.pictures import Pictures

MOST_OF = 0.5
"""Share of the pictures, or pixels, from which on a note is due."""
TARGET = ("target_train", "target_val", "target_test", "target_unlabelled")


def note_target(recipe: Recipe, pictures: Pictures, *, oracle: bool = False) -> Pictures:
    """Say what is remarkable about the target, and return the pictures with these notes among theirs.

    Args:
        recipe: asks for a target, or not; then nothing is looked at.
        pictures: of a few of the target the pixels are looked at; no test picture is opened.
        oracle: every way to adapt is to be judged by the target's test pictures.
    """
    notes = []
    if oracle and not pictures.of("target_test"):
        notes.append("--oracle: no labelled test picture of the target is there to judge by.")
    if recipe.target is not None:
        notes += [*_labels(recipe), *_patients(recipe, pictures), *_pixels(recipe, pictures)]
    for line in notes:
        say(line)
    return dataclasses.replace(pictures, notes=(*pictures.notes, *notes))


def _labels(recipe: Recipe) -> Iterator[str]:
    """Tell of labels that none of the methods reads."""
    if recipe.adapts_by is None or recipe.target is None or recipe.target.labels == "none":
        return
    methods = [one.name for one in recipe.adapts_by.methods]
    if any(adaptation.method_named(name).target_labels == "some" for name in methods):
        return
    remedy = (
        "" if recipe.source else " Add fine_tune to them, or take the recipe hospital-adaptation."
    )
    yield (
        f"target.labels is {recipe.target.labels}, and none of the methods ({', '.join(methods)}) learns from the "
        f"target's labels.{remedy}"
    )


def _patients(recipe: Recipe, pictures: Pictures) -> Iterator[str]:
    """Tell of a target without groups beside a source that has some."""
    target = [record for split in TARGET for record in pictures.of(split)]
    source = [record for split in ("train", "val", "test") for record in pictures.of(split)]
    without = target and not any(record.group for record in target)
    if not without or not any(record.group for record in source):
        return
    assert recipe.target is not None
    options = recipe.target.reader.options
    keys = [one for one in ("columns", "group_pattern") if hasattr(options, one)]
    key = "columns.group" if keys == ["columns"] else "".join(keys)
    remedy = f" Say whose they are with target.reader.{key}." if key else ""
    yield (
        "The source's pictures have groups (patients), the target's have none: each picture of it counts by itself, and "
        f"pictures of one patient may be torn apart between training and test.{remedy}"
    )


def _pixels(recipe: Recipe, pictures: Pictures) -> Iterator[str]:
    """Tell of pictures that hold nothing, or that are stored in another way than the source's."""
    target = [record for split in TARGET if split != "target_test" for record in pictures.of(split)]
    if not target:
        return
    few = some_of(target)
    seen = glimpse(few, window=pictures.window, max_pixels=recipe.data.max_pixels)
    some = f"of the {len(few)} that were looked at" if len(few) < len(target) else f"of {len(few)}"
    if seen.constant > MOST_OF * seen.looked_at:
        yield (
            f"Pictures of the target outside its test, {seen.constant} {some}, are one grey value throughout: "
            "nothing can be learnt from these."
        )
    source = [is_deep(record.file) for record in some_of(pictures.of("train"))]
    deep = [is_deep(record.file) for record in few]
    if source and (sum(source) > MOST_OF * len(source)) != (sum(deep) > MOST_OF * len(deep)):
        kinds = ("16-bit grey", "8-bit") if sum(source) > sum(deep) else ("8-bit", "16-bit grey")
        yield (
            f"Most pictures of the source are {kinds[0]}, most of the target are {kinds[1]}: the window of grey values "
            "holds for 16-bit pictures alone."
        )
    yield from _outside(recipe, pictures, seen)


def _outside(recipe: Recipe, pictures: Pictures, seen: Glimpse) -> Iterator[str]:
    if pictures.window is None or seen.outside is None or seen.outside <= MOST_OF:
        return
    low, high = pictures.window
    measured = " that was measured at the source" if recipe.data.window == "auto" else ""
    yield (
        f"{100 * seen.outside:.0f} % of the pixels of the target's 16-bit pictures lie outside the window "
        f"{low:g} to {high:g}{measured}: they become black or white."
    )
