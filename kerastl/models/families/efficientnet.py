"""EfficientNet: compound scaling of width, depth and image size; version 2 is smaller and faster to train."""

import string

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

# Number of parameters, top-1 accuracy, image size, blocks in each stage.
MEMBERS = {
    "b0": (4_049_564, 0.771, 224, (1, 2, 2, 3, 3, 4, 1)),
    "b1": (6_575_232, 0.791, 240, (2, 3, 3, 4, 4, 5, 2)),
    "b2": (7_768_562, 0.801, 260, (2, 3, 3, 4, 4, 5, 2)),
    "b3": (10_783_528, 0.816, 300, (2, 3, 3, 5, 5, 6, 2)),
    "b4": (17_673_816, 0.829, 380, (2, 4, 4, 6, 6, 8, 2)),
    "b5": (28_513_520, 0.836, 456, (3, 5, 5, 7, 7, 9, 3)),
    "b6": (40_960_136, 0.840, 528, (3, 6, 6, 8, 8, 11, 3)),
    "b7": (64_097_680, 0.843, 600, (4, 7, 7, 10, 10, 13, 4)),
    "v2-b0": (5_919_312, 0.787, 224, (1, 2, 2, 3, 5, 8)),
    "v2-b1": (6_931_124, 0.798, 240, (2, 3, 3, 4, 6, 9)),
    "v2-b2": (8_769_374, 0.805, 260, (2, 3, 3, 4, 6, 10)),
    "v2-b3": (12_930_622, 0.820, 300, (2, 3, 3, 5, 7, 12)),
    "v2-s": (20_331_360, 0.839, 384, (2, 4, 4, 6, 9, 15)),
    "v2-m": (53_150_388, 0.853, 480, (3, 5, 5, 7, 14, 18, 5)),
    "v2-l": (117_746_848, 0.857, 480, (4, 7, 7, 10, 19, 25, 7)),
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
    "v2-b0": ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"),
    "v2-b1": ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"),
    "v2-b2": ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"),
    "v2-b3": ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"),
    "v2-s": ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"),
    "v2-m": ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"),
    "v2-l": ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"),
}


def _backbone(member: str) -> Backbone:
    parameters, top1, size, counts = MEMBERS[member]
    is_v2 = member.startswith("v2")
    edge = "block{0}{{}}_add|block{0}{{}}_project_activation|block{0}{{}}_project_bn"
    stages = (
        BlockSeries(f"block{stage}{{}}", edge.format(stage), string.ascii_lowercase[:count])
        for stage, count in enumerate(counts, start=1)
    )
    folder = "efficientnet_v2" if is_v2 else "https://storage.googleapis.com/keras-applications"
    return Backbone(
        builder=f"keras.applications.EfficientNet{member.upper().replace('-', '')}",
        pixels="minus_one_to_one_128" if member in ("v2-s", "v2-m", "v2-l") else "mean_and_std",
        arguments=(("include_preprocessing", False),) if is_v2 else (),
        image_size_px=size,
        parameters=parameters,
        blocks=(BlockSeries("stem", "stem_activation"), *stages, BlockSeries("top", "top_activation")),
        reference="Tan & Le 2021, arXiv:2104.00298" if is_v2 else "Tan & Le 2019, arXiv:1905.11946",
        top1=top1,
        weights=(PublishedWeights.pair(folder, f"efficientnet{member}", HASHES[member]),),
    )


BACKBONES = {f"efficientnet_{member.replace('-', '_')}": _backbone(member) for member in MEMBERS}
