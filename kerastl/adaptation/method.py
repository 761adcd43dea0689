"""What is known of an adaptation method before it is run. No TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from kerastl import registry
from kerastl.errors import Problems, RequestError
from kerastl.options import list_problems
from kerastl.recipe import Method as MethodOptions

if TYPE_CHECKING:
    import keras

    from kerastl.adaptation.adaptation_step import AdaptationStep
    from kerastl.data import ImageDataset
    from kerastl.recipe import LayerNames, Phase
    from kerastl.training import ClassificationStep, Step

SOURCE_ONLY = "source_only"
"""The name of the model that was trained at the source and not adapted; always among the candidates."""


@dataclass(frozen=True)
class Method:
    """Facts of a method, by which a choice among methods is made.

    Args:
        reference: paper and arXiv number.
        target_labels: `some` reads the labels of the target's training images where there are any, `none` never.
        source_free: whether it never reads a source image, whatever its options.
        source_optional: whether it reads the source where that is at hand, and works without, too: by
            `build_without_source` of its file.
        moves_statistics: whether it works by BatchNorm statistics, so that the phase must not freeze BatchNorm.
        assumes_equal_prevalence: whether it makes the two domains' images alike as a whole, or the classes of the target
            equally frequent: where the shares of the classes differ, it makes images of different classes alike.
        learns: `head`: the head alone has something to learn from it, so features may be cached, unless it
            `changes_pixels`; `any`: it works by layers before the head, whichever of them learn.
        changes_pixels: whether it changes images, of either domain, in its step, so that nothing can be cached of them.
        only_batch_norm: whether nothing but the scale and offset of BatchNorm may learn.
        freezes_head: whether the head stays as it is: it gets a gradient of 0, and its step keeps it.
        aligns: names of its losses that measure a distance between the domains, 0 where they are the same images.
    """

    reference: str
    target_labels: Literal["none", "some"] = "none"
    source_free: bool = False
    source_optional: bool = False
    moves_statistics: bool = False
    assumes_equal_prevalence: bool = False
    learns: Literal["head", "any"] = "any"
    changes_pixels: bool = False
    only_batch_norm: bool = False
    freezes_head: bool = False
    aligns: tuple[str, ...] = ()

    @property
    def works_without_source(self) -> bool:
        """Whether a trained model and images of the target can be enough."""
        return self.source_free or self.source_optional


def check_phase(name: str, method: Method, model: keras.Model, phase: Phase) -> None:
    """See that a phase lets a method do its work, and nothing else.

    Args:
        name, method: of the method.
        model: a flat classifier.
        phase: that it shall work in.

    Raises:
        RequestError: the phase freezes what the method works by, moves what it must leave alone, or keeps what it changes.
    """
    from kerastl.training import batch_norm_layers, resolve_trainable

    where = f"phase {phase.name}: {name}"
    norms = {layer.name for layer in batch_norm_layers(model)}
    learning = resolve_trainable(model, phase.trainable)
    if method.moves_statistics and not norms:
        raise RequestError(f"{where} works by BatchNorm, and this network has none. Take another method.")
    if method.moves_statistics and phase.batch_norm == "frozen":
        wanted = "trainable" if method.only_batch_norm else "statistics"
        raise RequestError(
            f"{where} works by the statistics of BatchNorm, and all are frozen. Write batch_norm: {wanted}."
        )
    if method.changes_pixels and phase.cache != "none":
        raise RequestError(
            f"{where} changes images at each step, and cache: {phase.cache} keeps what the frozen layers "
            "made of them before. Write cache: none."
        )
    if method.only_batch_norm:
        _check_only_batch_norm(where, model, phase, learning, norms)
    elif method.learns == "any" and not method.moves_statistics and not learning:
        raise RequestError(
            f"{where} works by layers before the head, and all are frozen. "
            "Write trainable: all, or trainable: {from_block: NAME}."
        )


def _check_only_batch_norm(
    where: str, model: keras.Model, phase: Phase, learning: list[str], norms: set[str]
) -> None:
    others = [one for one in learning if one not in norms and model.get_layer(one).weights]
    if others or phase.batch_norm != "trainable" or not set(learning) & norms:
        also = f", and this phase lets {others[0]} move, too" if others else ""
        raise RequestError(
            f"{where} learns the scale and offset of BatchNorm alone{also}. Write batch_norm: trainable and "
            f"trainable: {{names: PATTERN}}, the pattern matching BatchNorm layers only, as {min(norms)}."
        )


def batch_norm_alone(model: keras.Model) -> LayerNames:
    """Return the choice of all BatchNorm layers of a flat classifier and of no other, for a phase of `tent`."""
    from kerastl.recipe import LayerNames
    from kerastl.training import batch_norm_layers

    names: list[Any] = [re.escape(layer.name) for layer in batch_norm_layers(model)]
    return LayerNames(names="|".join(names))


KIND = "adaptation"


def method_named(name: str) -> Method:
    """Return the facts of a method; loads no TensorFlow.

    Raises:
        RequestError: no such method.
    """
    found: Any = registry.module(KIND, name)
    method: Method = found.METHOD
    return method


def named_options(name: str, options: Any = None) -> Any:
    """Return the checked options of a method; loads no TensorFlow.

    Args:
        name: of the method.
        options: its `Options`, or `{option: value, ...}`; None: the defaults.

    Raises:
        RequestError: no such method or option, or a value that is not allowed; all that is wrong is told.
    """
    try:
        return MethodOptions.model_validate(name if options is None else (name, options)).options
    except ValidationError as error:
        raise Problems(f"The method {name}", list_problems(error)) from error


def build_step(
    name: str,
    options: Any = None,
    *,
    num_classes: int,
    num_features: int,
    seed: int = 0,
    classification: ClassificationStep | None = None,
    update_statistics: bool = False,
    without_source: bool = False,
) -> AdaptationStep:
    """Return the step of a method.

    Args:
        name: of the method.
        options: as in `named_options`.
        num_classes, num_features, seed, classification, follow_statistics: as in `AdaptationStep`.
        without_source: no source image is at hand: the step reads the target alone.

    Raises:
        RequestError: no such method or option, a value that is not allowed, or a method that needs the source.
    """
    checked, facts = named_options(name, options), method_named(name)
    module: Any = registry.module(KIND, name)
    if without_source and not facts.works_without_source:
        able = [one for one in registry.names(KIND) if method_named(one).works_without_source]
        raise RequestError(
            f"{name} learns from images of the source, and there are none. Without them work: "
            f"{', '.join(able)}."
        )
    build = module.build_without_source if without_source and facts.source_optional else module.build
    step: AdaptationStep = build(
        checked, num_classes=num_classes, num_features=num_features, seed=seed,
        classification=classification, update_statistics=update_statistics,
    )  # fmt: skip
    return step


def step_for(
    name: str, model: keras.Model, options: Any = None, *, seed: int = 0, without_source: bool = False
) -> Callable[[Phase, ImageDataset], Step]:
    """Return what `kerastl.training.fit` takes as `step_for`, for one method and the model that it will train.

    Labels are learnt from as the phase says (`label_smoothing`, `class_weights`, `focal_gamma`).

    Args:
        name: of the method.
        model: a flat classifier from `build_model`.
        options: as in `named_options`.
        seed: of what the method draws.
        without_source: as in `build_step`; `fit` then needs no source images: `fit(model, {}, target=target, ...)`.

    Raises:
        RequestError: no such method or option, or a value that is not allowed; a method that needs the source; a phase that will not do, see `check_phase`.
    """
    checked, method = named_options(name, options), method_named(name)

    def build(phase: Phase, source: ImageDataset) -> Step:
        from kerastl.training.loop import classification_step

        check_phase(name, method, model, phase)
        num_features, num_classes = model.get_layer("head").kernel.shape
        classification: Any = classification_step(phase, source)
        return build_step(
            name, checked, num_classes=int(num_classes), num_features=int(num_features), seed=seed,
            classification=classification, update_statistics=phase.batch_norm != "frozen",
            without_source=without_source,
        )  # fmt: skip

    return build


def works_without_source(kind: str, name: str) -> bool:
    """Tell whether a method or a validator can do without images of the source.

    Args:
        kind: `adaptation` or `validator`.
        name: of one that there is.
    """
    if kind == KIND:
        # Not to adapt is a candidate always: the model as it came.
        return name == SOURCE_ONLY or method_named(name).works_without_source
    module: Any = registry.module(kind, name)
    return not module.VALIDATORS[name].needs_source


def plain_of(path: Path) -> Mapping[str, Any]:
    """Return what a trained model says of itself, as a recipe would.

    Args:
        path: a run folder, or a portable folder of a run.

    Returns:
        `{"source": {"model"}, "backbone": {...}, "head": {...}, "data": {"image_size_px", "window"}}`; the folder of the model
        is the one with the highest number, where `path` holds several.

    Raises:
        RequestError: there is no such model, or it is damaged.
    """
    from kerastl.evaluation.trained_model import read_source_model

    found = read_source_model(path)
    window: Any = "full"
    if found.description.window is not None:
        low, high = found.description.window
        window = {"center": (low + high) / 2, "width": high - low}
    return {
        "source": {"model": str(found.folder)},
        "backbone": {**found.backbone, "weights": str(found.folder)},
        "head": {"dropout": found.dropout},
        "data": {"image_size_px": found.description.image_size_px, "window": window},
    }
