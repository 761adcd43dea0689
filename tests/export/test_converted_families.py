"""Different architectures give the same predictions in ONNX Runtime and LiteRT as in Keras."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from backbone_families import SMALLEST, calibrated, standardize_logits

from kerastl import registry
from kerastl.evaluation import Trained
from kerastl.models import build_model, split_at_block
from tests.export.converted_formats import need, write_format

NAMES = ("a", "b", "c")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "format_name"),
    [
        pytest.param(family, format_name, marks=pytest.mark.xdist_group(family))
        for family, format_name in (
            ("efficientnet", "onnx"),
            ("convnext", "onnx"),
            ("mobilenet_v3", "litert"),
            ("densenet", "litert"),
        )
    ],
)
def test_a_family_gives_the_same_predictions_in_another_runtime(
    family: str, format_name: str, tmp_path: Path
) -> None:
    """Constants in addition to weights; groups, GELU and layer scale; hard swish; BatchNorm layers that cannot be folded."""
    need(format_name)
    backbone, images, _ = calibrated(SMALLEST[family].name)
    if family == "convnext":  # the other blocks are equal to these but larger, and take a minute to convert
        backbone, _ = split_at_block(backbone, "stage_1_block_0")
    model, images = build_model(backbone, class_names=NAMES), images[:8]
    standardize_logits(model, images)
    expected = tf.nn.softmax(model(images, training=False)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1
    module = registry.module("format", format_name)
    trained = Trained(NAMES, images.shape[1:3], None, 10**8, model)
    names, predict = module.load(write_format(trained, tmp_path, format_name))
    assert names == list(NAMES)
    assert predict(images) == pytest.approx(expected, abs=1e-4)
