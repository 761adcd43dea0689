"""How much of the classes a model's answers leave open at the target, beside the source.

    open = mean H(p_T) / H(mean p_T)

0: every picture's class is told, 1: none is; T is the temperature that fits the source's validation pictures best. The share, not the
entropy itself, so that other shares of the classes alone do not move it much. Whoever takes pictures of a class to look alike at both
sites, as every estimate of prevalence does, expects the same share at both.

Reference:
    The difference of confidences of Guillory et al. 2021, arXiv:2107.03315, with entropies; temperature: Guo et al. 2017,
    arXiv:1706.04599.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr

from kerastl.adaptation.choosing.evidence import Evidence
from kerastl.adaptation.choosing.proven import at_target, calibrated_at_source

Array = np.ndarray[Any, Any]


def left_open(evidence: Evidence) -> dict[str, float]:
    """Return the share that is left open, 0 to 1, by domain: `source` (validation pictures) and `target`."""
    at_source, temperature = calibrated_at_source(evidence)
    return {"source": _open(at_source), "target": _open(at_target(evidence, temperature))}


def _open(probabilities: Array) -> float:
    whole = entr(probabilities.mean(axis=0)).sum()
    return float(entr(probabilities).sum(axis=1).mean() / whole) if whole > 0 else 0.0
