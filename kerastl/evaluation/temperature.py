"""Temperature scaling: one number, fitted on validation, that divides every logit."""

from __future__ import annotations

import numpy as np

from kerastl.evaluation.predictions import Array

RANGE = (0.02, 50.0)
MIN_PROBABILITY = np.finfo(np.float64).tiny


def fit_temperature(labels: Array, probabilities: Array) -> float | None:
    """Return the temperature whose scaled probabilities have the least log loss.

    Args:
        labels: `[n]` int.
        probabilities: `[n, classes]` float64; their logarithms are the logits, up to a number a row that
            no softmax sees.

    Returns:
        Above 1 where the model was too sure, below 1 where it was not sure enough. None where nothing
        between 0.02 and 50 is best: each picture is answered right (0 would be best), or the answers say
        nothing (infinity would be).

    Reference:
        Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    from scipy.optimize import brentq

    logits = log_of(probabilities)
    gaps = logits - logits[np.arange(len(labels)), labels][:, None]

    def slope(log_inverse: float) -> float:
        """Return the derivative of the log loss by the inverse temperature, a rising function of it."""
        scaled = gaps * np.exp(log_inverse)
        shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return float(((shifted * gaps).sum(axis=1) / shifted.sum(axis=1)).mean())

    low, high = -np.log(RANGE[1]), -np.log(RANGE[0])
    if not len(labels) or slope(low) >= 0 or slope(high) <= 0:
        return None
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


def with_temperature(probabilities: Array, temperature: float) -> Array:
    """Return `[n, classes]` float64: the softmax of the logits divided by a temperature above 0."""
    logits = log_of(probabilities) / temperature
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return scaled


def log_of(probabilities: Array) -> Array:
    """Return `[n, classes]` float64 logits of probabilities: the same bytes for a table that was read back."""
    logits: Array = np.log(np.maximum(probabilities, MIN_PROBABILITY))
    return logits
