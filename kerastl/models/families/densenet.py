"""DenseNet: each layer receives the outputs of all previous layers of its block."""

from kerastl.models.backbone import Backbone, BlockSeries, tf_kernels

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


def _blocks(counts: tuple[int, ...]) -> tuple[BlockSeries, ...]:
    blocks = [BlockSeries("conv1", "pool1")]
    for stage, count in enumerate(counts, start=2):
        if stage > 2:
            blocks.append(BlockSeries(f"pool{stage - 1}", f"pool{stage - 1}_pool"))
        name = f"conv{stage}_block{{}}"
        blocks.append(BlockSeries(name, f"{name}_concat", range(1, count + 1)))
    return (*blocks, BlockSeries("post", "relu"))


BACKBONES = {
    f"densenet{depth}": Backbone(
        builder=f"keras.applications.DenseNet{depth}",
        pixels="mean_and_std",
        parameters=parameters,
        blocks=_blocks(counts),
        reference="Huang et al. 2016, arXiv:1608.06993",
        top1=top1,
        weights=tf_kernels("densenet", f"densenet{depth}", HASHES[depth]),
    )
    for depth, (parameters, top1, counts) in MEMBERS.items()
}
