"""Xception: Inception taken to its end, depthwise separable convolutions throughout."""

from kerastl.models.backbone import Backbone, Series, Weights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/xception/"

BACKBONES = {
    "xception": Backbone(
        builder="keras.applications.Xception",
        pixels="minus_one_to_one",
        image_size_px=299,
        min_size_px=71,
        parameters=20_861_480,
        blocks=(
            Series("block1", "block1_conv2_act"),
            Series("block2", "add"),
            Series("block3", "add_1"),
            Series("block4", "add_2"),
            Series("block5", "add_3"),
            Series("block6", "add_4"),
            Series("block7", "add_5"),
            Series("block8", "add_6"),
            Series("block9", "add_7"),
            Series("block10", "add_8"),
            Series("block11", "add_9"),
            Series("block12", "add_10"),
            Series("block13", "add_11"),
            Series("block14", "block14_sepconv2_act"),
        ),
        reference="Chollet 2016, arXiv:1610.02357",
        top1=0.790,
        weights=(
            Weights(
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
