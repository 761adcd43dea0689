"""Xception: depthwise separable convolutions in place of Inception modules."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

BACKBONES = {
    "xception": Backbone(
        builder="keras.applications.Xception",
        pixels="minus_one_to_one",
        image_size_px=299,
        min_size_px=71,
        parameters=20_861_480,
        blocks=(
            BlockSeries("block1", "block1_conv2_act"),
            BlockSeries("block2", "add"),
            *(BlockSeries(f"block{number}", f"add_{number - 2}") for number in range(3, 14)),
            BlockSeries("block14", "block14_sepconv2_act"),
        ),
        reference="Chollet 2016, arXiv:1610.02357",
        top1=0.790,
        weights=tf_kernels(
            "xception", "xception", ("0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97")
        ),
    )
}
