"""MobileNetV2: inverted residuals and linear bottlenecks; small, fast, and a good first choice."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights, WidthMultiplier
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of MobileNetV2.

    Args:
        alpha: Width multiplier. ImageNet weights are published for 0.35, 0.5, 0.75, 1.0, 1.3 and 1.4.
    """

    alpha: WidthMultiplier = 1.0


BACKBONES = {
    "mobilenet_v2": Backbone(
        builder="keras.applications.MobileNetV2",
        pixels="minus_one_to_one",
        parameters=2_257_984,
        blocks=(
            BlockSeries("Conv1", "Conv1_relu"),
            BlockSeries("expanded_conv", "expanded_conv_add|expanded_conv_project_BN"),
            BlockSeries("block_{}", "block_{}_add|block_{}_project_BN", range(1, 17)),
            BlockSeries("Conv_1", "out_relu"),
        ),
        reference="Sandler et al. 2018, arXiv:1801.04381",
        top1=0.713,
        weights=tuple(
            PublishedWeights.pair(
                "mobilenet_v2",
                f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}",
                ("", ""),
                "_no_top.h5",
                size_px=size,
                options=(("alpha", alpha),),
            )
            for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
            for size in (96, 128, 160, 192, 224)
        ),
    )
}
