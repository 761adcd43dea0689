"""EfficientNet: compound scaling of width, depth and image size."""

import string

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/keras-applications/"
FILE = "efficientnet{}"
EDGE = "block{0}{{}}_add|block{0}{{}}_project_bn"
LETTERS = string.ascii_lowercase
MEMBERS = {
    "b0": (4_049_564, 0.771, 224, (1, 2, 2, 3, 3, 4, 1)),
    "b1": (6_575_232, 0.791, 240, (2, 3, 3, 4, 4, 5, 2)),
    "b2": (7_768_562, 0.801, 260, (2, 3, 3, 4, 4, 5, 2)),
    "b3": (10_783_528, 0.816, 300, (2, 3, 3, 5, 5, 6, 2)),
    "b4": (17_673_816, 0.829, 380, (2, 4, 4, 6, 6, 8, 2)),
    "b5": (28_513_520, 0.836, 456, (3, 5, 5, 7, 7, 9, 3)),
    "b6": (40_960_136, 0.840, 528, (3, 6, 6, 8, 8, 11, 3)),
    "b7": (64_097_680, 0.843, 600, (4, 7, 7, 10, 10, 13, 4)),
}
HASHES = {
    "b0": ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
    "b1": ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"),
    "b2": ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "b3": ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"),
    "b4": ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "b5": ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"),
    "b6": ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"),
    "b7": ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
}

BACKBONES = {
    f"efficientnet_{member}": Backbone(
        builder=f"keras.applications.EfficientNet{member.upper()}",
        pixels="mean_and_std",
        image_size_px=size,
        min_size_px=32,
        parameters=parameters,
        blocks=(
            BlockSeries("stem", "stem_activation"),
            *(
                BlockSeries(f"block{stage}{{}}", EDGE.format(stage), LETTERS[:count])
                for stage, count in enumerate(counts, start=1)
            ),
            BlockSeries("top", "top_activation"),
        ),
        reference="Tan & Le 2019, arXiv:1905.11946",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(member) + "_notop.h5", FILE.format(member) + ".h5"), HASHES[member][::-1]
            ),
        ),
    )
    for member, (parameters, top1, size, counts) in MEMBERS.items()
}
