"""Mixed images of the target, as the validator `mixval` asks for them."""

import numpy as np
import pytest
from kerastl.selection.validators.mixval import Options, draw_pairs
from PIL import Image

from kerastl.data import ImageDataset, Record
from kerastl.workflows.collect_outputs import mixed_target

COUNT = 7


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_the_model_is_run_on_both_images_of_each_pair_mixed(tmp_path, cache):
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    files = [tmp_path / f"{place}.png" for place in range(COUNT)]
    for file, one in zip(files, pixels, strict=True):
        Image.fromarray(one).save(file)
    records = [Record(path=file.name, file=file, label=None) for file in files]
    target = ImageDataset(
        records, class_names=["a", "b"], image_size_px=16, batch_size=3, shuffle=False, cache=cache
    )
    corner = generator.normal(size=(16 * 16 * 3, 2)).astype(np.float32)

    def forward(images):
        return None, np.asarray(images).reshape(len(images), -1) @ corner

    logits = forward(pixels.astype(np.float32))[1]
    options = Options(share=0.7, seed=4)
    mixed = mixed_target(forward, target, logits, options)
    first, second = draw_pairs(logits, options)
    assert len(first) > target.batch_size
    np.testing.assert_array_equal(mixed.first, first)
    np.testing.assert_array_equal(mixed.second, second)
    expected = 0.7 * logits[first] + 0.3 * logits[second]
    np.testing.assert_allclose(mixed.logits, expected, rtol=1e-3, atol=1)
    assert mixed.share == 0.7
