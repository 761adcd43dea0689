"""DANN: trains features against a domain classifier.

`classification + domain_loss`. The domain classifier minimizes `domain_loss`; its gradient with respect to
the features is multiplied by `-strength * lambda_p`, `lambda_p = 2 / (1 + exp(-steepness * p)) - 1`, where p
goes from 0 at the start of the phase to 1 at its end. The learning rate schedule of the paper is not
included.

Reference: Ganin et al. 2016, arXiv:1505.07818, equation 9 and section 5.2.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl import adaptation
from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

METHOD = Method(reference="Ganin et al. 2016, arXiv:1505.07818", assumes_equal_prevalence=True)


class Options(StrictModel):
    """Options of `dann`.

    Args:
        strength: Strength of the reversed gradient at the end of the phase; 1 in the paper. With frozen
            BatchNorm, the features are unbounded and may diverge; `batch_norm: statistics` bounds them.
        steepness: How fast the strength increases; 10 in the paper.
        hidden: Units of the domain classifier's hidden layer.
    """

    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0
    hidden: Annotated[int, Ge(1), Le(8192)] = 256


def build(options: Options, *, num_features: int, seed: int, **step_arguments: Any) -> TwoDomainStep:
    """Return the step."""
    from kerastl.adaptation.features import build_domain_classifier

    classifier = build_domain_classifier(num_features, hidden=options.hidden, seed=seed)

    def losses(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:
        strength = options.strength * adaptation.reversal_strength(progress, options.steepness)
        logits = [
            classifier(adaptation.reverse_gradient(outputs.features, strength))
            for outputs in (source, target)
        ]
        return {"domain_loss": adaptation.domain_loss(*logits)}

    return TwoDomainStep(
        losses, variables=classifier.trainable_variables, num_features=num_features, seed=seed,
        **step_arguments,
    )  # fmt: skip
