"""Check a recipe and what it needs with all information that is available without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kerastl import augment, errors, export, models, registry, runs
from kerastl import recipe as recipes
from kerastl.console import print_status
from kerastl.data import cache_folder
from kerastl.data.readers import reader_name
from kerastl.errors import Problem, RequestError, did_you_mean, message_of, problems_of, quote, raise_request
from kerastl.workflows.domains import (
    check_labels,
    reader_options,
    reader_path,
    readers_by_domain,
    split_domains,
)

if TYPE_CHECKING:
    from kerastl.data import Collection

Images = TypeVar("Images")


def check_recipe(
    recipe_text: recipes.RecipeText,
    sets: Sequence[str],
    *,
    data: Path | None = None,
    target: Path | None = None,
) -> recipes.Recipe:
    """Return the checked recipe, with all defaults. Call `check_data` to check the data of a valid recipe.

    Args:
        recipe_text: The text of the recipe.
        sets: Changes in the form of `--set`, `PATH=VALUE`.
        data, target: Paths of images in the form of `--data` and `--target`.

    Raises:
        Problems: All problems of the recipe, and those of its data that do not depend on them.
    """
    from kerastl.adaptation import method

    return recipes.check(
        recipe_text.text,
        name=recipe_text.word,
        tables=models,
        policy_of=augment.named_policy,
        models=method,
        readers=readers_of(data, target),
        sets=sets,
        data_findings=_data_findings,
    )


def readers_of(data: Path | None, target: Path | None) -> dict[str, tuple[str, Path]]:
    """Return the name and the path of the readers of `--data` and `--target`."""
    paths = {"data": data, "target": target}
    return {section: (reader_name(path), path) for section, path in paths.items() if path is not None}


def check_data(recipe: recipes.Recipe) -> None:
    """Check the names in the folders and the cells in the tables of a recipe. No image is decoded.

    Raises:
        RequestError: The levels of a folder are not clear, a file of a table does not exist, two cells are spellings
            of one value, an image is in both domains, the head is for another number of classes, and so on. The problems
            of both domains are reported together.
    """
    problems: list[Problem] = []

    def read(domain: str, reader: recipes.Reader) -> Collection | None:
        if not hasattr(reader.options, "problems"):
            return None  # its data are not files
        images = _read(reader, reader_options(recipe, domain), recipe.seed)
        problems.extend(head_problems(recipe, domain, images))
        return images

    try:
        collections = {domain: images for domain, images in for_each_domain(recipe, read).items() if images}
        if collections.keys() == readers_by_domain(recipe).keys():
            split_domains(recipe, collections)
    except RequestError as error:
        if not problems:
            raise
        problems.append(Problem("", message_of(error)))
    raise_request(problems)


def _read(reader: recipes.Reader, options: Any, seed: int) -> Collection:
    """Return the images of a reader. Paths replace hashes, so that no file is read."""
    images: Collection = registry.read_names(reader.name, options, seed=seed, cache_dir=cache_folder())
    return images.with_records(replace(record, sha256=str(record.file)) for record in images.records)


def _data_findings(recipe: Any, section: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the message of the problems of the data of a reader in a recipe that has other problems."""
    reader = getattr(recipe, section).reader
    try:
        if hasattr(reader.options, "problems"):
            images = _read(reader, reader.options, seed=0)
            if section == "data":
                yield from (
                    (problem.where, problem.message) for problem in head_problems(recipe, "source", images)
                )
                check_labels(f"{section}.reader", reader, images)
    except RequestError as error:
        yield f"{section}.reader.path", message_of(error)


def head_problems(recipe: Any, domain: str, images: Collection) -> list[Problem]:
    """Return the problem of the head of a recipe, which may be only partly valid, with the classes of the source images."""
    from kerastl.recipe import rules  # imports pydantic, which `kerastl --help` does not need

    is_used = domain == "source" and rules.value_at(recipe, "head.binary")
    message = rules.binary_problem(images.class_names) if is_used else ""
    return [Problem("head.binary", message)] if message else []


def for_each_domain(
    recipe: recipes.Recipe, read: Callable[[str, recipes.Reader], Images]
) -> dict[str, Images]:
    """Return the result of a function of the name and the reader of each domain. The errors of both are raised as one."""
    images: dict[str, Images] = {}
    errors: dict[str, RequestError] = {}  # one table of both domains has one error
    for domain, reader in readers_by_domain(recipe).items():
        try:
            images[domain] = read(domain, reader)
        except RequestError as error:
            errors[message_of(error)] = error
    if len(errors) == 1:
        raise next(iter(errors.values()))
    raise_request([Problem("", message) for message in errors])
    return images


def phase_index(recipe: recipes.Recipe, name: str | None) -> int:
    """Return the index of the phase with a name, or of the first phase.

    Raises:
        RequestError: There is no such phase.
    """
    names = [phase.name for phase in recipe.phases]
    if name is None:
        return 0
    if name not in names:
        raise RequestError(f"Unknown phase {quote(name)}. {did_you_mean(name, names)}")
    return names.index(name)


def check_weights(recipe: recipes.Recipe) -> None:
    """Check that the initial weights are available, and download published weights if necessary.

    Args:
        recipe: The recipe.

    Raises:
        RequestError: The weights are unavailable. The message states the file and how to obtain it.
    """
    backbone = recipe.backbone
    options = {"image_size_px": recipe.data.image_size_px, **backbone.family_options}
    if backbone.weights == "imagenet" and not models.locate_weights(backbone.name, **options):
        print_status(f"Downloading ImageNet weights of {backbone.name}")
        models.fetch_weights(backbone.name, **options)


def check_requirements(
    recipe: recipes.Recipe, *, name: str, out: Path | None = None, resume: bool = False
) -> None:
    """Check what a run needs in addition to its data: its folder, the packages of its exports, and initial weights.

    Args:
        recipe, name, out, resume: As in `kerastl.workflows.run.run`.

    Raises:
        RequestError: Something is missing. All problems are reported together; then, nothing is downloaded.
    """
    problems = [
        *problems_of("", runs.check_run_folder, name, out, resume=resume),
        *problems_of("", export.check_formats, recipe.export.formats, model_name=recipe.export.model_name),
    ]
    if not problems or recipe.backbone.weights != "imagenet":
        problems += problems_of("", check_weights, recipe)
    raise_request(problems)


def check_outside(recipe: recipes.Recipe, out: Path | None, content: str = "output") -> None:
    """Check that `out` is outside the folders of images of a recipe, whose readers would read its files as images.

    Args:
        recipe: The recipe.
        out: The output folder, or None.
        content: What is written to `out`, for the message.

    Raises:
        RequestError: `out` is inside such a folder. The folder of a table may contain it.
    """
    for root in map(reader_path, readers_by_domain(recipe).values()):
        if out and root and root.is_dir() and out.resolve().is_relative_to(root.resolve()):
            raise RequestError(
                f"The {content} cannot be written to {out}, because the folder of the data, {root}, contains it. "
                f"Choose another folder: {errors.out_option()}"
            )


def selected_augment(augment: recipes.Augment, operation: str | None) -> recipes.Augment:
    """Return the augmentation of a recipe, or only one operation or mixing.

    Raises:
        RequestError: There is no augmentation, or no such operation.
    """
    if not augment.operations and not augment.mixing:
        raise RequestError(
            "The recipe has no augmentation: augment has no operations.\n"
            "To preview a policy: --set augment=light (or medium, strong, radiograph, photograph)"
        )
    if operation is None:
        return augment
    names = list(dict.fromkeys(step.name for step in (*augment.operations, *augment.mixing)))
    if operation not in names:
        hint = did_you_mean(operation, names)
        raise RequestError(f"The recipe has no operation {quote(operation)}. {hint}")
    return augment.model_copy(
        update={
            "operations": tuple(step for step in augment.operations if step.name == operation),
            "mixing": tuple(step for step in augment.mixing if step.name == operation),
        }
    )


def rate_test_problems(
    recipe: recipes.Recipe, phase: str | None, lowest: float, highest: float, out: Path | None
) -> list[Problem]:
    """Return the problems of a request for learning-rate range tests, as in `kerastl.workflows.find_rates`."""
    problems = problems_of("--phase", phase_index, recipe, phase)
    if not 0 < lowest < highest < math.inf:
        message = f"must be below --highest, and both above 0 and finite, got {lowest:g} and {highest:g}."
        problems.append(Problem("--lowest", message))
    if out is not None and out.suffix.lower() != ".png":
        problems.append(Problem("--out", f"must end in .png, got {out}."))
    elif out is not None and out.exists():
        problems.append(Problem("--out", f"{out} already exists. Choose another file."))
    elif out is not None and not out.parent.is_dir():
        message = f"There is no folder {out.parent}. Create it, or choose another file."
        problems.append(Problem("--out", message))
    return problems


def folder_problems(out: Path | None) -> list[Problem]:
    """Return the problem of an output folder that is not new or empty."""
    if out is None or runs.is_new_or_empty(out):
        return []
    return [Problem("--out", f"{out} already exists and is not empty. Choose another folder.")]
