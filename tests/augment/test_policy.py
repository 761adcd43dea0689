"""Policies: the contract of operations, reproducibility, and refused arguments."""

import numpy as np
import pytest
import tensorflow as tf
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl import registry
from kerastl.augment import build_policy
from kerastl.data import Record, seeds_for
from kerastl.errors import RequestError
from kerastl.testing import check_augmentation
from kerastl.testing.augmentation import SIZE_PX, stateful_random_operations

NAMES = registry.names("operation")
QUICK = {"random_flip", "random_rotation", "random_hue", "random_brightness", "random_jpeg_quality"}
"""One operation per lowering: flip, warp, HSV, XLA, layer."""
STEPPED = {"random_jpeg_quality", "posterization", "solarization"}
"""Operations with discrete strengths."""
CONTAINERS = {"rand_augment", "aug_mix", "random_choice", "random_apply"}
ALL = [
    {"name": "random_flip"},
    {"name": "random_rotation", "max_deg": 15.0},
    {"name": "random_zoom", "max_fraction": 0.2},
    {"name": "random_translation", "max_fraction": 0.1},
    {"name": "random_brightness", "max_fraction": 0.2},
    {"name": "random_contrast", "max_fraction": 0.2},
    {"name": "random_saturation", "max_fraction": 0.3},
    {"name": "random_hue", "max_deg": 20.0},
]


@pytest.fixture(scope="module")
def whole():
    """One policy for the whole file, because compiling is slow."""
    return build_policy(ALL, image_size_px=32)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def seeds():
    return np.random.default_rng(1).integers(-(2**31), 2**31, (16, 2)).astype(np.int32)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_operation_fulfills_the_contract(name):
    check_augmentation(name)


@pytest.mark.parametrize("name", sorted(set(NAMES) - STEPPED - CONTAINERS))
def test_strength_near_zero_changes_almost_nothing(name, images, seeds):
    """Runs the code of the layer, which strength 0 skips."""
    weak = (name, registry.module("operation", name).at_strength(1e-6))
    changed = build_policy([weak], image_size_px=32, exact=True)(images, seeds).numpy()
    assert np.abs(changed - images).max() < 1e-3 * 255


@pytest.mark.slow
def test_parallel_calls_do_not_change_the_bytes(whole, images, seeds):
    dataset = tf.data.Dataset.from_tensor_slices((images, seeds)).batch(4)
    runs = [
        np.concatenate([*dataset.map(whole, num_parallel_calls=calls, deterministic=True)]).tobytes()
        for calls in (1, tf.data.AUTOTUNE)
    ]
    assert len(set(runs)) == 1


def test_epochs_and_examples_get_different_images(whole, images):
    same = np.stack([images[0]] * 40)
    image_bytes = [
        image.tobytes()
        for epoch in range(3)
        for image in whole(same, seeds_for(7, epoch, np.arange(40))).numpy()
    ]
    assert len(set(image_bytes)) == 120


@pytest.mark.slow
def test_dataset_images_depend_on_seed_epoch_and_index_only(tmp_path):
    """With the real pipeline: decoded, shuffled, in batches of three and of eight."""
    policy = build_policy([ALL[1], ALL[6]], image_size_px=32)
    records = []
    for row in range(11):
        file = tmp_path / f"{row}.png"
        noise = np.random.default_rng(row).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(file)
        records.append(Record(file.name, file, "a"))

    def dataset(batch_size):
        return MemoryDataset(
            records, class_names=("a",), image_size_px=32, batch_size=batch_size, seed=3,
            augment=policy,
        )  # fmt: skip

    def bytes_by_index(batches):
        return {
            int(index): image.numpy().tobytes()
            for images, _, indices in batches
            for image, index in zip(images, indices, strict=True)
        }

    by_eight = dataset(8)
    first = bytes_by_index(by_eight.indexed_batches(0))
    assert len(set(first.values())) == 11
    assert bytes_by_index(dataset(3).indexed_batches(0)) == first
    assert not set(first.values()) & set(bytes_by_index(by_eight.indexed_batches(1)).values())


@pytest.mark.slow
def test_another_process_with_op_determinism_builds_all_operations_and_gives_the_same_bytes(
    whole, images, seeds, tmp_path
):
    """As in a run, determinism is enabled there before anything else."""
    import subprocess
    import sys

    np.savez(tmp_path / "in.npz", images=images, seeds=seeds)
    script = (
        "import numpy as np\n"
        "from kerastl import registry\n"
        "from kerastl.augment import build_policy\n"
        "from kerastl.augment.operation import BuiltOperation\n"
        "from kerastl.workflows.run_writer import set_determinism\n"
        "set_determinism(7)\n"
        f"file = np.load({str(tmp_path / 'in.npz')!r})\n"
        f"policy = build_policy({ALL!r}, image_size_px=32)\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, policy(file['images'], file['seeds']))\n"
        "for name in registry.names('operation'):\n"
        "    options = registry.module('operation', name).at_strength(1.0)\n"
        "    print(BuiltOperation(0, name, options, (32, 32)).name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == NAMES, done.stderr[-2000:]
    assert np.load(tmp_path / "out.npy").tobytes() == whole(images, seeds).numpy().tobytes()


def test_the_dtype_policy_of_keras_does_not_change_the_images(images, seeds):
    import keras

    expected = build_policy(ALL, image_size_px=32, exact=True)(images, seeds).numpy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        ours = build_policy(ALL, image_size_px=32, exact=True)(images, seeds).numpy()
    finally:
        keras.config.set_dtype_policy("float32")
    assert ours.tobytes() == expected.tobytes()


def test_empty_policy_is_the_identity(images, seeds):
    np.testing.assert_array_equal(build_policy([], image_size_px=32)(images, seeds), images)


def test_stateful_random_operations_are_detected():
    def noisy(images, seeds):
        return images + tf.random.uniform(tf.shape(images))

    assert stateful_random_operations(noisy) == ["RandomUniform"]
    generator = tf.random.Generator.from_seed(1)
    assert stateful_random_operations(lambda images, seeds: images + generator.uniform([]))


def test_graph_of_a_policy_has_no_stateful_random_operation():
    assert stateful_random_operations(build_policy(ALL, image_size_px=SIZE_PX)) == []


def test_unknown_operation_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match="Did you mean 'random_flip'"):
        build_policy([{"name": "random_flipp"}], image_size_px=32)


def test_color_operations_refuse_grayscale_images():
    with pytest.raises(RequestError, match="random_hue"):
        build_policy([{"name": "random_hue", "max_deg": 5.0}], image_size_px=32, channels=1)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"name": "random_zoom", "max_fraction": 30}, "max_fraction.*30"),
        ({"name": "random_hue", "max_deg": float("nan")}, "max_deg.*180.*nan"),
        ({"name": "random_hue", "max_deg": True}, "max_deg.*True"),
        ({"name": "random_flip", "direction": "left"}, "direction.*horizontal', 'vertical.*both.*'left'"),
        ({"name": "random_flip", "max_deg": 3}, "max_deg.*direction"),
        ({"name": "random_rotation"}, "'max_deg'"),
        ({"max_deg": 3}, "'name'"),
    ],
)
def test_invalid_option_is_refused_with_its_name_and_the_allowed_values(operation, message):
    with pytest.raises(RequestError, match=message):
        build_policy([operation], image_size_px=32)


def test_all_invalid_options_are_reported_together():
    invalid = [{"name": "random_hue", "max_deg": -1}, {"name": "random_zoom", "max_fraction": 1}]
    with pytest.raises(RequestError, match=r"2(?s:.)*augment\[0\](?s:.)*augment\[1\]"):
        build_policy(invalid, image_size_px=32)


def test_operations_can_be_given_by_name():
    assert build_policy(["random_flip"], image_size_px=32).lowering == [("random_flip", "folded")]
    with pytest.raises(RequestError, match="'max_deg'"):
        build_policy(["random_rotation"], image_size_px=32)


@pytest.mark.parametrize("operations", [3, "random_flip", {"name": "random_flip"}])
def test_operations_that_are_not_a_list_are_refused(operations):
    with pytest.raises(RequestError, match="must be a list"):
        build_policy(operations, image_size_px=32)


@pytest.mark.parametrize("operation", [3, ("random_flip",), ("random_flip", 3)])
def test_invalid_operation_is_refused_with_its_location(operation):
    with pytest.raises(RequestError, match=r"augment\[0\]"):
        build_policy([operation], image_size_px=32)


@pytest.mark.parametrize(
    ("shape", "seeds", "message"),
    [
        ((2, 16, 16, 3), np.ones((2, 2), np.int32), r"images: expected shape \[batch, 32, 32, 3\]"),
        ((32, 32, 3), np.ones((2, 2), np.int32), "images: expected shape"),
        ((2, 32, 32, 3), np.ones(2, np.int32), r"seeds: expected shape \[batch, 2\]. Received \[2\]"),
        ((2, 32, 32, 3), np.ones((2, 2)), r"seeds: expected integers \(int32\)\. Received float64"),
        ((2, 32, 32, 3), np.full((2, 2), "1"), r"seeds: expected numbers\. Received string"),
        ((2, 32, 32, 3), np.ones((3, 2), np.int32), "Received 2 images and 3 seeds"),
    ],
)
def test_wrong_shapes_and_types_are_refused(shape, seeds, message):
    policy = build_policy(["random_flip"], image_size_px=32)
    with pytest.raises(RequestError, match=message):
        policy(np.zeros(shape, np.float32), seeds)


def test_seeds_of_another_integer_type_give_the_same_images(images, seeds):
    policy = build_policy(["random_flip"], image_size_px=32)
    np.testing.assert_array_equal(policy(images, seeds), policy(images, seeds.astype(np.int64)))
