"""Build the initial model of a recipe: backbone, head and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from kerastl import models
from kerastl.console import print_status
from kerastl.data.decode import FULL_WINDOW
from kerastl.errors import RequestError, setting
from kerastl.evaluation import load_trained
from kerastl.evaluation.heatmaps import NO_HEATMAPS, heatmap_problem
from kerastl.evaluation.trained_model import check_manifest
from kerastl.recipe import Backbone, Recipe
from kerastl.runs import ModelSummary, sha256_of
from kerastl.workflows.datasets import Datasets


@dataclass(frozen=True)
class InitialModel:
    """A model before training.

    Args:
        model: A flat classifier.
        head: The rows of the head that were carried over.
        weights: `{"from", "file", "sha256"}` of the loaded weights, the last two None for random weights, and their
            `license`, if it is known;
            `{"head_file", "head_sha256"}` of the file of the head, None if it was not loaded.
        notes: Messages for the user.
    """

    model: keras.Model
    head: models.HeadReport
    weights: dict[str, str | None]
    notes: tuple[str, ...]

    def summarize(self, backbone: Backbone) -> ModelSummary:
        """Return the origin and the size of the model."""
        names = {"backbone": backbone.name, "weights": str(backbone.weights), "head": self.head.message}
        return ModelSummary(**names, parameters=self.model.count_params())


def build_initial_model(recipe: Recipe, datasets: Datasets) -> InitialModel:
    """Build the model of a recipe and load its initial weights.

    Args:
        recipe: The recipe.
        datasets: All images; they determine the class names and the image size.

    Raises:
        RequestError: The weights are missing, or do not match the architecture.
    """
    backbone = recipe.backbone
    loaded = models.load_backbone(
        backbone.name,
        weights=backbone.weights,
        image_size_px=datasets.image_size_px,
        seed=recipe.seed,
        **backbone.family_options,
    )
    model = models.build_model(
        loaded.model, class_names=datasets.class_names, dropout=recipe.head.dropout, binary=recipe.head.binary,
        seed=recipe.seed, pooling=recipe.head.pooling, num_prefix_tokens=loaded.num_prefix_tokens,
    )  # fmt: skip
    full = FULL_WINDOW if recipe.data.window == "full" else None
    models.write_signature(model, window=datasets.window or full, resize=datasets.resize)
    head, head_file = _load_head(recipe, model, datasets.class_names)
    weights = {
        "from": str(backbone.weights),
        "file": loaded.weights_path.name if loaded.weights_path else None,
        "sha256": sha256_of(loaded.weights_path) if loaded.weights_path else None,
        "head_file": head_file.name if head_file else None,
        "head_sha256": sha256_of(head_file) if head_file else None,
        **({"license": loaded.license} if loaded.license else {}),
    }
    notes = [*loaded.notes, head.message]
    if loaded.resize not in (None, recipe.data.resize):
        notes.append(
            f"Images are resized with {recipe.data.resize}, but the weights of {models.public_name(backbone.name)} were trained "
            f"with {loaded.resize}. To use the same rule: {setting('data.resize', loaded.resize)}"
        )
    if "saved_model" in recipe.export.formats and (problem := heatmap_problem(model)):
        notes.append(f"{NO_HEATMAPS}: {problem}.")
        print_status(notes[-1])
    return InitialModel(model, head, weights, tuple(notes))


def _load_head(
    recipe: Recipe, model: keras.Model, class_names: Sequence[str]
) -> tuple[models.HeadReport, Path | None]:
    """Copy the head rows of matching classes. Return a report, and the file that contains the rows, if any."""
    backbone, weights = recipe.backbone, str(recipe.backbone.weights)
    start: models.InitialHead | None = None
    if weights == "none":
        reason = "backbone with random weights"
    elif weights == "preset":
        reason = f"backbone initialized from the weights of {models.public_name(backbone.name)}"
    elif weights == "imagenet":
        size = model.input_shape[1:3]
        start = models.read_imagenet_head(backbone.name, image_size_px=size, **backbone.family_options)
        reason = "backbone initialized from ImageNet weights"
    elif Path(weights).is_dir():
        start = _read_head_of_run(Path(weights))
    else:
        reason = "the weight file has no class names"
    if start is None:
        return models.HeadReport("replaced", (), f"New classification head; {reason}"), None
    try:
        return models.copy_head_rows(model, class_names, start), start.path
    except ValueError as error:
        raise RequestError(f"backbone.weights: {Path(weights)}: {error}") from error


def _read_head_of_run(run_folder: Path) -> models.InitialHead:
    """Return the head of a finished run.

    Raises:
        RequestError: The folder is not a finished run, or the export was modified.
    """
    check_manifest(run_folder)
    trained = load_trained(run_folder)
    kernel, bias = models.head_rows(trained.model)
    return models.InitialHead(trained.class_names, kernel, bias, run_folder / "model.keras")
