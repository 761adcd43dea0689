"""DANN: features are learnt from which a domain classifier cannot tell the domains apart.

`classification + domain_loss`, the domain classifier minimising the latter; its gradient reaches the features multiplied by `-strength * lambda_p`,
`lambda_p = 2 / (1 + exp(-steepness * p)) - 1`, p from 0 at the start of the phase to 1 at its end. The paper's own decay of the learning rate is
not part of it: rates are the phase's.

Reference: Ganin et al. 2016, arXiv:1505.07818, equation 9 and section 5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Ganin et al. 2016, arXiv:1505.07818", assumes_equal_prevalence=True)


class Options(StrictModel):
    """Options of `dann`.

    Args:
        strength: of the reversed gradient at the end of the phase; 1 in the paper. Where BatchNorm is frozen nothing bounds
            the features, and they may run away from the domain classifier; `batch_norm: statistics` bounds them.
        steepness: how soon it gets there; 10 in the paper.
        hidden: units of the domain classifier's hidden layer.
    """

    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0
    hidden: Annotated[int, Ge(1), Le(8192)] = 256


def build(options: Options, *, num_features: int, seed: int, **given: Any) -> AdaptationStep:
    """Return the step; arguments as in `AdaptationStep`."""
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains, build_domain_classifier
    from kerastl.adaptation.alignment_losses import domain_loss, reversal_strength, reverse_gradient

    classifier = build_domain_classifier(num_features, hidden=options.hidden, seed=seed)

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:
        strength = options.strength * reversal_strength(progress, options.steepness)
        logits = [classifier(reverse_gradient(one.features, strength)) for one in (source, target)]
        return {"domain_loss": domain_loss(*logits)}

    return TwoDomains(
        watch, variables=classifier.trainable_variables, num_features=num_features, seed=seed,
        **given,
    )  # fmt: skip
