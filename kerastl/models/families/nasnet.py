"""NASNet: cells found by architecture search; each cell reads the two previous cells."""

from kerastl.models.backbone import KERAS_FILES, Backbone, BlockSeries, PublishedWeights

# Image size, number of parameters, top-1 accuracy, number of normal cells in each of three stages, last layer.
MEMBERS = {
    "mobile": (224, 4_269_716, 0.744, 4, "activation_187"),
    "large": (331, 84_916_818, 0.825, 6, "activation_259"),
}
HASHES = {
    "mobile": ("020fb642bf7360b370c678b08e0adf61", "1ed92395b5b598bdda52abe5c0dbfd63"),
    "large": ("11577c9a518f0070763c2b964a382f17", "d81d89dc07e6e56530c4e77faddd61b5"),
}


def _blocks(member: str) -> tuple[BlockSeries, ...]:
    """Return one block per cell. The outputs of a cell and of the one before it leave its block."""
    *_, length, last = MEMBERS[member]
    outputs = {"stem": "stem_bn1"}
    outputs |= {name: f"reduction_concat_{name}" for name in ("stem_1", "stem_2")}
    for number in (*range(length), *range(length + 1, 3 * length + 1)):
        if number in (length + 1, 2 * length + 1):
            outputs[f"reduce_{number - 1}"] = f"reduction_concat_reduce_{number - 1}"
        outputs[f"normal_{number}"] = f"normal_concat_{number}"
    names = list(outputs)
    series = []
    for index, name in enumerate(names[1:-1], start=1):
        # In the large network, the cell after a reduction reads the last but one cell before it.
        before = index - 2 if member == "large" and name.startswith("reduce") else index - 1
        series.append(BlockSeries(name, f"{outputs[names[before]]}+{outputs[name]}"))
    first, final = (BlockSeries(name, outputs[name]) for name in (names[0], names[-1]))
    return (first, *series, final, BlockSeries("post", last))


BACKBONES = {
    f"nasnet_{member}": Backbone(
        builder=f"keras.applications.NASNet{member.capitalize()}",
        pixels="minus_one_to_one",
        image_size_px=size,
        parameters=parameters,
        blocks=_blocks(member),
        reference="Zoph et al. 2017, arXiv:1707.07012",
        top1=top1,
        weights=(
            PublishedWeights(
                file=f"nasnet_{member}_no_top.h5",
                url=f"{KERAS_FILES}/nasnet/NASNet-{member}-no-top.h5",
                hash=HASHES[member][1],
                top_file=f"nasnet_{member}.h5",
                top_url=f"{KERAS_FILES}/nasnet/NASNet-{member}.h5",
                top_hash=HASHES[member][0],
            ),
        ),
    )
    for member, (size, parameters, top1, _, _) in MEMBERS.items()
}
