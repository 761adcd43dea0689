"""From the recipe's backbone and head to a model ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerastl.console import print_status
from kerastl.errors import RequestError
from kerastl.evaluation import load_trained
from kerastl.evaluation.trained_model import check_as_exported
from kerastl.models import (
    HeadReport,
    build_model,
    carry_over_head,
    fetch_weights,
    find_cached_weights,
    load_backbone,
    read_imagenet_head,
)
from kerastl.recipe import Recipe
from kerastl.runs import sha256_of
from kerastl.workflows.datasets import Datasets


@dataclass(frozen=True)
class InitialModel:
    """A model at the start of training.

    Args:
        model: flat classifier.
        head: what became of the head.
        weights: `{"from", "file", "sha256"}` of what was loaded, the last two None for random weights;
            `{"head_file", "head_sha256"}` of the file that a head was read from, None where none was.
        notes: one line each, for the user.
    """

    model: keras.Model
    head: HeadReport
    weights: dict[str, str | None]
    notes: tuple[str, ...]


def check_weights(recipe: Recipe) -> None:
    """See that the starting weights are there before any image is opened; download what is published.

    Raises:
        RequestError: they are not, and cannot be had; the text names the file wanted and the ways to get it.
    """
    chosen, size = recipe.backbone, recipe.data.image_size_px
    if chosen.weights == "imagenet":
        options = _options(chosen.options)
        if not find_cached_weights(chosen.name, image_size_px=size, **options):
            print_status(f"Downloading the ImageNet weights of {chosen.name}, once")
            fetch_weights(chosen.name, image_size_px=size, **options)
    elif chosen.weights != "none" and not Path(chosen.weights).exists():
        raise RequestError(
            f"There are no weights at {chosen.weights}. `backbone.weights` takes: imagenet, none, "
            "a file (.h5, .weights.h5, .keras), or a run folder."
        )


def build_initial_model(recipe: Recipe, images: Datasets) -> InitialModel:
    """Build the model that a recipe starts from, its weights loaded, its head kept or renewed.

    Args:
        recipe: names the backbone, its weights and the dropout.
        images: say which classes there are, and the side of the images.

    Raises:
        RequestError: the weights are missing, or of another architecture.
    """
    chosen = recipe.backbone
    loaded = load_backbone(
        chosen.name,
        weights=chosen.weights,
        image_size_px=images.image_size_px,
        seed=recipe.seed,
        **_options(chosen.options),
    )
    model = build_model(
        loaded.model, class_names=images.class_names, dropout=recipe.head.dropout, seed=recipe.seed
    )
    head, head_file = _start_head(recipe, model, images.class_names)
    weights = {
        "from": str(chosen.weights),
        "file": loaded.weights_path.name if loaded.weights_path else None,
        "sha256": loaded.sha256,
        "head_file": head_file.name if head_file else None,
        "head_sha256": sha256_of(head_file) if head_file else None,
    }
    return InitialModel(model, head, weights, (*loaded.notes, head.line))


def _options(options: Any) -> dict[str, Any]:
    """Return a family's options by name; a family without any has none."""
    return {} if options is None else options.model_dump()


def _start_head(
    recipe: Recipe, model: keras.Model, class_names: Sequence[str]
) -> tuple[HeadReport, Path | None]:
    """Give a model the rows of the starting head that it shares; return also the file they came from."""
    weights = str(recipe.backbone.weights)
    if weights == "none":
        return HeadReport("renewed", (), "head new: training starts from random weights"), None
    if weights == "imagenet":
        options = _options(recipe.backbone.options)
        known = read_imagenet_head(recipe.backbone.name, image_size_px=model.input_shape[1], **options)
        if known is None:
            return HeadReport("renewed", (), "head renewed: only the backbone is pre-trained"), None
        report = carry_over_head(
            model, class_names, start_names=known.class_names, start_kernel=known.kernel,
            start_bias=known.bias, start_ids=known.wordnet_ids,
        )  # fmt: skip
        return report, known.path
    if not Path(weights).is_dir():
        return HeadReport("renewed", (), "head renewed: the weights file has no class names"), None
    return _head_of_run(Path(weights), model, class_names), Path(weights) / "model.keras"


def _head_of_run(run_folder: Path, model: keras.Model, class_names: Sequence[str]) -> HeadReport:
    """Carry over the head of a finished run.

    Raises:
        RequestError: it is no finished run, an export that was changed, or its head reads other features.
    """
    check_as_exported(run_folder)
    trained = load_trained(run_folder)
    kernel, bias = trained.model.get_layer("head").get_weights()
    try:
        return carry_over_head(
            model, class_names, start_names=trained.class_names, start_kernel=kernel, start_bias=bias
        )
    except ValueError as error:
        raise RequestError(f"backbone.weights: {run_folder}: {error}") from error
