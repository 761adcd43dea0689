"""ResNet: residual blocks with BatchNorm after each convolution (version 1) or before it (version 2)."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

# Number of parameters, top-1 accuracy, blocks in each stage.
MEMBERS = {
    "50": (23_587_712, 0.749, (3, 4, 6, 3)),
    "101": (42_658_176, 0.764, (3, 4, 23, 3)),
    "152": (58_370_944, 0.766, (3, 8, 36, 3)),
    "50v2": (23_564_800, 0.760, (3, 4, 6, 3)),
    "101v2": (42_626_560, 0.772, (3, 4, 23, 3)),
    "152v2": (58_331_648, 0.780, (3, 8, 36, 3)),
}
HASHES = {
    "50": ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    "101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    "152": ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "50v2": ("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    "101v2": ("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    "152v2": ("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
}


def _backbone(member: str) -> Backbone:
    parameters, top1, counts = MEMBERS[member]
    is_v2 = member.endswith("v2")
    stages = (
        BlockSeries(f"conv{stage}_block{{}}", f"conv{stage}_block{{}}_out", range(1, count + 1))
        for stage, count in enumerate(counts, start=2)
    )
    return Backbone(
        builder=f"keras.applications.ResNet{member.upper()}",
        pixels="minus_one_to_one" if is_v2 else "bgr_minus_mean",
        parameters=parameters,
        blocks=(
            BlockSeries("conv1", "pool1_pool"),
            *stages,
            *([BlockSeries("post", "post_relu")] if is_v2 else []),
        ),
        reference="He et al. 2016, arXiv:1603.05027" if is_v2 else "He et al. 2015, arXiv:1512.03385",
        top1=top1,
        weights=tf_kernels("resnet", f"resnet{member}", HASHES[member]),
    )


BACKBONES = {f"resnet{member.replace('v2', '_v2')}": _backbone(member) for member in MEMBERS}
