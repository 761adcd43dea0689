"""ResNet version 1: residual blocks with BatchNorm after each convolution."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
FILE = "resnet{}_weights_tf_dim_ordering_tf_kernels"
MEMBERS = {
    50: (23_587_712, 0.749, (3, 4, 6, 3)),
    101: (42_658_176, 0.764, (3, 4, 23, 3)),
    152: (58_370_944, 0.766, (3, 8, 36, 3)),
}
HASHES = {
    50: ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    101: ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    152: ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
}

BACKBONES = {
    f"resnet{depth}": Backbone(
        builder=f"keras.applications.ResNet{depth}",
        pixels="bgr_minus_mean",
        image_size_px=224,
        min_size_px=32,
        parameters=parameters,
        blocks=(
            BlockSeries("conv1", "pool1_pool"),
            *(
                BlockSeries(f"conv{stage}_block{{}}", f"conv{stage}_block{{}}_out", range(1, count + 1))
                for stage, count in enumerate(counts, start=2)
            ),
        ),
        reference="He et al. 2015, arXiv:1512.03385",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(depth) + "_notop.h5", FILE.format(depth) + ".h5"), HASHES[depth][::-1]
            ),
        ),
    )
    for depth, (parameters, top1, counts) in MEMBERS.items()
}
