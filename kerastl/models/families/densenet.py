"""DenseNet: each layer receives the outputs of all previous layers of its block."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/densenet/"
FILE = "densenet{}_weights_tf_dim_ordering_tf_kernels"
MEMBERS = {
    121: (7_037_504, 0.750, (6, 12, 24, 16)),
    169: (12_642_880, 0.762, (6, 12, 32, 32)),
    201: (18_321_984, 0.773, (6, 12, 48, 32)),
}
HASHES = {
    121: ("9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"),
    169: ("d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"),
    201: ("1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"),
}

BACKBONES = {
    f"densenet{depth}": Backbone(
        builder=f"keras.applications.DenseNet{depth}",
        pixels="mean_and_std",
        image_size_px=224,
        min_size_px=32,
        parameters=parameters,
        blocks=(
            BlockSeries("conv1", "pool1"),
            BlockSeries("conv2_block{}", "conv2_block{}_concat", range(1, counts[0] + 1)),
            BlockSeries("pool2", "pool2_pool"),
            BlockSeries("conv3_block{}", "conv3_block{}_concat", range(1, counts[1] + 1)),
            BlockSeries("pool3", "pool3_pool"),
            BlockSeries("conv4_block{}", "conv4_block{}_concat", range(1, counts[2] + 1)),
            BlockSeries("pool4", "pool4_pool"),
            BlockSeries("conv5_block{}", "conv5_block{}_concat", range(1, counts[3] + 1)),
            BlockSeries("post", "relu"),
        ),
        reference="Huang et al. 2016, arXiv:1608.06993",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(depth) + "_notop.h5", FILE.format(depth) + ".h5"), HASHES[depth][::-1]
            ),
        ),
    )
    for depth, (parameters, top1, counts) in MEMBERS.items()
}
