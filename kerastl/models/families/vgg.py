"""VGG: plain convolutions in five blocks; large, slow, without BatchNorm."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

MEMBERS = {16: (14_714_688, 0.713), 19: (20_024_384, 0.713)}
HASHES = {
    16: ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    19: ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
}

BACKBONES = {
    f"vgg{depth}": Backbone(
        builder=f"keras.applications.VGG{depth}",
        pixels="bgr_minus_mean",
        parameters=parameters,
        blocks=(BlockSeries("block{}", "block{}_pool", range(1, 6)),),
        linear_top=False,
        reference="Simonyan & Zisserman 2014, arXiv:1409.1556",
        top1=top1,
        weights=tf_kernels(f"vgg{depth}", f"vgg{depth}", HASHES[depth]),
    )
    for depth, (parameters, top1) in MEMBERS.items()
}
