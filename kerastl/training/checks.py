"""What must hold of the phases before the first step, and of the numbers after each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.data import EpochSource
from kerastl.errors import Problem, Problems, RequestError, WouldFailAgain
from kerastl.training.freezing import resolve_trainable
from kerastl.training.phase import Phase

Sources = Mapping[str, EpochSource]


def check_phases(
    model: keras.Model, phases: Sequence[Phase], *, trains: Sources, vals: Sources
) -> None:
    """See that every phase can be run, before any of them is.

    Args:
        model: a flat classifier.
        phases: all that will be run.
        trains, vals: pictures by domain.

    Raises:
        Problems: a domain without pictures, a block or layer that does not exist, or a figure to watch
            that the validation pictures cannot give; all of them together.
    """
    problems = [
        Problem(f"phase {phase.name}", what)
        for phase in phases
        for what in _wrong(model, phase, trains, vals)
    ]
    if problems:
        raise Problems("The training", problems, "Nothing was trained.")


def _wrong(model: keras.Model, phase: Phase, trains: Sources, vals: Sources) -> Iterator[str]:
    if phase.domain not in trains:
        yield f"there are no labelled pictures of its domain, {phase.domain}."
    try:
        resolve_trainable(model, phase.trainable)
    except RequestError as error:
        yield str(error)
    val = vals.get(phase.domain)
    if phase.early_stopping is not None and val is None:
        yield (
            f"early_stopping watches {phase.monitor}, and its domain, {phase.domain}, has no validation "
            "pictures. Raise split.val_fraction, or take early_stopping out."
        )
    if val is not None and val.mixes:
        yield "its validation pictures are mixed. Only training pictures may be: take `mix` out."
    if val is not None and phase.monitor == "val_auc":
        present = {int(label) for label in np.asarray(val.labels)}
        absent = [name for at, name in enumerate(val.class_names) if at not in present]
        if absent:
            yield (
                f"monitor: val_auc needs every class in validation, and '{absent[0]}' has no picture "
                "there. Take val_loss, or raise split.val_fraction."
            )


def check_losses(values: Mapping[str, float], where: str) -> None:
    """See that every loss of a step is a number.

    Raises:
        WouldFailAgain: one is not.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise WouldFailAgain(f"{name} became {value} in {where}.")


def check_epoch(model: keras.Model, logs: Mapping[str, Any], where: str) -> None:
    """See that an epoch ended with numbers: a last step may break weights that no loss has seen yet.

    Raises:
        WouldFailAgain: a figure or a weight is not a number.
    """
    check_losses({name: value for name, value in logs.items() if value is not None}, where)
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise WouldFailAgain(f"{weight.path} holds no numbers any more after {where}.")
