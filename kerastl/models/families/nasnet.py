"""NASNet: cells found by architecture search; each cell reads the two previous cells."""

from kerastl.models.backbone import Backbone, BlockSeries, PublishedWeights

URL = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-"

BACKBONES = {
    "nasnet_mobile": Backbone(
        builder="keras.applications.NASNetMobile",
        pixels="minus_one_to_one",
        image_size_px=224,
        min_size_px=32,
        parameters=4_269_716,
        blocks=(
            BlockSeries("stem", "stem_bn1"),
            BlockSeries("stem_1", "stem_bn1+reduction_concat_stem_1"),
            BlockSeries("stem_2", "reduction_concat_stem_1+reduction_concat_stem_2"),
            BlockSeries("normal_0", "reduction_concat_stem_2+normal_concat_0"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(1, 4)
            ),
            BlockSeries("reduce_4", "normal_concat_3+reduction_concat_reduce_4"),
            BlockSeries("normal_5", "reduction_concat_reduce_4+normal_concat_5"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(6, 9)
            ),
            BlockSeries("reduce_8", "normal_concat_8+reduction_concat_reduce_8"),
            BlockSeries("normal_9", "reduction_concat_reduce_8+normal_concat_9"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(10, 12)
            ),
            BlockSeries("normal_12", "normal_concat_12"),
            BlockSeries("post", "activation_187"),
        ),
        reference="Zoph et al. 2017, arXiv:1707.07012",
        top1=0.744,
        weights=(
            PublishedWeights(
                file="nasnet_mobile_no_top.h5",
                url=URL + "mobile-no-top.h5",
                hash="1ed92395b5b598bdda52abe5c0dbfd63",
                top_file="nasnet_mobile.h5",
                top_url=URL + "mobile.h5",
                top_hash="020fb642bf7360b370c678b08e0adf61",
            ),
        ),
    ),
    "nasnet_large": Backbone(
        builder="keras.applications.NASNetLarge",
        pixels="minus_one_to_one",
        image_size_px=331,
        min_size_px=32,
        parameters=84_916_818,
        blocks=(
            BlockSeries("stem", "stem_bn1"),
            BlockSeries("stem_1", "stem_bn1+reduction_concat_stem_1"),
            BlockSeries("stem_2", "reduction_concat_stem_1+reduction_concat_stem_2"),
            BlockSeries("normal_0", "reduction_concat_stem_2+normal_concat_0"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(1, 6)
            ),
            BlockSeries("reduce_6", "normal_concat_4+reduction_concat_reduce_6"),
            BlockSeries("normal_7", "reduction_concat_reduce_6+normal_concat_7"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(8, 13)
            ),
            BlockSeries("reduce_12", "normal_concat_11+reduction_concat_reduce_12"),
            BlockSeries("normal_13", "reduction_concat_reduce_12+normal_concat_13"),
            *(
                BlockSeries(f"normal_{cell}", f"normal_concat_{cell - 1}+normal_concat_{cell}")
                for cell in range(14, 18)
            ),
            BlockSeries("normal_18", "normal_concat_18"),
            BlockSeries("post", "activation_259"),
        ),
        reference="Zoph et al. 2017, arXiv:1707.07012",
        top1=0.825,
        weights=(
            PublishedWeights(
                file="nasnet_large_no_top.h5",
                url=URL + "large-no-top.h5",
                hash="d81d89dc07e6e56530c4e77faddd61b5",
                top_file="nasnet_large.h5",
                top_url=URL + "large.h5",
                top_hash="11577c9a518f0070763c2b964a382f17",
            ),
        ),
    ),
}
