"""Which of a run's two data sets something is said of: two hospitals may call their tables alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kerastl.errors import RequestError
from kerastl.recipe import Reader, Recipe

NOTHING_RUN = "Nothing was run."


def place_of(reader: Reader) -> Path | None:
    """Return the file or folder that a reader reads; None where it has none."""
    place = getattr(reader.options, "path", None)
    return place if isinstance(place, Path) else None


def one_table(recipe: Recipe) -> bool:
    """Return whether both domains stand in one table, so that a patient of one name is one person."""
    if recipe.target is None or recipe.data.reader is None:
        return False
    source, target = place_of(recipe.data.reader), place_of(recipe.target.reader)
    if source is None or target is None or not source.is_file():
        return False
    return source.resolve() == target.resolve()


def whose(recipe: Recipe, reader: Reader) -> str:
    """Return `the target (b/labels.csv)` for a reader of a recipe; empty where there is one data set."""
    if recipe.target is None or recipe.data.reader is None:
        return ""
    place = place_of(reader)
    shown = f" ({'/'.join(place.parts[-2:])})" if place else ""
    return f"the {_domain(recipe, reader)}{shown}"


def tagged(recipe: Recipe, reader: Reader, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return notes that begin with the domain where the names of the two files would not tell it."""
    if recipe.target is None or recipe.data.reader is None:
        return notes
    source, target = place_of(recipe.data.reader), place_of(recipe.target.reader)
    if source is None or target is None or source == target or source.name != target.name:
        return notes
    return tuple(f"{_domain(recipe, reader)}: {line}" for line in notes)


@contextmanager
def both_told(look_at_target: Callable[[], object] | None) -> Iterator[None]:
    """Tell what is wrong with the target together with what is wrong with the source, which is read inside.

    Args:
        look_at_target: raises what is wrong with it; it is called only where the source is refused.

    Raises:
        RequestError: the source is refused; of both where the target is, too.
    """
    try:
        yield
    except RequestError as error:
        if look_at_target is None:
            raise
        try:
            look_at_target()
        except RequestError as other:
            # One table with two sites has its faults once.
            if str(other) == str(error):
                raise error from None
            first = str(error).removesuffix(NOTHING_RUN).rstrip()
            raise RequestError(f"{first}\n{other}") from error
        raise


def _domain(recipe: Recipe, reader: Reader) -> str:
    return "target" if recipe.target and reader is recipe.target.reader else "source"
