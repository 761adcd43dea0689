"""Whether the answers tell as much of the target as they are proven to tell at the source: no less, and no more.

    score = -|claimed - proven|,   claimed = H(mean p_T) - mean H(p_T) at the target,   proven = H(y) - mean(-log p_T(y | x)) at the source

`choosing.proven` says why. A model that did not reach the target claims less, one that trained on its own answers more. Deceived
where features were made alike as a whole and classes fell on the wrong ones: it then claims what is proven of others. Where classes are
rarer at the target than at the source, the best model claims less than is proven, and so does every candidate.

Reference:
    Average confidence as a tell of accuracy: Guillory et al. 2021, arXiv:2107.03315, section 3; temperature: Guo et al. 2017,
    arXiv:1706.04599.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


def as_much_as_proven(evidence: Evidence) -> float:
    """Return minus the distance of what is claimed from what is proven, in nats an image."""
    from kerastl.selection.ranking import claimed_and_proven

    claimed, proven = claimed_and_proven(evidence)
    return -abs(claimed - proven)


VALIDATOR = Validator(as_much_as_proven, needs="source")
