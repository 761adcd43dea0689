"""Compiled policies equal their layers in sequence, on photographs and noise. Single operations: test_policy."""

import itertools

import numpy as np
import pytest
from geometry_reference import SIZE_PX, both, sample_images, seeds

from kerastl import registry
from kerastl.augment import build_policy

GEOMETRY = {
    "random_flip", "random_rotation", "random_zoom", "random_translation", "random_shear", "random_crop",
    "random_crop_and_resize",
}  # fmt: skip
THRESHOLDED = {"posterization", "solarization", "equalization", "grid_mask", "random_jpeg_quality"}
"""Operations for which rounding may change a whole level."""
CONTAINERS = {"rand_augment", "aug_mix", "random_choice", "random_apply"}
NAMES = [name for name in registry.names("operation") if name not in CONTAINERS]
WHOLE = [
    {"name": "random_flip"},
    {"name": "random_rotation", "max_deg": 15.0},
    {"name": "random_crop_and_resize", "min_area_fraction": 0.6},
    {"name": "random_brightness", "max_fraction": 0.2},
    {"name": "random_contrast", "max_fraction": 0.2, "apply_probability": 0.5},
    {"name": "random_saturation", "max_fraction": 0.3},
    {"name": "random_hue", "max_deg": 20.0},
    {"name": "random_gaussian_blur", "max_sigma_px": 1.0, "apply_probability": 0.3},
    {"name": "random_cutout", "max_fraction": 0.4},
]


def sample(name, strength=0.7, **changes):
    """Return an operation at a medium strength."""
    options = registry.module("operation", name).at_strength(strength)
    return name, options.model_copy(update=changes)


def fraction_of_differences(operations):
    compiled, exact = both(operations, sample_images(6))
    return (np.abs(compiled - exact) > 0.01).mean()


def random_policy(number):
    """Return three to six different operations; no two geometric ones are adjacent, because folding changes their result."""
    generator = np.random.default_rng(number)
    while True:
        names = list(generator.choice(NAMES, generator.integers(3, 7), replace=False))
        pairs = itertools.pairwise(name in GEOMETRY for name in names)
        if not any(first and second for first, second in pairs):
            return [sample(name, generator.uniform(0.3, 0.9)) for name in names]


@pytest.mark.parametrize(
    "number", [0, 1, *(pytest.param(number, marks=pytest.mark.slow) for number in range(2, 8))]
)
def test_compiled_random_policy_equals_its_layers_in_sequence(number):
    operations = random_policy(number)
    thresholds = sum(name in THRESHOLDED for name, _ in operations)
    assert fraction_of_differences(operations) <= 0.001 * thresholds


def test_random_policies_contain_most_operations():
    names = {name for number in range(8) for name, _ in random_policy(number)}
    assert len(names) > 0.7 * len(NAMES)
    assert names & GEOMETRY


def test_layer_that_does_not_compile_separates_two_that_do():
    operations = [sample("random_rotation"), sample("random_jpeg_quality"), sample("random_brightness")]
    policy = build_policy(operations, image_size_px=SIZE_PX)
    assert [lowering for _, lowering in policy.lowering] == ["folded", "layer", "compiled"]
    # JPEG rounds to whole levels, which enlarges the rounding errors of the rotation.
    assert fraction_of_differences(operations) <= 0.005


def test_lowering_states_how_each_operation_runs():
    operations = [
        {"name": "random_flip"},
        {"name": "random_rotation", "max_deg": 0.0},
        {"name": "random_crop", "max_fraction": 0.1},
        {"name": "random_hue", "max_deg": 10.0},
        {"name": "random_hue", "max_deg": 10.0, "apply_probability": 0.0},
        {"name": "random_saturation", "max_fraction": 0.1, "model": "linear"},
        {"name": "random_contrast", "max_fraction": 0.1},
        {"name": "random_jpeg_quality", **vars(sample("random_jpeg_quality")[1])},
    ]
    lowerings = ["folded", "identity", "folded", "hsv", "identity", "linear", "compiled", "layer"]
    names = [operation["name"] for operation in operations]
    policy = build_policy(operations, image_size_px=16)
    assert policy.lowering == list(zip(names, lowerings, strict=True))
    exact = build_policy(operations, image_size_px=16, exact=True)
    assert exact.lowering == [
        (name, lowering if lowering == "identity" else "layer")
        for name, lowering in zip(names, lowerings, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("exact", [False, True])
def test_empty_batch_stays_empty(exact):
    policy = build_policy(WHOLE, image_size_px=16, exact=exact)
    empty = policy(np.zeros((0, 16, 16, 3), np.float32), np.zeros((0, 2), np.int32))
    assert empty.shape == (0, 16, 16, 3)


@pytest.mark.slow
def test_batch_size_does_not_change_the_bytes():
    """Batches of 16, 5 and 1."""
    images, rows = sample_images(16, size_px=96), seeds(16)
    policy = build_policy(WHOLE, image_size_px=96)
    whole = policy(images, rows).numpy()
    parts = [policy(images[at : at + 5], rows[at : at + 5]).numpy() for at in range(0, 16, 5)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
