"""CDAN: trains features and predictions against a domain classifier that is conditioned on predictions.

Like DANN, but the domain classifier reads the products of features and predicted probabilities, or a random
projection of them if there are more than `widest`. With `entropy_conditioning`, the weight of an image is `1
+ exp(-H)`, H the entropy of its prediction, relative to its domain. Features and predictions are both trained
against the domain classifier, as in the minimax problem of the paper.

Reference: Long et al. 2018, arXiv:1705.10667, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.adaptation_step import DomainOutputs, TwoDomainStep
from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

METHOD = Method(reference="Long et al. 2018, arXiv:1705.10667", assumes_equal_prevalence=True, learns="head")


class Options(StrictModel):
    """Options of `cdan`.

    Args:
        entropy_conditioning: Whether confident predictions have a larger weight (CDAN+E).
        strength: Strength of the reversed gradient at the end of the phase, as in `dann`.
        steepness: How fast the strength increases, as in `dann`.
        hidden: Number of units in the domain classifier's hidden layer.
        widest: Maximum number of features times classes for which all products are used; 4096 in the paper.
        random_width: Width of the random projection that is used above `widest`.
    """

    entropy_conditioning: bool = True
    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0
    hidden: Annotated[int, Ge(1), Le(8192)] = 256
    widest: Annotated[int, Ge(1), Le(65536)] = 4096
    random_width: Annotated[int, Ge(1), Le(8192)] = 1024


def build(
    options: Options, *, num_classes: int, num_features: int, seed: int, **step_arguments: Any
) -> TwoDomainStep:
    """Return the step."""
    import tensorflow as tf

    from kerastl.adaptation import alignment_losses
    from kerastl.adaptation.features import build_domain_classifier

    width, multilinear_map = num_features * num_classes, alignment_losses.multilinear_map
    if width > options.widest:
        width = options.random_width
        multilinear_map = alignment_losses.RandomMultilinearMap(
            num_features, num_classes, width=width, seed=seed
        )
    classifier = build_domain_classifier(width, hidden=options.hidden, seed=seed)

    def domain_loss(source: DomainOutputs, target: DomainOutputs, progress: Any) -> dict[str, Any]:
        strength = options.strength * alignment_losses.reversal_strength(progress, options.steepness)
        domain_logits, weights = [], []
        for outputs in (source, target):
            features, logits = (
                alignment_losses.reverse_gradient(values, strength)
                for values in (outputs.features, outputs.logits)
            )
            domain_logits.append(classifier(multilinear_map(features, tf.nn.softmax(logits))))
            weights.append(alignment_losses.certainty_weights(logits))
        if not options.entropy_conditioning:
            weights = []
        return {"domain_loss": alignment_losses.domain_loss(*domain_logits, *weights)}

    return TwoDomainStep(
        domain_loss, variables=classifier.trainable_variables, num_classes=num_classes,
        num_features=num_features, seed=seed, **step_arguments,
    )  # fmt: skip
