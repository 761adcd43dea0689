"""Properties, options and steps of adaptation methods. Does not import TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from kerastl import registry, training
from kerastl.errors import RequestError, raise_problems, setting
from kerastl.options import describe_value, list_problems
from kerastl.recipe import LayerNames, Phase
from kerastl.recipe import Method as MethodOptions
from kerastl.tasks import SINGLE_LABEL

if TYPE_CHECKING:
    import keras

    from kerastl.adaptation.adaptation_step import AdaptationStep
    from kerastl.data import ImageDataset

TASKS = (SINGLE_LABEL,)
"""The tasks that this package supports."""
Weight = Annotated[float, Ge(0), Le(1e6)]
"""Weight of a loss."""
Share = Annotated[float, Gt(0), Le(1)]
"""Fraction of the images that are changed."""
SOURCE_ONLY = "source_only"
"""Name of the candidate that is trained on the source without adaptation. Every selection includes it."""


@dataclass(frozen=True)
class Method:
    """Properties of an adaptation method.

    Args:
        reference: Paper and arXiv number.
        target_labels: `some` if the method uses available labels of target training images, `none` if it
            never does.
        source_free: Whether the method uses no source images.
        source_optional: Whether the method uses source images if they are available, and otherwise is built
            by `build_without_source`.
        requires_statistics: Whether the method re-estimates BatchNorm statistics, so that the phase must not
            freeze them.
        assumes_equal_prevalence: Whether the method aligns whole distributions or balances the target's
            classes. If the class frequencies differ, it aligns images of different classes.
        learns: `head` if the method can train with a frozen backbone, so that features can be cached unless
            it `changes_pixels`; `any` if it needs trainable layers before the head.
        changes_pixels: Whether the method changes images in its step, so that nothing can be cached.
        transfers_styles: Whether the method transfers statistics of all pixels of an image, including padding.
        only_batch_norm: Whether the method trains only the scale and offset of BatchNorm.
        freezes_head: Whether the step freezes the head, which gets a gradient of 0.
        distances: Names of losses that measure a distance between the domains, 0 for identical images.
    """

    reference: str
    target_labels: Literal["none", "some"] = "none"
    source_free: bool = False
    source_optional: bool = False
    requires_statistics: bool = False
    assumes_equal_prevalence: bool = False
    learns: Literal["head", "any"] = "any"
    changes_pixels: bool = False
    transfers_styles: bool = False
    only_batch_norm: bool = False
    freezes_head: bool = False
    distances: tuple[str, ...] = ()

    @property
    def works_without_source(self) -> bool:
        """Whether the method can train without source images."""
        return self.source_free or self.source_optional


def check_phase(name: str, method: Method, model: keras.Model, phase: Phase) -> None:
    """Check that a phase trains what a method needs, and nothing that it must not change.

    Args:
        name: Name of the method.
        method: The properties of the method.
        model: A flat classifier.
        phase: The phase that trains the method.

    Raises:
        RequestError: The phase freezes what the method trains, trains what it must not change, or caches what
            it changes.
    """
    where = f"phase {phase.name}: {name}"
    norms = {layer.name for layer in training.batch_norm_layers(model)}
    trainable = training.resolve_trainable(model, phase.trainable)
    if method.requires_statistics and not norms:
        raise RequestError(f"{where} needs BatchNorm layers, but this network has none. Use another method.")
    if method.requires_statistics and phase.batch_norm == "frozen":
        wanted = "trainable" if method.only_batch_norm else "statistics"
        raise RequestError(
            f"{where} re-estimates BatchNorm statistics, but they are frozen. Set {setting('batch_norm', wanted)}."
        )
    if method.changes_pixels and phase.cache != "none":
        raise RequestError(
            f"{where} changes images in each step, but {setting('cache', phase.cache)} stores activations of unchanged images. "
            f"Set {setting('cache', 'none')}."
        )
    if method.only_batch_norm:
        _check_only_batch_norm(where, model, phase, trainable, norms)
    elif method.learns == "any" and not method.requires_statistics and not trainable:
        raise RequestError(
            f"{where} trains layers before the head, but all of them are frozen. "
            f"Set {setting('trainable', 'all')}, or {setting('trainable', {'from_block': 'NAME'})}."
        )


def _check_only_batch_norm(
    where: str, model: keras.Model, phase: Phase, trainable: list[str], norms: set[str]
) -> None:
    others = [name for name in trainable if name not in norms and model.get_layer(name).weights]
    if others or phase.batch_norm != "trainable" or not set(trainable) & norms:
        extra = f", but the phase also trains {others[0]}" if others else ""
        raise RequestError(
            f"{where} trains only the scale and offset of BatchNorm{extra}. Set {setting('batch_norm', 'trainable')} and "
            f"{setting('trainable', {'names': 'PATTERN'})} with a pattern that matches only BatchNorm layers, such as {min(norms)}."
        )


def select_batch_norm(model: keras.Model) -> LayerNames:
    """Return the `trainable` setting for `tent`: only the BatchNorm layers of a flat classifier.

    Raises:
        RequestError: The classifier has no BatchNorm layers.
    """
    names = [re.escape(layer.name) for layer in training.batch_norm_layers(model)]
    if not names:
        raise RequestError(
            "adaptation.methods: tent trains only BatchNorm layers, but this network has none. Use another method."
        )
    return LayerNames(names="|".join(names))


KIND = "adaptation"


def get_method(name: str) -> Method:
    """Return the properties of a method. Does not import TensorFlow.

    Raises:
        RequestError: There is no such method.
    """
    return registry.module(KIND, name).METHOD


def method_options(name: str, options: Any = None) -> Any:
    """Return the validated options of a method. Does not import TensorFlow.

    Args:
        name: Name of the method.
        options: The `Options` of the method, or `{option: value, ...}`; None for the defaults.

    Raises:
        RequestError: There is no such method or option, or a value is not allowed. All problems are listed.
    """
    method, errors = MethodOptions.read(name if options is None else (name, options))
    raise_problems(f"The method {name}", list_problems(errors))
    return method.options


def build_step(
    name: str,
    options: Any = None,
    *,
    num_classes: int,
    num_features: int,
    seed: int = 0,
    classification: training.ClassificationStep | None = None,
    update_statistics: bool = False,
    without_source: bool = False,
) -> AdaptationStep:
    """Return the step of a method.

    Args:
        name: Name of the method.
        options: As in `method_options`.
        num_classes, num_features, seed, classification: As in `AdaptationStep`.
        update_statistics: As in `AdaptationStep`; always set for a method that re-estimates statistics.
        without_source: Whether to train without source images.

    Raises:
        RequestError: There is no such method or option, a value is not allowed, or the method needs source
            images.
    """
    checked, method = method_options(name, options), get_method(name)
    module: Any = registry.module(KIND, name)
    if without_source and not method.works_without_source:
        source_free = [other for other in registry.names(KIND) if get_method(other).works_without_source]
        raise RequestError(
            f"{name} needs source images, but there are none. Methods without source images: "
            f"{', '.join(source_free)}."
        )
    build = module.build_without_source if without_source and method.source_optional else module.build
    step: AdaptationStep = build(
        checked, num_classes=num_classes, num_features=num_features, seed=seed,
        classification=classification, update_statistics=update_statistics or method.requires_statistics,
    )  # fmt: skip
    return step


def step_for(
    name: str, model: keras.Model, options: Any = None, *, seed: int = 0, without_source: bool = False
) -> training.StepFactory:
    """Return the argument `step_for` of `kerastl.training.fit` for one method and model.

    The classification loss follows the phase (`label_smoothing`, `class_weights`, `focal_gamma`).

    Args:
        name: Name of the method.
        model: A flat classifier from `build_model`.
        options: As in `method_options`.
        seed: Seed of everything random in the method.
        without_source: As in `build_step`. Pass `{}` to `fit` instead of source images.

    Raises:
        RequestError: There is no such method or option, a value is not allowed, the model was not built by
            `build_classifier`, or the method needs source images. The returned function also raises it if a phase does
            not fit the method, see `check_phase`.
    """
    from kerastl.adaptation.features import has_head

    checked, method = method_options(name, options), get_method(name)
    if not has_head(model):
        raise RequestError(
            f"{name}: needs a model from build_classifier, but {describe_value(model)} does not end in a Dense layer named 'head'. "
            "Build it with kerastl.build_classifier(MODEL, class_names=[...]), which keeps the weights of MODEL except its last "
            "layer, or use the losses of kerastl.adaptation in your own train_step."
        )

    def build(phase: Phase, source: ImageDataset) -> training.Step:
        from kerastl.training.loop import classification_step

        check_phase(name, method, model, phase)
        num_features, num_classes = model.get_layer("head").kernel.shape[0], model.output_shape[-1]
        classification: Any = classification_step(phase, source)
        return build_step(
            name, checked, num_classes=int(num_classes), num_features=int(num_features), seed=seed,
            classification=classification, update_statistics=phase.batch_norm != "frozen",
            without_source=without_source,
        )  # fmt: skip

    return build


def works_without_source(kind: str, name: str) -> bool:
    """Return whether a method or a validator works without source images.

    Args:
        kind: `adaptation` or `validator`.
        name: Name of the method or validator.
    """
    if kind == KIND:  # Without source images, source_only is the given model.
        return name == SOURCE_ONLY or get_method(name).works_without_source
    return not registry.module(kind, name).VALIDATORS[name].needs_source


def source_model_settings(path: Path) -> Mapping[str, Any]:
    """Return the recipe settings that a trained model defines.

    Args:
        path: A run folder, or the output of `kerastl export RUN --format keras`; if it has several versions, the last
            one is used.

    Returns:
        `{"source": {"model"}, "backbone": {...}, "head": {...}, "data": {"image_size_px", "resize", "window"}}`.

    Raises:
        RequestError: There is no such model, or it is damaged.
    """
    from kerastl.evaluation.trained_model import find_model, read_source_model

    folder = find_model(path)
    description = read_source_model(folder).to_json()
    window: Any = "full"
    if description["window"] is not None:
        low, high = description["window"]
        window = {"center": (low + high) / 2, "width": high - low}
    return {
        "source": {"model": str(folder)},
        "backbone": {**description["backbone"], "weights": str(folder)},
        "head": description["head"],
        "data": {
            "image_size_px": description["image_size_px"],
            "resize": description.get("resize", "stretch"),
            "window": window,
        },
    }
