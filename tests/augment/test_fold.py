"""Adjacent geometric operations are folded into one map and one resampling, which is more accurate."""

from functools import reduce

import numpy as np
import pytest
import tensorflow as tf
from geometry_reference import (
    SIZE_PX,
    both,
    by_scipy,
    matrix,
    photos,
    positions,
    sample_images,
    sampled_params,
    seeds,
    warp,
)

from kerastl.augment import build_policy
from kerastl.augment.geometry import product
from kerastl.augment.stateless_random import StatelessGenerator

FOLDS = {
    "rotation, zoom": [
        {"name": "random_rotation", "max_deg": 20.0},
        {"name": "random_zoom", "max_fraction": 0.2},
    ],
    "shear, translation": [
        {"name": "random_shear", "max_fraction": 0.2, "fill_mode": "nearest"},
        {"name": "random_translation", "max_fraction": 0.1, "fill_mode": "nearest"},
    ],
    "flip, rotation, zoom, translation": [
        {"name": "random_flip", "direction": "both"},
        {"name": "random_rotation", "max_deg": 15.0},
        {"name": "random_zoom", "max_fraction": 0.2},
        {"name": "random_translation", "max_fraction": 0.1},
    ],
    "crop, flip, rotation": [
        {"name": "random_crop", "max_fraction": 0.2},
        {"name": "random_flip"},
        {"name": "random_rotation", "max_deg": 30.0, "fill_mode": "constant"},
    ],
    "translation, crop and resize, shear": [
        {"name": "random_translation", "max_fraction": 0.3, "fill_mode": "wrap"},
        {"name": "random_crop_and_resize", "min_area_fraction": 0.5},
        {"name": "random_shear", "max_fraction": 0.2, "fill_mode": "wrap"},
    ],
}
COUNT = 8


class Folded:
    """A policy, its results and those of its exact version, and the transforms of each image."""

    def __init__(self, operations, images):
        self.images = images
        self.compiled, self.exact = both(operations, images)
        policy = build_policy(operations, image_size_px=SIZE_PX)
        params = sampled_params(policy, images)
        self.steps = [
            [
                matrix(operation["name"], own, row, SIZE_PX)
                for operation, own in zip(operations, params, strict=True)
            ]
            for row in range(len(images))
        ]
        self.lowering = policy.lowering
        fill_modes = [operation["fill_mode"] for operation in operations if "fill_mode" in operation]
        self.fill_mode = fill_modes[0] if fill_modes else "reflect"

    def one_pass(self, row, order):
        """Return the image through the product of all its maps, by SciPy."""
        whole = reduce(np.matmul, self.steps[row])
        return by_scipy(self.images[row], whole, self.fill_mode, order)

    def always_inside(self, row):
        """Return where the result shows what no step has looked for outside of the image: `[size, size]` bool."""
        inside = np.ones(SIZE_PX, bool)
        for first in range(len(self.steps[row])):
            x, y = positions(reduce(np.matmul, self.steps[row][first:]), SIZE_PX)
            inside &= (np.minimum(x, y) >= 3) & (y <= SIZE_PX[0] - 4) & (x <= SIZE_PX[1] - 4)
        return inside


SLOW = ["rotation, zoom", "shear, translation"]
"""Parts of the other folds, with other fill modes."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(fold, marks=pytest.mark.slow if fold in SLOW else ()) for fold in FOLDS],
)
def folded(request):
    return Folded(FOLDS[request.param], sample_images(COUNT))


def test_all_operations_are_folded(folded):
    assert {lowering for _, lowering in folded.lowering} == {"folded"}


def test_fold_equals_one_bilinear_resampling_by_the_product_of_the_maps(folded):
    """Compare with SciPy; at the seams of wrapped images, rounding may select another pixel.

    On noise, adjacent pixels differ by up to 255 levels, which doubles the effect of rounding positions.
    """
    theirs = np.stack([folded.one_pass(row, order=1) for row in range(COUNT)])
    noise = np.arange(COUNT) % 3 == 2
    far = np.abs(folded.compiled - theirs) > np.where(noise, 0.02, 0.01)[:, None, None, None]
    assert far.mean() <= (1e-3 if folded.fill_mode == "wrap" else 0)


@pytest.mark.slow
def test_positions_near_pixel_centers_are_rounded_once():
    """Among a million positions, some are so close to a pixel that double rounding would select another."""
    operations = FOLDS["rotation, zoom"]
    policy = build_policy(operations, image_size_px=SIZE_PX)
    images = sample_images(3)[[2] * 8]
    for first in range(0, 320, 8):
        first_map, second_map = (
            operation.maps(
                operation.sample(StatelessGenerator(seeds(8, first), operation.index), tf.constant(images))
            )
            for operation in policy._operations
        )
        maps = tf.cast(product(first_map, second_map), tf.float32)
        eager = warp(tf.constant(images), maps, fill_mode="reflect").numpy()
        assert np.abs(policy(images, seeds(8, first)).numpy() - eager).max() < 0.5


def psnr(image, reference):
    return 10 * np.log10(255**2 / np.mean((image - reference) ** 2))


def test_fold_is_closer_to_cubic_interpolation_than_repeated_resampling(folded):
    """On every photograph, where no step looked outside of the image: at the border the two mean other pixels."""
    for row in range(COUNT):
        if row % 3 == 2:
            continue  # Noise: no interpolation of it is right.
        seen = folded.always_inside(row)
        assert seen.mean() > 0.2
        reference = folded.one_pass(row, order=3)[seen]
        once = psnr(folded.compiled[row][seen], reference)
        repeated = psnr(folded.exact[row][seen], reference)
        assert once > repeated + 0.5


def test_images_that_no_operation_chose_keep_their_bytes():
    operations = [
        {"name": "random_rotation", "max_deg": 30.0, "apply_probability": 0.4},
        {"name": "random_crop_and_resize", "min_area_fraction": 0.5, "apply_probability": 0.4},
        {"name": "random_translation", "max_fraction": 0.3, "apply_probability": 0.4},
    ]
    images = sample_images(32)
    policy = build_policy(operations, image_size_px=SIZE_PX)
    changed = policy(images, seeds(32, first=32)).numpy()
    chosen = np.stack([params["chosen"] for params in sampled_params(policy, images, first=32)]).any(axis=0)
    assert 3 <= (~chosen).sum() <= 16
    np.testing.assert_array_equal((changed != images).any(axis=(1, 2, 3)), chosen)


def test_flip_between_two_warps_joins_their_fold():
    """Also with fill modes that a flip never needs."""
    turn = {"name": "random_rotation", "max_deg": 20.0, "fill_mode": "constant"}
    images = photos()
    folded = Folded([turn, {"name": "random_flip"}, turn], images)
    for row in range(len(images)):
        assert np.abs(folded.compiled[row] - folded.one_pass(row, order=1)).max() < 0.01


def test_different_fill_modes_are_resampled_separately():
    turn, move = {"name": "random_rotation", "max_deg": 20.0}, {
        "name": "random_translation", "max_fraction": 0.2, "fill_mode": "constant",
    }  # fmt: skip
    compiled, exact = both([turn, move], photos())
    assert np.abs(compiled - exact).max() < 0.01


def test_grayscale_images_fold_like_color_images():
    gray = sample_images(6).mean(axis=-1, keepdims=True)
    operations = FOLDS["flip, rotation, zoom, translation"]
    one_channel, _ = both(operations, gray)
    three, _ = both(operations, np.repeat(gray, 3, axis=-1))
    assert one_channel.shape == gray.shape
    np.testing.assert_allclose(np.repeat(one_channel, 3, axis=-1), three, atol=1e-3)
