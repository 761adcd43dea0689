"""Outputs for mixed target images, which the validator `mixval` scores."""

import numpy as np
import pytest
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.selection.validators import MixvalOptions, draw_pairs
from kerastl.workflows.collect_outputs import compute_mixed_outputs

COUNT = 7


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_logits_are_computed_for_the_weighted_sum_of_each_pair(tmp_path, cache):
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    files = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    records = [Record(path=file.name, file=file, label=None) for file in files]
    target = ImageDataset(
        records, class_names=["a", "b"], image_size_px=16, batch_size=3, shuffle=False, cache=cache
    )
    kernel = generator.normal(size=(16 * 16 * 3, 2)).astype(np.float32)

    def forward(images):
        return None, np.asarray(images).reshape(len(images), -1) @ kernel

    logits = forward(pixels.astype(np.float32))[1]
    options = MixvalOptions(share=0.7, seed=4)
    mixed = compute_mixed_outputs(forward, target, logits, options)
    first, second = draw_pairs(logits, seed=4)
    assert len(first) > target.batch_size
    np.testing.assert_array_equal(mixed.first, first)
    np.testing.assert_array_equal(mixed.second, second)
    expected = 0.7 * logits[first] + 0.3 * logits[second]
    np.testing.assert_allclose(mixed.logits, expected, rtol=1e-3, atol=1)
    assert mixed.share == 0.7
