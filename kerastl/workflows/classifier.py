"""The Python API: read images, build a classifier, train, evaluate and export it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from kerastl import data
from kerastl.console import print_facts, print_status, quiet
from kerastl.data import Collection, ImageDataset
from kerastl.data.identity import Identity
from kerastl.data.readers import reader_name
from kerastl.data.records import check_class_names
from kerastl.data.validate import check_cached
from kerastl.errors import RequestError, raise_problems
from kerastl.evaluation.inference import predict
from kerastl.evaluation.scores import score
from kerastl.export import Postprocessing, export_saved_model
from kerastl.models import build_backbone
from kerastl.models.build import build_model
from kerastl.recipe import Phase
from kerastl.report import summary_facts
from kerastl.runs import Summary
from kerastl.training.checkpoint import History
from kerastl.training.loop import fit as fit_phases
from kerastl.workflows.run_writer import epoch_line


def read_images(path: str | Path, *, max_unreadable_fraction: float = 0.05, **options: Any) -> Collection:
    """Read labeled images: a folder with one subfolder per class, or a table with one row per image.

    Every image is decoded once, as in a run, and the results are cached. Unreadable images are excluded and printed.
    TIFF and other images that TensorFlow cannot decode are converted to PNG in the cache folder.

    Args:
        path: A folder, or a `.csv` file with the columns `path` and `label` and optionally `split`,
            `patient_id` or other columns.
        max_unreadable_fraction: Fraction of unreadable images that is allowed, 0 to 1.
        **options: Options of the folder or table reader (see `data.reader` in docs/recipes.md).

    Returns:
        The records of the readable images.

    Raises:
        RequestError: The path cannot be read, no images are found, or too many are unreadable.

    Example:
        >>> collection = kerastl.read_images("photos").split(val_fraction=0.2, test_fraction=0.2, seed=7)
        >>> collection.class_names
        ('cat', 'dog')
    """
    read = data.read_table if reader_name(path) == "table" else data.read_folder
    return check_cached(read(path, **options), max_unreadable_fraction=max_unreadable_fraction)


def build_classifier(
    backbone: str,
    *,
    class_names: Sequence[str],
    image_size_px: int | None = None,
    weights: str | Path = "imagenet",
    dropout: float = 0.2,
    seed: int = 0,
    identity: Identity = "normalized",
    **options: Any,
) -> keras.Model:
    """Build a classifier: a pretrained backbone with a new Dense head.

    Args:
        backbone: Name of a backbone, as `kerastl weights ls` lists it.
        class_names: At least two class names, in the order of the logits.
        image_size_px: Side length of the square input images in pixels. None uses the image size of the
            pretrained weights.
        weights: `imagenet`, `none` for random weights, or the path of a weights file.
        dropout: Dropout rate before the head, at least 0 and below 1.
        seed: Seed for the random weights and the dropout.
        identity: Whether class names that differ only in case, spaces, Unicode forms or number formats are
            rejected (`normalized`) or different classes (`exact`).
        **options: Options of the backbone, for example `alpha=0.35`.

    Returns:
        A `keras.Model` from images `[batch, size, size, 3]` float32 in [0, 255] to logits `[batch, classes]`
        float32. The input is rescaled inside the model. All layers are trainable.

    Raises:
        RequestError: The backbone, its weights or an option does not exist, or there are fewer than two
            classes.

    Example:
        >>> model = kerastl.build_classifier("mobilenet_v2", class_names=["cat", "dog"], image_size_px=160)
    """
    names = tuple(class_names)
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise RequestError(f"class_names must be at least two different names, got {list(names)}.")
    footer = "Use one spelling or, if they are different classes, identity='exact'."
    raise_problems("build_classifier", check_class_names(map(str, names), identity), footer)
    network = build_backbone(backbone, weights=weights, image_size_px=image_size_px, seed=seed, **options)
    model = build_model(network, class_names=names, dropout=dropout, seed=seed)
    model.class_names = names
    return model


def fit(
    model: keras.Model,
    train: ImageDataset | Collection,
    *,
    validation_data: ImageDataset | Collection | None = None,
    phases: Sequence[Phase] = (),
    verbose: bool = True,
    **options: Any,
) -> History:
    """Train a classifier phase by phase and keep its best weights.

    Args:
        model: A model from `build_classifier`.
        train: Labeled training images. A collection is shuffled and not augmented.
        validation_data: Labeled validation images, used to select the best epoch. Without them, the last
            weights are kept.
        phases: The training phases. The default is one phase of five epochs that trains only the head.
        verbose: Whether to print one line per epoch and phase to stderr, and to show progress.
        **options: Further options of `kerastl.training.fit`, for example `callbacks`, `checkpoints` and
            `resume`.

    Returns:
        One row of losses and metrics per epoch, and the freeze check of each phase.

    Raises:
        RequestError: A phase cannot be trained. The message states why. Nothing was trained.
        RunFailed: An image cannot be read, or training diverged.

    Example:
        >>> history = kerastl.fit(model, train, validation_data=collection.val,
        ...                       phases=[kerastl.Phase("head", epochs=5)])
    """
    phases = phases or [Phase("head", epochs=5)]
    model.temperature = None  # that of a run is for its weights
    total = sum(phase.epochs for phase in phases)

    def on_epoch(rows: Sequence[dict[str, Any]], timing: dict[str, Any]) -> None:
        print_status(epoch_line(rows[-1], timing, total))

    def on_phase_end(_: Phase, history: History) -> None:
        print_facts(summary_facts(Summary(), phases=history.phases[-1:]))

    with quiet(not verbose):
        return fit_phases(
            model,
            _dataset(model, train, shuffle=True),
            val=None if validation_data is None else _dataset(model, validation_data),
            phases=phases,
            **{"on_epoch": on_epoch, "on_phase_end": on_phase_end} | options,
        )


def evaluate(model: keras.Model, test: ImageDataset | Collection, **options: Any) -> dict[str, Any]:
    """Evaluate a classifier on labeled images.

    Args:
        model: A model that returns logits.
        test: Labeled images, for example `collection.test`.
        **options: Options of `kerastl.evaluation.score`, for example `positive`, `specificity` and `seed`.

    Returns:
        The scores by split, as in `scores.json`: metrics with 95% bootstrap intervals, overall and per
        class. Images without a split are scored as `all`.

    Raises:
        RequestError: The model and the data have different numbers of classes.

    Example:
        >>> scores = kerastl.evaluate(model, collection.test)
        >>> scores["test"]["overall"]["auc"]["value"]
        0.93
    """
    return score(predict(model, _dataset(model, test)), **options)


def export_model(
    model: keras.Model, out: str | Path, *, class_names: Sequence[str] | None = None, **options: Any
) -> Path:
    """Export a classifier as a SavedModel that takes image files and returns probabilities.

    Args:
        model: A model from `build_classifier`, or any model that returns logits.
        out: The folder for TensorFlow Serving. The model is written under the next free version
            number, for example to `out/1`.
        class_names: Class names in the order of the logits. None uses those from `build_classifier`.
        **options: Options of `kerastl.export.export_saved_model`, for example `window` and `version`.

    Returns:
        The version folder.

    Raises:
        RequestError: The class names are unknown or do not match the model.

    Example:
        >>> kerastl.export_model(model, "served")
        PosixPath('served/1')
    """
    names = class_names or getattr(model, "class_names", None)
    if names is None:
        raise RequestError("The model does not store class names. Pass class_names=[...].")
    options.setdefault("postprocessing", Postprocessing(getattr(model, "temperature", None)))
    return export_saved_model(
        model, out, class_names=tuple(names), image_size_px=_image_size(model), **options
    )


def _dataset(model: keras.Model, images: ImageDataset | Collection, *, shuffle: bool = False) -> ImageDataset:
    """Return a dataset that matches the input size and class names of the model."""
    if isinstance(images, Collection):
        images = ImageDataset(images, image_size_px=_image_size(model), shuffle=shuffle)
    if images.image_size_px != _image_size(model):
        raise RequestError(
            f"The dataset has images of {images.image_size_px} px, but the model takes {_image_size(model)} px. "
            f"Build the dataset with image_size_px={_image_size(model)}."
        )
    known = tuple(getattr(model, "class_names", images.class_names))
    if known != images.class_names:
        raise RequestError(
            f"The classes of the dataset are {list(images.class_names)}, but those of the model are {list(known)}. "
            "Both must be the same, in the same order."
        )
    return images


def _image_size(model: keras.Model) -> int:
    size = model.input_shape[1]
    if size is None or model.input_shape[1] != model.input_shape[2]:
        raise RequestError(f"The model must take square images of a fixed size, got {model.input_shape}.")
    return int(size)
