"""Inception-ResNet v2: Inception blocks whose outputs are added to their inputs."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

BACKBONES = {
    "inception_resnet_v2": Backbone(
        builder="keras.applications.InceptionResNetV2",
        pixels="minus_one_to_one",
        image_size_px=299,
        min_size_px=75,
        parameters=54_336_736,
        blocks=(
            BlockSeries("stem_1", "max_pooling2d"),
            BlockSeries("stem_2", "max_pooling2d_1"),
            BlockSeries("mixed_5b", "mixed_5b"),
            BlockSeries("block35_{}", "block35_{}_ac", range(1, 11)),
            BlockSeries("mixed_6a", "mixed_6a"),
            BlockSeries("block17_{}", "block17_{}_ac", range(1, 21)),
            BlockSeries("mixed_7a", "mixed_7a"),
            BlockSeries("block8_{}", "block8_{}_ac", range(1, 10)),
            BlockSeries("block8_10", "custom_scale_layer_39"),
            BlockSeries("conv_7b", "conv_7b_ac"),
        ),
        reference="Szegedy et al. 2016, arXiv:1602.07261",
        top1=0.803,
        weights=tf_kernels(
            "inception_resnet_v2",
            "inception_resnet_v2",
            ("e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"),
        ),
    )
}
