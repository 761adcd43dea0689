"""From a method's name and options to the step that the loop drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kerastl import registry
from kerastl.adaptation.method import Method
from kerastl.adaptation.phases import check_phase
from kerastl.errors import Problems, RequestError
from kerastl.options import problems_of
from kerastl.recipe import Method as MethodOptions

if TYPE_CHECKING:
    import keras

    from kerastl.adaptation.step import AdaptationStep
    from kerastl.data import ImageDataset
    from kerastl.recipe import Phase
    from kerastl.training import Classification, Step

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
    given = {} if options is None else {"options": options}
    try:
        return MethodOptions.model_validate({"name": name, **given}).options
    except ValidationError as error:
        raise Problems(f"The method {name}", problems_of(error)) from error


def build_step(
    name: str,
    options: Any = None,
    *,
    num_classes: int,
    num_features: int,
    seed: int = 0,
    classification: Classification | None = None,
    follow_statistics: bool = False,
    without_source: bool = False,
) -> AdaptationStep:
    """Return the step of a method.

    Args:
        name: of the method.
        options: as in `named_options`.
        num_classes, num_features, seed, classification, follow_statistics: as in `AdaptationStep`.
        without_source: no source picture is at hand: the step reads the target alone.

    Raises:
        RequestError: no such method or option, a value that is not allowed, or a method that needs the source.
    """
    checked, facts = named_options(name, options), method_named(name)
    module: Any = registry.module(KIND, name)
    if without_source and not facts.works_without_source:
        able = [one for one in registry.names(KIND) if method_named(one).works_without_source]
        raise RequestError(
            f"{name} learns from pictures of the source, and there are none. Without them work: "
            f"{', '.join(able)}."
        )
    build = (
        module.build_without_source if without_source and facts.source_optional else module.build
    )
    step: AdaptationStep = build(
        checked, num_classes=num_classes, num_features=num_features, seed=seed,
        classification=classification, follow_statistics=follow_statistics,
    )  # fmt: skip
    return step


def step_for(
    name: str,
    model: keras.Model,
    options: Any = None,
    *,
    seed: int = 0,
    without_source: bool = False,
) -> Callable[[Phase, ImageDataset], Step]:
    """Return what `kerastl.training.fit` takes as `step_for`, for one method and the model that it will train.

    Labels are learnt from as the phase says (`label_smoothing`, `class_weights`, `focal_gamma`).

    Args:
        name: of the method.
        model: a flat classifier from `build_model`.
        options: as in `named_options`.
        seed: of what the method draws.
        without_source: as in `build_step`; `fit` then needs no source pictures: `fit(model, {}, target=target, ...)`.

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
            classification=classification, follow_statistics=phase.batch_norm != "frozen",
            without_source=without_source,
        )  # fmt: skip

    return build
