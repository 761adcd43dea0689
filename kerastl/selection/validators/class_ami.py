"""Whether answers agree with clusters: the adjusted mutual information of k-means clusters and answers at the target.

    clusters = k-means of the target's features, k = classes
    score = AMI(clusters, answers)    1: they agree, 0: as chance has it

Features in which the target's classes lie apart, and answers that follow that. A collapsed model gets 0. Deceived where
features lie in clusters that are not classes (scanners, sexes), if answers follow those; and by answers that name the
clusters wrongly, as it cannot see names.

Reference:
    Musgrave, Belongie & Lim 2022, arXiv:2208.07360, section 4 (ClassAMI); AMI: Vinh, Epps & Bailey 2010, JMLR 11,
    equation 3, with the mean of the two entropies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from kerastl.options import StrictModel
from kerastl.selection.validator import Validator

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


class Options(StrictModel):
    """Options of `class_ami`.

    Args:
        starts: of k-means; the tightest clusters of all are taken.
        seed: of the starts.
    """

    starts: Annotated[int, Ge(1)] = 10
    seed: Annotated[int, Ge(0)] = 0


def clusters_agree(evidence: Evidence, options: Options) -> float:
    """Return the adjusted mutual information, about 0 (chance; a little below is possible) to 1."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    features = evidence.target.features.astype(np.float64)
    answers = evidence.target.logits.argmax(axis=1)
    # More clusters than different images cannot be told, and scikit-learn warns of them.
    clusters = min(len(evidence.class_names), len(np.unique(features, axis=0)))
    found = KMeans(clusters, n_init=options.starts, random_state=options.seed).fit_predict(features)
    if len(np.unique(answers)) == 1:
        # AMI is 1 by convention where both have one part; a collapsed model earns nothing by that.
        return 0.0
    return float(adjusted_mutual_info_score(found, answers))


VALIDATOR = Validator(clusters_agree, Options())
