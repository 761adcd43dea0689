"""ConvNeXt: a residual network with design choices of transformers, without BatchNorm."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

MEMBERS = {
    "tiny": (27_820_128, 0.813, (3, 3, 9, 3)),
    "small": (49_454_688, 0.823, (3, 3, 27, 3)),
    "base": (87_566_464, 0.853, (3, 3, 27, 3)),
    "large": (196_230_336, 0.863, (3, 3, 27, 3)),
    "xlarge": (348_147_968, 0.867, (3, 3, 27, 3)),
}
TOP_HASHES = {
    "tiny": "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    "small": "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    "base": "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    "large": "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    "xlarge": "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
}
HASHES = {
    "tiny": "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    "small": "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    "base": "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    "large": "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    "xlarge": "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
}


def _blocks(member: str) -> tuple[BlockSeries, ...]:
    prefix = f"convnext_{member}"
    blocks = [BlockSeries("stem", f"{prefix}_stem_layernorm")]
    for stage, count in enumerate(MEMBERS[member][-1]):
        if stage:
            blocks.append(BlockSeries(f"downsampling_{stage}", f"{prefix}_downsampling_conv_{stage - 1}"))
        name = f"stage_{stage}_block_{{}}"
        blocks.append(BlockSeries(name, f"{prefix}_{name}_identity_add", range(count)))
    return (*blocks, BlockSeries("post", "layer_normalization"))


BACKBONES = {
    f"convnext_{member}": Backbone(
        builder=f"keras.applications.ConvNeXt{member.capitalize().replace('Xl', 'XL')}",
        pixels="mean_and_std",
        arguments=(("include_preprocessing", False),),
        parameters=parameters,
        blocks=_blocks(member),
        linear_top=False,
        reference="Liu et al. 2022, arXiv:2201.03545",
        top1=top1,
        weights=(
            PublishedWeights.pair("convnext", f"convnext_{member}", (TOP_HASHES[member], HASHES[member])),
        ),
    )
    for member, (parameters, top1, _) in MEMBERS.items()
}
