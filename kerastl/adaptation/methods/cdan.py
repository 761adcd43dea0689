"""CDAN: a domain classifier that is told what the classifier believes, and, with E, heeds sure images more.

As DANN, but what the domain classifier reads is each feature times each predicted probability, or a random projection of that where it were wider
than `widest`. With `entropy_conditioning` (CDAN+E) an image counts `1 + exp(-H)`, H the entropy of its prediction, in ratio to its domain's others.
Features and predictions both learn against the domain classifier, as in the paper's minimax.

Reference: Long et al. 2018, arXiv:1705.10667, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Long et al. 2018, arXiv:1705.10667", assumes_equal_prevalence=True, learns="head")


class Options(StrictModel):
    """Options of `cdan`.

    Args:
        entropy_conditioning: sure images count more: CDAN+E.
        strength, steepness, hidden: as in `dann`.
        widest: features times classes up to which all products are read; 4096 in the paper.
        random_width: width of the projection where there are more.
    """

    entropy_conditioning: bool = True
    strength: Annotated[float, Ge(0), Le(100)] = 0.1
    steepness: Annotated[float, Gt(0), Le(1000)] = 10.0
    hidden: Annotated[int, Ge(1), Le(8192)] = 256
    widest: Annotated[int, Ge(1), Le(65536)] = 4096
    random_width: Annotated[int, Ge(1), Le(8192)] = 1024


def build(
    options: Options, *, num_classes: int, num_features: int, seed: int, **given: Any
) -> AdaptationStep:
    """Return the step; arguments as in `AdaptationStep`."""
    import tensorflow as tf

    from kerastl.adaptation import alignment_losses
    from kerastl.adaptation.adaptation_step import Seen, TwoDomains, build_domain_classifier

    width, mapped = num_features * num_classes, alignment_losses.multilinear_map
    if width > options.widest:
        width = options.random_width
        mapped = alignment_losses.RandomMultilinearMap(num_features, num_classes, width=width, seed=seed)
    classifier = build_domain_classifier(width, hidden=options.hidden, seed=seed)

    def watch(source: Seen, target: Seen, progress: Any) -> dict[str, Any]:
        strength = options.strength * alignment_losses.reversal_strength(progress, options.steepness)
        answers, weights = [], []
        for one in (source, target):
            features, logits = (
                alignment_losses.reverse_gradient(part, strength) for part in (one.features, one.logits)
            )
            answers.append(classifier(mapped(features, tf.nn.softmax(logits))))
            weights.append(alignment_losses.certainty_weights(logits))
        if not options.entropy_conditioning:
            weights = []
        return {"domain_loss": alignment_losses.domain_loss(*answers, *weights)}

    return TwoDomains(
        watch, variables=classifier.trainable_variables, num_classes=num_classes,
        num_features=num_features, seed=seed, **given,
    )  # fmt: skip
