"""Fine-tuning on the labelled images of the target, by themselves or beside the source.

`mean(-log p(y))` over the labelled target images of a batch; with `both_domains`, half of that and half of the source's mean, so that
each domain counts the same whatever the sizes of its batches. Images of the target without a label are left out.

Reference: Yosinski et al. 2014, arXiv:1411.1792 (fine-tuning); Daume 2007, arXiv:0907.1815, section 2 (`weighted`: both domains at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kerastl.adaptation.method import Method
from kerastl.options import StrictModel

if TYPE_CHECKING:
    from kerastl.adaptation.adaptation_step import AdaptationStep

METHOD = Method(reference="Yosinski et al. 2014, arXiv:1411.1792", target_labels="some", learns="head")


class Options(StrictModel):
    """Options of `fine_tune`.

    Args:
        both_domains: each step learns from a batch of the source, too, and both count the same.
    """

    both_domains: bool = False


def build(options: Options, **given: Any) -> AdaptationStep:
    """Return the step; `given` as in `AdaptationStep`."""
    from kerastl.adaptation.steps import FineTune

    return FineTune(both_domains=options.both_domains, **given)
