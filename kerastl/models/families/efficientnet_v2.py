"""EfficientNetV2: smaller and faster to train than EfficientNet at the same accuracy."""

import string

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
FILE = "efficientnetv2-{}"
EDGE = "block{0}{{}}_add|block{0}{{}}_project_activation|block{0}{{}}_project_bn"
LETTERS = string.ascii_lowercase
MEMBERS = {
    "b0": (5_919_312, 0.787, 224, (1, 2, 2, 3, 5, 8)),
    "b1": (6_931_124, 0.798, 240, (2, 3, 3, 4, 6, 9)),
    "b2": (8_769_374, 0.805, 260, (2, 3, 3, 4, 6, 10)),
    "b3": (12_930_622, 0.820, 300, (2, 3, 3, 5, 7, 12)),
    "s": (20_331_360, 0.839, 384, (2, 4, 4, 6, 9, 15)),
    "m": (53_150_388, 0.853, 480, (3, 5, 5, 7, 14, 18, 5)),
    "l": (117_746_848, 0.857, 480, (4, 7, 7, 10, 19, 25, 7)),
}
HASHES = {
    "b0": ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"),
    "b1": ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"),
    "b2": ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"),
    "b3": ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"),
    "s": ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"),
    "m": ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"),
    "l": ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"),
}

BACKBONES = {
    f"efficientnet_v2_{member}": Backbone(
        builder=f"keras.applications.EfficientNetV2{member.upper()}",
        pixels="mean_and_std" if member.startswith("b") else "minus_one_to_one_128",
        arguments=(("include_preprocessing", False),),
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
        reference="Tan & Le 2021, arXiv:2104.00298",
        top1=top1,
        weights=(
            PublishedWeights.pair(
                URL, (FILE.format(member) + "_notop.h5", FILE.format(member) + ".h5"), HASHES[member][::-1]
            ),
        ),
    )
    for member, (parameters, top1, size, counts) in MEMBERS.items()
}
