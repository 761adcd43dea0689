"""MobileNet: depthwise separable convolutions for mobile devices."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights, WidthMultiplier
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of MobileNet.

    Args:
        alpha: Width multiplier. ImageNet weights are published for 0.25, 0.5, 0.75 and 1.0.
    """

    alpha: WidthMultiplier = 1.0


BACKBONES = {
    "mobilenet": Backbone(
        builder="keras.applications.MobileNet",
        pixels="minus_one_to_one",
        parameters=3_228_864,
        blocks=(BlockSeries("conv1", "conv1_relu"), BlockSeries("block_{}", "conv_pw_{}_relu", range(1, 14))),
        reference="Howard et al. 2017, arXiv:1704.04861",
        top1=0.704,
        weights=tuple(
            PublishedWeights.pair(
                "mobilenet",
                f"mobilenet_{text}_{size}_tf",
                ("", ""),
                "_no_top.h5",
                size_px=size,
                options=(("alpha", alpha),),
            )
            for alpha, text in ((0.25, "2_5"), (0.5, "5_0"), (0.75, "7_5"), (1.0, "1_0"))
            for size in (128, 160, 192, 224)
        ),
    )
}
