"""ConvNeXt: a residual network with design choices of transformers, without BatchNorm."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/convnext/"
FILE = "convnext_{}"
MEMBERS = {
    "tiny": (27_820_128, 0.813, (3, 3, 9, 3)),
    "small": (49_454_688, 0.823, (3, 3, 27, 3)),
    "base": (87_566_464, 0.853, (3, 3, 27, 3)),
    "large": (196_230_336, 0.863, (3, 3, 27, 3)),
    "xlarge": (348_147_968, 0.867, (3, 3, 27, 3)),
}
HASHES = {
    "tiny": (
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "small": (
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "base": (
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "large": (
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "xlarge": (
        "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}
NAMES = {"tiny": "Tiny", "small": "Small", "base": "Base", "large": "Large", "xlarge": "XLarge"}

BACKBONES = {
    f"convnext_{member}": Backbone(
        builder=f"keras.applications.ConvNeXt{NAMES[member]}",
        pixels="mean_and_std",
        arguments=(("include_preprocessing", False),),
        image_size_px=224,
        min_size_px=32,
        parameters=parameters,
        blocks=(
            BlockSeries("stem", f"convnext_{member}_stem_layernorm"),
            *(
                series
                for stage, count in enumerate(counts)
                for series in (
                    BlockSeries(f"downsampling_{stage}", f"convnext_{member}_downsampling_conv_{stage - 1}"),
                    BlockSeries(
                        f"stage_{stage}_block_{{}}",
                        f"convnext_{member}_stage_{stage}_block_{{}}_identity_add",
                        range(count),
                    ),
                )[stage == 0 :]
            ),
            BlockSeries("post", "layer_normalization"),
        ),
        linear_top=False,
        reference="Liu et al. 2022, arXiv:2201.03545",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(member) + "_notop.h5", FILE.format(member) + ".h5"), HASHES[member][::-1]
            ),
        ),
    )
    for member, (parameters, top1, counts) in MEMBERS.items()
}
