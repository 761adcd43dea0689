"""Whether a candidate kept to the answers that it began with, where no picture of the source says what it unlearnt.

A method that learns from its own answers ends right only if these mostly were. So its answers on the target stand beside those that the same
model gave before a weight had moved, with BatchNorm's statistics at the target already where these follow it: Cohen's kappa, 1 where all are the
same, 0 where they agree as often as chance has it. Below `LEAST_KEPT` more of what was beyond chance is gone than is left: then either
the answers that it learnt from were wrong, or those that it ended with are, and nothing tells which.

Reference:
    Cohen 1960, doi:10.1177/001316446002000104 (kappa). That self-training fails where a shift is so large that the first answers are
    wrong: Kumar et al. 2020, arXiv:2002.11361. `LEAST_KEPT` is ours.
"""

from __future__ import annotations

import numpy as np

from kerastl.adaptation.choosing.evidence import Evidence

LEAST_KEPT = 0.5


def answers_kept(evidence: Evidence) -> float | None:
    """Return Cohen's kappa of a candidate's answers on the target and those that it began with; None: these are not told.

    Where both are one class throughout, all are kept: 1.
    """
    from sklearn.metrics import cohen_kappa_score

    if evidence.began is None:
        return None
    first, last = (np.argmax(one, axis=1) for one in (evidence.began, evidence.target.logits))
    if np.array_equal(first, last):
        return 1.0
    return float(cohen_kappa_score(first, last))


def why_strayed(kept: float | None) -> str | None:
    """Return why a candidate may not be chosen for what it kept of its first answers; None: it may."""
    if kept is None or kept >= LEAST_KEPT:
        return None
    return (
        f"it strayed from the answers that it began with: they agree with its last ones by {kept:.2f} (Cohen's kappa), "
        f"below {LEAST_KEPT}"
    )
