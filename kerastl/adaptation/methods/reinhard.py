"""Reinhard: trains on source images with the color mean and standard deviation of a target image.

`mean(-log p(y))` over source images with channels `(x - mean) * std_target / std + mean_target`; with
`beside`, averaged with that of the original images. Color images are transformed in l-alpha-beta space, gray
images (three equal channels) in their gray levels, see `reinhard_style`. The paper restyles single images and
trains nothing.

Reference: Reinhard et al. 2001, doi 10.1109/38.946629, equations 10 and 11.
"""

from __future__ import annotations

from typing import Any

from kerastl.adaptation.adaptation_step import AdaptationStep
from kerastl.adaptation.method import Method, Share
from kerastl.options import StrictModel

METHOD = Method(
    reference="Reinhard et al. 2001, doi 10.1109/38.946629",
    learns="head",
    changes_pixels=True,
    transfers_styles=True,
)


class Options(StrictModel):
    """Options of `reinhard`.

    Args:
        share: Probability that a source image is restyled.
        beside: Also train on the original source images, with the same weight.
    """

    share: Share = 1.0
    beside: bool = True


def build(options: Options, **step_arguments: Any) -> AdaptationStep:
    """Return the step."""
    from kerastl.adaptation.styles import StyleTransferStep, reinhard_style

    return StyleTransferStep(reinhard_style, share=options.share, beside=options.beside, **step_arguments)
