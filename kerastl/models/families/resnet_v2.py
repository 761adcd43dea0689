"""ResNet version 2: residual blocks with BatchNorm and ReLU before each convolution."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
FILE = "resnet{}v2_weights_tf_dim_ordering_tf_kernels"
MEMBERS = {
    50: (23_564_800, 0.760, (3, 4, 6, 3)),
    101: (42_626_560, 0.772, (3, 4, 23, 3)),
    152: (58_331_648, 0.780, (3, 8, 36, 3)),
}
HASHES = {
    50: ("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    101: ("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    152: ("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
}

BACKBONES = {
    f"resnet{depth}_v2": Backbone(
        builder=f"keras.applications.ResNet{depth}V2",
        pixels="minus_one_to_one",
        image_size_px=224,
        min_size_px=32,
        parameters=parameters,
        blocks=(
            BlockSeries("conv1", "pool1_pool"),
            *(
                BlockSeries(f"conv{stage}_block{{}}", f"conv{stage}_block{{}}_out", range(1, count + 1))
                for stage, count in enumerate(counts, start=2)
            ),
            BlockSeries("post", "post_relu"),
        ),
        reference="He et al. 2016, arXiv:1603.05027",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(depth) + "_notop.h5", FILE.format(depth) + ".h5"), HASHES[depth][::-1]
            ),
        ),
    )
    for depth, (parameters, top1, counts) in MEMBERS.items()
}
