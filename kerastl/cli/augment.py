"""`kerastl augment`: preview and audit the augmentation of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerastl import audit, registry, report, runs, workflows
from kerastl.cli import SuggestingGroup
from kerastl.cli._output import RecipeName, load_recipe, option, out_option, recipe_options, shell_path
from kerastl.console import load_tensorflow
from kerastl.errors import Problem, problems_of
from kerastl.workflows.check_recipe import check_weights, folder_problems, selected_augment


@click.command("audit")
@click.argument("recipe", metavar="RECIPE|RUN", type=RecipeName())
@recipe_options
@option(
    "--operations",
    default="recipe",
    metavar="all|recipe|NAME,...",
    help="Operations to audit. A recipe without operations uses common ones.",
)
@option(
    "--max-images", type=click.IntRange(10, 100000), default=150, help="Maximum number of images per class."
)
@out_option("New folder for audit.json, policy.yaml and audit.html. The page contains images.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def audit_command(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], operations: str,
    max_images: int, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Find augmentations that do not preserve the label. Tests each operation and strength on the images of RECIPE.

    RECIPE is the name of a shipped recipe or the path of a recipe file; RUN is a run folder. Augmented training and
    validation images are predicted by classifiers that were not trained on their group. Test images are not read.
    The output ends with a policy of safe operations for the recipe. The exit code is 0 even if harmful operations
    are found.

    \b
    Examples:
      kerastl augment audit folder-classifier --data photos
      kerastl augment audit mine.yaml --operations random_flip,random_hue --out audit
    """
    names = [name.strip() for name in operations.split(",") if name.strip()]
    problems = folder_problems(out)
    if not names:
        problems.append(Problem("--operations", "is empty. Use all, recipe, or names separated by commas."))
    for name in names if names not in (["all"], ["recipe"]) else ():
        problems += problems_of("--operations", registry.module, "operation", name)
    run = Path(recipe) if (Path(recipe) / runs.RESOLVED_RECIPE).is_file() else None
    file = str(run / runs.RESOLVED_RECIPE) if run else recipe
    _, checked = load_recipe(file, sets, data, target, problems=problems, outside=out)
    check_weights(checked)
    load_tensorflow()
    audited = workflows.audit_recipe(checked, operations=names, most_per_class=max_images, run=run, out=out)
    result = audited.result
    policy = audit.policy_yaml(result.verdicts, result.class_names)
    plain = {**audit.as_plain(result), "notes": list(audited.notes), "policy": policy}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        runs.write_json(out / "audit.json", plain)
        runs.write_atomic(out / "policy.yaml", policy)
        report.write_audit_sheet(out / "audit.html", audited)
    if as_json:
        click.echo(json.dumps(plain, indent=1))
        return
    click.echo("\n".join([*audited.notes, *audit.format_lines(result), "", policy.rstrip()]))
    if out is not None:
        click.echo(f"\nWrote {out / 'audit.html'} and {out / 'audit.json'}.")
        click.echo("audit.html contains images and paths of the data and is as confidential as the data.")


MAX_IMAGES = 32
"""Maximum number of images, and of samples per image."""


@click.command()
@click.argument("recipe", type=RecipeName())
@recipe_options
@out_option("Output folder, new or empty.  [default: preview-RECIPE, numbered]")
@option("--images", type=click.IntRange(1, MAX_IMAGES), default=4, help="Number of images.")
@option("--samples", type=click.IntRange(0, MAX_IMAGES), default=3, help="Augmented samples per image.")
@click.option("--operation", metavar="NAME", help="Show only this operation.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Seed of the images and samples.  [default: the seed of the recipe]",
)
@option("--open", "opens", type=click.Choice(["yes", "no"]), default="no", help="Open the page in a browser.")
def preview(
    recipe: str, data: Path | None, target: Path | None, sets: tuple[str, ...], out: Path | None, images: int, samples: int,
    operation: str | None, seed: int | None, opens: str,
) -> None:  # fmt: skip
    """Show training images and how RECIPE augments them.

    The page shows each operation at both ends of its range and as random samples, then all operations together, then
    mixed images with the proportions of their labels. It is written as preview.html and preview.png, which contain
    images of the training split and are as confidential as the data. Nothing is trained.

    \b
    Examples:
      kerastl augment preview mine.yaml
      kerastl augment preview folder-classifier --data photos --set augment=strong
      kerastl augment preview mine.yaml --operation random_rotation --images 8 --out rotation
    """
    recipe_text, checked = load_recipe(
        recipe, sets, data, target, problems=folder_problems(out), outside=out or Path(),
        problems_of_recipe=lambda checked: problems_of("--operation", selected_augment, checked.augment, operation),
    )  # fmt: skip
    load_tensorflow()
    page = workflows.preview(
        checked, name=recipe_text.name, out=out, num_images=images, samples=samples, operation=operation,
        seed=seed,
    )  # fmt: skip
    click.echo(f"Page:  {shell_path(page)}")
    click.echo(f"Image: {shell_path(page.with_suffix('.png'))}")
    click.echo("Both contain images of the data and are as confidential as the data.")
    if opens == "yes":
        click.launch(str(page))


@click.group(cls=SuggestingGroup)
def command() -> None:
    """Preview or audit the augmentation of a recipe.

    \b
    Examples:
      kerastl augment audit folder-classifier --data photos
      kerastl augment preview folder-classifier --data photos --set augment=medium
    """


command.add_command(audit_command)
command.add_command(preview)
