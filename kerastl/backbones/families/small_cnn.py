"""A few convolution blocks of our own: for small pictures, few of them, and random weights."""

from kerastl.backbones.backbone import Backbone, Series

BACKBONES = {
    "small_cnn": Backbone(
        builder="kerastl.backbones.small_cnn_layers.build_small_cnn",
        pixels="minus_one_to_one",
        image_size_px=96,
        min_size_px=16,
        parameters=93_920,
        blocks=(Series("block_{}", "block_{}_relu", range(1, 4)),),
        linear_top=False,
        reference="none: three blocks of convolution, max-pooling, BatchNorm and ReLU",
        top1_source="",
    ),
}
