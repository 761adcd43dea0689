"""Xception: depthwise separable convolutions in place of Inception modules."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/xception/"

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
            BlockSeries("block3", "add_1"),
            BlockSeries("block4", "add_2"),
            BlockSeries("block5", "add_3"),
            BlockSeries("block6", "add_4"),
            BlockSeries("block7", "add_5"),
            BlockSeries("block8", "add_6"),
            BlockSeries("block9", "add_7"),
            BlockSeries("block10", "add_8"),
            BlockSeries("block11", "add_9"),
            BlockSeries("block12", "add_10"),
            BlockSeries("block13", "add_11"),
            BlockSeries("block14", "block14_sepconv2_act"),
        ),
        reference="Chollet 2016, arXiv:1610.02357",
        top1=0.790,
        weights=(
            PublishedWeights(
                file="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=URL + "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
                hash="b0042744bf5b25fce3cb969f33bebb97",
                top_file="xception_weights_tf_dim_ordering_tf_kernels.h5",
                top_url=URL + "xception_weights_tf_dim_ordering_tf_kernels.h5",
                top_hash="0a58e3b7378bc2990ea3b43d5981f1f6",
            ),
        ),
    )
}
