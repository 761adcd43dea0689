"""The Python API: read images, build a classifier, train, evaluate and export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import keras
from annotated_types import Gt, Lt, MinLen

from kerastl import data, registry
from kerastl.console import print_facts, print_status, quiet
from kerastl.data import ArrayDataset, Collection, ImageDataset, Images, TfDataset, WindowOptions
from kerastl.data.decode import FULL_WINDOW, Window
from kerastl.data.identity import Identity
from kerastl.data.readers import as_path, reader_name
from kerastl.data.records import RESERVED, as_names, check_class_list
from kerastl.data.validate import check_cached
from kerastl.errors import Problem, RequestError, join_words, nearest, pluralize, quote, raise_problems
from kerastl.evaluation.inference import input_size, match_dataset, predict
from kerastl.evaluation.scores import score
from kerastl.export import Postprocessing, export_saved_model
from kerastl.image_size import Resize, Size
from kerastl.models import (
    build_model,
    check_classifier,
    load_backbone,
    load_own_model,
    read_signature,
    write_signature,
)
from kerastl.models.hub_presets import Options as OwnModelOptions
from kerastl.options import Fraction, StrictModel, check_arguments, checked, list_problems, option_problems
from kerastl.recipe import Backbone, Evaluation, Head, ImageSize, Phase, Pooling, Seed, rules
from kerastl.report import summary_facts
from kerastl.runs import Summary
from kerastl.training.checkpoint import History
from kerastl.training.freeze import as_trainable, check_initial_layers, has_random_backbone
from kerastl.training.loop import fit as fit_phases
from kerastl.workflows.run_writer import epoch_line

BACKBONES = (
    "the name of a backbone, 'keras_hub/' followed by a preset, the path of a '.keras' file, a keras.Model or a "
    "keras_hub.models.Backbone"
)
NO_GROUPS = (
    "each image is its own group in the intervals, which are too narrow if several images are of one patient. To set the "
    "patients of arrays: kerastl.data.ArrayDataset(x, y, groups=..., class_names=...)"
)


class ClassifierOptions(Head):
    """Options of `build_classifier`, with the types and ranges of the recipe."""

    image_size_px: ImageSize | None
    seed: Seed
    identity: Identity


class FitOptions(StrictModel):
    """Options of `fit`."""

    RULES: ClassVar = (rules.phase_names_differ,)
    phases: Annotated[tuple[Phase, ...], MinLen(1)]


class ScoreOptions(Evaluation):
    """Options of `evaluate`."""

    seed: Seed = 0
    level: Annotated[float, Gt(0), Lt(1)] = 0.95


@checked
def read_images(path: str | Path, *, max_unreadable_fraction: Fraction = 0.05, **options: Any) -> Collection:
    """Read labeled images: a folder with one subfolder per class, or a table with one row per image.

    Every image is decoded once, as in a run, and the results are cached. Unreadable images are excluded and printed.
    TIFF and other images that TensorFlow cannot decode are converted to PNG in the cache folder.

    Args:
        path: A folder, or a `.csv` or `.parquet` file with the columns `path` and `label` and optionally `split`,
            `patient_id` or other columns. A Parquet file can contain the images themselves.
        max_unreadable_fraction: Fraction of unreadable images that is allowed, 0 to 1.
        **options: Options of the folder or table reader (see `data.reader` in docs/recipes.md).

    Returns:
        The records of the readable images.

    Raises:
        RequestError: The path cannot be read, no images are found, too many are unreadable, or an option is invalid.

    Example:
        >>> collection = kerastl.read_images("photos").split(val_fraction=0.2, test_fraction=0.2, seed=7)
        >>> collection.class_names
        ('cat', 'dog')
    """
    read = data.read_table if reader_name(path) == "table" else data.read_folder
    return check_cached(read(path, **options), max_unreadable_fraction=max_unreadable_fraction)


def build_classifier(
    backbone: str | keras.Model,
    *,
    class_names: Sequence[str],
    image_size_px: int | Size | None = None,
    weights: str | Path | None = "imagenet",
    dropout: float = 0.2,
    pooling: Pooling = "auto",
    binary: bool = False,
    seed: int = 0,
    identity: Identity = "normalized",
    **options: Any,
) -> keras.Model:
    """Build a classifier: a pretrained backbone with a new Dense head.

    Args:
        backbone: Name of a backbone, as `kerastl weights ls` lists it; a preset of KerasHub, as `keras_hub/NAME` or,
            with the path of its folder, `keras_hub/PATH`; the path of a `.keras` file; or a `keras.Model` or a
            `keras_hub.models.Backbone`. A model or a file maps RGB images to feature maps, tokens or features, or is a
            classifier, whose last dense layer is left out. Its weights are copied if its config describes it.
        class_names: At least two class names, in the order of the logits.
        image_size_px: Side length of the input images, or (height, width), in pixels. None uses the image size of
            the pretrained weights.
        weights: `imagenet`, None for random weights, or the path of a weights file. For a preset, `imagenet` means its
            own weights.
        dropout: Dropout rate before the head, at least 0 and below 1.
        pooling: How tokens become features, as in `head.pooling` of a recipe. Feature maps are averaged.
        binary: Whether the head has a single sigmoid unit for the second of two classes. The model returns its logit z as
            the logits (0, z) of both classes.
        seed: Seed for the random weights and the dropout.
        identity: `normalized` rejects class names that differ only in case, spaces, Unicode forms or number formats.
            `exact` treats them as different classes.
        **options: Options of the backbone, for example `alpha=0.35`. For a preset, a file or a model, `scale` and `offset`:
            it takes `pixels * scale + offset`. By default, the preprocessing of the preset or of the model is used.

    Returns:
        A `keras.Model` from images `[batch, height, width, 3]` float32 in [0, 255] to logits `[batch, classes]`
        float32. The input is rescaled inside the model. All layers are trainable.

    Raises:
        Problems: An argument has a wrong type or is out of range, the backbone or an option does not exist, or
            there are fewer than two classes.
        RequestError: The weights are missing or belong to a different architecture.

    Example:
        >>> model = kerastl.build_classifier("mobilenet_v2", class_names=["cat", "dog"], image_size_px=160)
    """
    if isinstance(backbone, keras.Model):
        chosen, errors = OwnModelOptions.read(options)
    elif not isinstance(backbone, str):
        chosen, errors = None, [(("backbone",), f"must be {BACKBONES}, got {quote(repr(backbone), '')}.")]
    else:
        if registry.has_own_weights(str(backbone)) and weights == "imagenet":
            weights = "preset"
        chosen, errors = Backbone.read({"name": backbone, "weights": weights, **options})
        errors = [(("backbone",) if loc == ("name",) else loc, message) for loc, message in errors]
    class_names = as_names(class_names)
    if binary is True and (problem := rules.binary_problem(class_names)):
        errors.append((("binary",), problem))
    spellings = check_class_list(class_names, identity=identity)
    problems = [*list_problems(errors), *spellings]
    is_spelling = any(
        problem.where != "class_names" and RESERVED not in str(problem) for problem in spellings
    )
    footer = "Use one spelling or, if they are different classes, identity='exact'." if is_spelling else ""
    checked = check_arguments("build_classifier", ClassifierOptions, locals(), problems, footer)
    size, seed = checked.image_size_px, checked.seed
    if isinstance(backbone, keras.Model):
        loaded = load_own_model(backbone, image_size_px=size, **dict(chosen))
    else:
        loaded = load_backbone(
            chosen.name, weights=chosen.weights, image_size_px=size, seed=seed, **chosen.family_options
        )
    for note in loaded.notes:
        print_status(note)
    return build_model(
        loaded.model, class_names=class_names, dropout=checked.dropout, binary=checked.binary, seed=seed,
        pooling=checked.pooling, num_prefix_tokens=loaded.num_prefix_tokens,
    )  # fmt: skip


def fit(
    model: keras.Model,
    train: Images,
    *,
    validation_data: Images | None = None,
    phases: Sequence[Phase] = (),
    class_names: Sequence[str] | None = None,
    augment: Any = None,
    batch_size: int | None = None,
    seed: int | None = None,
    verbose: bool = True,
    **options: Any,
) -> History:
    """Train a classifier phase by phase and keep its best weights.

    Args:
        model: A model from `build_classifier`, or any other `keras.Model` from images `[batch, height, width, 3]` in
            [0, 255] to logits `[batch, classes]`, or to one logit for the second of two classes: functional, Sequential or
            subclassed, also with nested models. In such models, each layer is a block, and the head is the last layer
            with weights.
        train: Labeled training images: an `ImageDataset`, a collection such as `collection.train`, NumPy arrays `(x, y)`,
            or a batched `tf.data.Dataset` of `(x, y)`. Images in `x` are `[n, height, width, 3]` in [0, 255], of any numeric
            type; `y` has class indices, one-hot rows or class names. Collections and arrays are shuffled. If the images
            of a collection have no split, a note reports that all of them are used for training.
        validation_data: Labeled validation images in any of these forms, used to select the best epoch. Without them,
            the last weights are kept.
        phases: The training phases. The default is one phase of five epochs that trains only the head.
        class_names: Class names in the order of the logits. None uses those of the model or of the collection.
        augment, batch_size, seed: As in `ImageDataset`, for other training data: by default no augmentation, 32 images
            and 0. A `tf.data.Dataset` keeps its batches.
        verbose: Whether to print one line per epoch and phase to stderr, and to show progress.
        **options: Further options of `kerastl.training.fit`, for example `callbacks`, `checkpoints` and
            `resume`.

    Returns:
        One row of losses and metrics per epoch, and the freeze check of each phase.

    Raises:
        Problems: An argument or a phase is invalid, the model cannot be trained phase by phase or does not return logits,
            the model and the images have different classes or sizes, or random weights would be frozen. Nothing was
            trained.
        RequestError: The training images are from several splits.
        RunFailed: An image cannot be read, a `tf.data.Dataset` raised an error, or training diverged.

    Example:
        >>> history = kerastl.fit(model, train, validation_data=collection.val,
        ...                       phases=[kerastl.Phase("head", epochs=5)])
        >>> history = kerastl.fit(model, (x_train, y_train), validation_data=(x_val, y_val), augment="light")
    """
    phases = [Phase("head", epochs=5)] if isinstance(phases, tuple) and not phases else phases
    phases = check_arguments("fit", FitOptions, {"phases": phases}, _unknown_options(options)).phases
    chosen = {"augment": augment, "batch_size": batch_size, "seed": seed}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    with quiet(not verbose):
        train = _dataset(model, "train", train, class_names=class_names, is_training=True, **chosen)
    # None means that no image has 16 bits, so that 16-bit images of other datasets get their own window.
    window = train.window if train.has_auto_window else train.window or FULL_WINDOW
    if validation_data is not None:
        with quiet(not verbose):
            validation_data = _dataset(
                model,
                "validation_data",
                validation_data,
                class_names=class_names if isinstance(validation_data, Collection) else train.class_names,
                window=window,
                resize=train.resize,
            )
    network = as_trainable(model, train)
    if has_random_backbone(network):
        findings = rules.random_weights_are_trained(phases)
        raise_problems("fit", [Problem(*finding) for finding in findings])
    check_initial_layers(network, phases)
    with quiet(not verbose):
        _check_held_out(train, validation_data)
    rule = {} if train.resize is None else {"resize": train.resize}
    write_signature(model, class_names=train.class_names, window=window, **rule)
    model.temperature = None  # the temperature of a run applies to its weights only
    total = sum(phase.epochs for phase in phases)

    def on_epoch(rows: Sequence[dict[str, Any]], timing: dict[str, Any]) -> None:
        print_status(epoch_line(rows[-1], timing, total))

    def on_phase_end(_: Phase, history: History) -> None:
        print_facts(summary_facts(Summary(), phases=history.phases[-1:]))

    with quiet(not verbose):
        return fit_phases(
            model, train, val=validation_data, phases=phases,
            **{"on_epoch": on_epoch, "on_phase_end": on_phase_end} | options,
        )  # fmt: skip


def _check_held_out(train: ImageDataset, val: ImageDataset | None) -> None:
    """Raise RequestError if the training images are from several splits. Print what else makes scores meaningless.

    Without a split, no image is held out. Validation images that are also training images select an overfitted epoch.
    """
    splits = {record.split or "no split" for record in train.records}
    absent = [name for index, name in enumerate(train.class_names) if index not in set(train.labels)]
    if absent:
        print_status(
            f"Warning: there are no training images of {join_words(list(map(repr, absent)), 'and')}."
        )
    if len(splits) > 1:
        raise RequestError(
            f"train: has images from {join_words(sorted(splits), 'and')}. Use collection.train, or a collection without "
            "splits to train on all images."
        )
    if splits == {"no split"} and not isinstance(train, ArrayDataset | TfDataset):
        print_status(
            f"Training on all {pluralize(train.num_examples, 'image')}, because they have no split. No image is held out "
            "for testing. To hold some out: collection.split(val_fraction=0.2, test_fraction=0.2, seed=7)"
        )
    files = {file for record in train.records for file in (record.file, record.sha256) if file}
    held_out = val.records if val else ()
    shared = sum(not files.isdisjoint((record.file, record.sha256)) for record in held_out)
    if shared:
        print_status(f"Warning: {pluralize(shared, 'image')} in validation_data are also training images.")


def _unknown_options(options: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of the options of `training.fit`."""
    hint = "is an option of a phase: phases=[kerastl.Phase('head', epochs=5, ...)]"
    hints = {name: hint for name in options if nearest(name, Phase.model_fields)}
    hints["val"] = "unknown argument. Use validation_data=..."
    problems = option_problems(fit_phases, options, "model", "train", "phases", "val")
    return [replace(problem, message=hints.get(problem.where, problem.message)) for problem in problems]


def evaluate(
    model: keras.Model, test: Images, *, class_names: Sequence[str] | None = None, **options: Any
) -> dict[str, Any]:
    """Evaluate a classifier on labeled images.

    Args:
        model: Any `keras.Model` that returns logits, as in `fit`.
        test: Labeled images in any form that `fit` takes, for example `collection.test` or `(x_test, y_test)`. Images in
            arrays or in a `tf.data.Dataset` have no patients: each is its own group in the intervals, unless
            `kerastl.data.ArrayDataset(..., groups=...)` sets them.
        class_names: Class names in the order of the logits. None uses those of the model or of the collection.
        **options: Options of `kerastl.evaluation.score`, for example `positive`, `specificity` and `seed`.

    Returns:
        The scores by split, as in `scores.json`: metrics with 95% bootstrap intervals, overall and per
        class. Images without a split are scored as `all`.

    Raises:
        Problems: An option is invalid, the model does not return logits, or the model and the images have different
            classes or sizes.

    Example:
        >>> scores = kerastl.evaluate(model, collection.test)
        >>> scores["test"]["overall"]["auc"]["value"]
        0.93
    """
    # In a recipe, `subgroups` contains the names of columns; here, it contains the columns.
    checked = {name: value for name, value in options.items() if name != "subgroups"}
    check_arguments("evaluate", ScoreOptions, checked, option_problems(score, options, "predictions"))
    if isinstance(test, ImageDataset) and test.augmented:
        print_status("Note: test: the images are augmented before they are scored. To avoid it: augment=None")
    signature = read_signature(model)
    # A model that was not trained on 16-bit images has no window.
    window, rule = signature.get("window"), signature.get("resize")
    dataset = _dataset(model, "test", test, class_names=class_names, window=window, resize=rule)
    _warn_if_random(check_classifier(model, image_size_px=dataset.image_size_px, is_probed=True))
    if isinstance(dataset, ArrayDataset | TfDataset) and not any(record.group for record in dataset.records):
        print_status(f"Note: test: {NO_GROUPS}")
    return score(predict(model, dataset), **options)


def export_model(
    model: keras.Model, out: str | Path, *, class_names: Sequence[str] | None = None, **options: Any
) -> Path:
    """Export a classifier as a SavedModel that takes image files and returns probabilities.

    Args:
        model: A model from `build_classifier`, or any `keras.Model` that returns logits, as in `fit`.
        out: The folder for TensorFlow Serving. The model is written under the next free version
            number, for example to `out/1`.
        class_names: Class names in the order of the logits. None uses those that the model stores: a model from
            `build_classifier` or `fit` keeps them, also in a file. A subclassed model keeps them only in this process.
        **options: Options of `kerastl.export.export_saved_model`, for example `version` or `model_name`. The default
            `window` and `resize` are those of the training images of `fit`.

    Returns:
        The version folder.

    Raises:
        Problems: The model does not return logits, its outputs are random or not finite, the class names do not match
            the model, or an option is invalid.
        RequestError: The class names are unknown, or the window or the resize rule is not that of the model.

    Example:
        >>> kerastl.export_model(model, "served")
        PosixPath('served/1')
    """
    problems = option_problems(export_saved_model, options, "image_size_px")
    checked = check_arguments("export_model", WindowOptions, {"window": "auto", **options}, problems)
    network = check_classifier(model)
    signature = read_signature(model)
    stored, chosen = signature.get("window"), checked.fixed_window or FULL_WINDOW
    if checked.window != "auto" and stored not in (None, chosen):
        raise RequestError(f"window: is {chosen}, but the model was trained with {stored}. Remove window=.")
    rule = signature.get("resize")
    if options.setdefault("resize", rule or "stretch") != rule and rule:
        raise RequestError(
            f"resize: is {options['resize']!r}, but the model was trained with {rule!r}. Remove resize=."
        )
    _warn_if_random(network)
    names = class_names if class_names is not None else signature.get("class_names")
    if names is None:
        raise RequestError("The model does not store class names. Pass class_names=[...].")
    options.setdefault("postprocessing", Postprocessing(getattr(model, "temperature", None)))
    if checked.window == "auto" and "window" not in signature:
        print_status(
            "Note: the model stores no window, because kerastl.fit did not train it. 16-bit images are exported with "
            "their full range. For the window of the training images: window=train.window"
        )
    return export_saved_model(
        model, as_path(out), class_names=names, image_size_px=network.input_shape[1:3],
        window=signature.get("window") if checked.window == "auto" else checked.fixed_window,
        **{name: value for name, value in options.items() if name != "window"},
    )  # fmt: skip


def _warn_if_random(model: keras.Model) -> None:
    if has_random_backbone(model):
        print_status(f"Warning: the model '{model.name}' has initial weights, which no training has changed.")


def _dataset(
    model: keras.Model,
    name: str,
    images: Any,
    *,
    class_names: Any = None,
    window: Window | None = None,
    resize: Resize | None = None,
    **options: Any,
) -> ImageDataset:
    """Return labeled images as a dataset that matches the model in size, class names, window and resize rule."""
    size = input_size(model, images)
    dataset, _ = match_dataset(
        name, images, model, class_names=class_names, image_size_px=size, resize=resize, **options
    )
    num_labeled = int((dataset.labels >= 0).sum())
    if num_labeled == 0 or (name == "train" and num_labeled < dataset.num_examples):
        needed = (
            "all training images must be labeled"
            if name == "train"
            else "at least one labeled image is required"
        )
        remedy = (
            "Remove the unlabeled images, or label them."
            if num_labeled
            else "Pass labeled images, such as (x, y)."
        )
        raise RequestError(
            f"{name}: {num_labeled:,} of {dataset.num_examples:,} images are labeled, but {needed}. {remedy}"
        )
    if window and dataset.has_auto_window:
        return dataset.with_window(window)
    if window not in (None, dataset.window or FULL_WINDOW):
        raise RequestError(
            f"{name}: has the window {dataset.window or 'full'}, but the training images have {window}. "
            f"Use window={window}."
        )
    return dataset
