"""Whether the model answers for mixed target images as for the one that prevails in them.

    x = share * x_i + (1 - share) * x_j,  share > 0.5
    within  = share of pairs with equal answers in which argmax f(x) = argmax f(x_i)      (density of neighbourhoods)
    between = the same of pairs with unequal answers                                      (place of the boundary)
    score = mean of the two

The model itself must be run on the mixed images: `draw_pairs` says which, their logits go into `Evidence.mixed`. Without
them the score is refused, not replaced: mixing features instead would only probe the head, which is linear, so that mixed
logits are known without asking it. Deceived by a collapsed model as far as it has one class only: all its pairs are within,
and right. It then has no pairs between, which count as 0.

Reference:
    Hu et al. 2023, Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 36,
    openreview.net/forum?id=ackajXqei2. The paper averages the ranks of the two shares among its models; a score of one model
    alone has to average the shares themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from kerastl.errors import RequestError
from kerastl.options import StrictModel
from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Array, Evidence


class Options(StrictModel):
    """Options of `mixval`.

    Args:
        share: of the first image in a mixed one; near 0.5 asks the most.
        seed: of the pairs that `draw_pairs` makes.
    """

    share: Annotated[float, Gt(0.5), Lt(1)] = 0.55
    seed: Annotated[int, Ge(0)] = 0


def draw_pairs(logits: Array, options: Options) -> tuple[Array, Array]:
    """Return which target images to mix: rows of the first and of the second, `[pairs]` int64 each.

    Every image comes first in one pair with an image of the same answer and in one of another, where there is one.

    Args:
        logits: `[n, classes]` of this candidate at the target; the pairs follow its own answers.
        options: its seed draws the partners.
    """
    import numpy as np

    answers = logits.argmax(axis=1)
    generator = np.random.default_rng(options.seed)
    rows = np.arange(len(answers))
    pairs = []
    for row in rows:
        same = answers == answers[row]
        for partners in (rows[same & (rows != row)], rows[~same]):
            if len(partners):
                pairs.append((row, partners[generator.integers(len(partners))]))
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return first, second


def keeps_answers(evidence: Evidence, options: Options) -> float:
    """Return the mean of both shares, 0 to 1.

    Raises:
        RequestError: the evidence has no mixed images, or such of another share than the options say.
    """
    mixed = evidence.mixed
    if mixed is None:
        raise RequestError(
            "mixval needs the model's logits of mixed target images, and there are none. Draw pairs by "
            "validators.mixval.draw_pairs, run the model on them and hand Evidence(..., mixed=Mixed(...)), or "
            "leave mixval out of select_by."
        )
    if abs(mixed.share - options.share) > 1e-6:
        raise RequestError(
            f"mixval is to use a share of {options.share}, the mixed images have {mixed.share}. Mix anew, or "
            "set the option share."
        )
    answers = evidence.target.logits.argmax(axis=1)
    kept = mixed.logits.argmax(axis=1) == answers[mixed.first]
    within = answers[mixed.first] == answers[mixed.second]
    shares = [float(kept[pairs].mean()) if pairs.any() else 0.0 for pairs in (within, ~within)]
    return sum(shares) / 2


VALIDATOR = Validator(keeps_answers, Options())
