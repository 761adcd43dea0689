"""Soft neighbourhood density: whether images lie in dense neighbourhoods of alike answers.

    f_i = p_i / ||p_i||,  S_ij = f_i . f_j,  P_ij = softmax over j != i of S_ij / temperature
    score = mean over i of -sum_j P_ij log P_ij

High where each image has many neighbours that are alike, which a model that tears classes apart lacks. Deceived by a
collapsed model: when all answers are alike, every image is everyone's neighbour, and the score is the greatest possible,
log(n - 1). The paper trusts it for choosing options of one method, which the source's accuracy keeps from collapsing.

Reference:
    Saito et al. 2021, arXiv:2108.10860, equations 1 and 2; temperature 0.05 as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from kerastl.options import StrictModel
from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence

NUMBERS_AT_ONCE = 4_000_000


class Options(StrictModel):
    """Options of `snd`.

    Args:
        temperature: of the softmax over similarities; smaller looks at nearer neighbours only.
    """

    temperature: Annotated[float, Gt(0), Le(10)] = 0.05


def neighbourhood_density(evidence: Evidence, options: Options) -> float:
    """Return the mean entropy of soft neighbourhoods, 0 to log(n - 1); 0 for one image."""
    import numpy as np
    from scipy.special import log_softmax, softmax

    answers = softmax(evidence.target.logits.astype(np.float64), axis=1)
    unit = answers / np.linalg.norm(answers, axis=1, keepdims=True)
    count = len(unit)
    if count == 1:
        return 0.0
    total = 0.0
    rows = max(1, NUMBERS_AT_ONCE // count)
    for start in range(0, count, rows):
        near = unit[start : start + rows] @ unit.T / options.temperature
        places = np.arange(len(near))
        # An image is no neighbour of itself; far below any other, so that it has a share of 0 and no NaN comes of it.
        near[places, start + places] = -1e9
        logs = log_softmax(near, axis=1)
        total -= float((np.exp(logs) * logs).sum())
    return total / count


VALIDATOR = Validator(neighbourhood_density, Options())
