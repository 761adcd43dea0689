"""MobileNetV3: blocks of MobileNetV2 with channel attention, found by architecture search."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights, WidthMultiplier
from kerastl.options import StrictModel


class Options(StrictModel):
    """Options of MobileNetV3.

    Args:
        alpha: Width multiplier. ImageNet weights are published for 0.75 and 1.0.
        minimalistic: Whether to omit attention, hard-swish and 5x5 convolutions, for devices that are slow at these.
            ImageNet weights are published for alpha 1.0.
    """

    alpha: WidthMultiplier = 1.0
    minimalistic: bool = False


MEMBERS = {
    "small": (939_120, 0.681, 11, "activation_17|re_lu_22"),
    "large": (2_996_352, 0.756, 15, "activation_19|re_lu_30"),
}
HASHES = {
    ("large", 0.75, ""): ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    ("large", 1.0, ""): ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    ("large", 1.0, "_minimalistic"): ("675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"),
    ("small", 0.75, ""): ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    ("small", 1.0, ""): ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    ("small", 1.0, "_minimalistic"): ("99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"),
}

BACKBONES = {
    f"mobilenet_v3_{member}": Backbone(
        builder=f"keras.applications.MobileNetV3{member.capitalize()}",
        pixels="minus_one_to_one",
        arguments=(("include_preprocessing", False),),
        parameters=parameters,
        blocks=(
            BlockSeries("conv", "activation|re_lu"),
            BlockSeries("expanded_conv", "expanded_conv_add|expanded_conv_project_bn"),
            BlockSeries(
                "expanded_conv_{}", "expanded_conv_{}_add|expanded_conv_{}_project_bn", range(1, count)
            ),
            BlockSeries("conv_1", last),
        ),
        linear_top=False,
        reference="Howard et al. 2019, arXiv:1905.02244",
        top1=top1,
        top1_source="https://keras.io/api/applications/mobilenet/",
        weights=tuple(
            PublishedWeights.pair(
                "mobilenet_v3",
                f"weights_mobilenet_v3_{member}{kind}_224_{alpha}_float",
                hashes,
                "_no_top_v2.h5",
                options=(("alpha", alpha), ("minimalistic", bool(kind))),
            )
            for (size, alpha, kind), hashes in HASHES.items()
            if size == member
        ),
    )
    for member, (parameters, top1, count, last) in MEMBERS.items()
}
