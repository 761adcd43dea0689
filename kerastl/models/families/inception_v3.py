"""Inception v3: parallel convolutions of several sizes, concatenated along the channels."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

BACKBONES = {
    "inception_v3": Backbone(
        builder="keras.applications.InceptionV3",
        pixels="minus_one_to_one",
        image_size_px=299,
        min_size_px=75,
        parameters=21_802_784,
        blocks=(
            BlockSeries("stem_1", "max_pooling2d"),
            BlockSeries("stem_2", "max_pooling2d_1"),
            BlockSeries("mixed{}", "mixed{}", range(11)),
        ),
        reference="Szegedy et al. 2015, arXiv:1512.00567",
        top1=0.779,
        weights=tf_kernels(
            "inception_v3",
            "inception_v3",
            ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
        ),
    )
}
