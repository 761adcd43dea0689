"""Operations that contain others: which images get which operation, how often, and with what result."""

import numpy as np
import pytest
import tensorflow as tf

from kerastl import registry
from kerastl.augment import build_policy
from kerastl.augment.layers.containers_layers import flat_dirichlet
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.errors import RequestError
from kerastl.recipe import Operation

SIZE = 16
MOVES = [
    {"name": "random_flip", "direction": "horizontal"},
    {"name": "random_brightness", "max_fraction": 0.3},
    {"name": "random_rotation", "max_deg": 30},
    {"name": "equalization"},
]


def many(count):
    return np.stack([np.arange(count), np.full(count, 7)], axis=1).astype(np.int32)


def one_image(count, channels=3):
    image = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, channels)).astype(np.float32)
    return np.stack([image] * count)


def changed(operation, images, seeds, *, exact=True):
    """Apply one operation; compiling it takes seconds, and the contract compares both."""
    channels = images.shape[-1]
    policy = build_policy([operation], image_size_px=SIZE, channels=channels, exact=exact)
    return policy(images, seeds).numpy()


def built(name, **options):
    kind = registry.options_of("operation", name)
    return BuiltOperation(0, name, kind(**options), (SIZE, SIZE))


def nearly_equal(counts):
    """Return whether counts are equal within five standard errors."""
    total, fraction = sum(counts), 1 / len(counts)
    return np.abs(np.array(counts) - total * fraction).max() < 5 * np.sqrt(total * fraction * (1 - fraction))


def posterized(images, bits):
    step = 2 ** (8 - bits)
    return np.floor(images / step) * step


def test_operations_are_chosen_equally_often_one_per_image():
    """The operations are recognized by their effect: none, a channel shift, or JPEG."""
    images = one_image(600)
    choice = {
        "name": "random_choice",
        "operations": [
            {"name": "random_flip", "direction": "vertical", "apply_probability": 0.0},
            {"name": "random_jpeg_quality", "min_quality": 10},
            {"name": "random_channel_shift", "max_fraction": 0.5},
        ],
    }
    results = changed(choice, images, many(600))
    same = (results == images).all(axis=(1, 2, 3))
    shifts = results - images
    # A channel shift moves all pixels of a channel that stay in the range by one number.
    inside = (results > 0) & (results < 255)
    low = np.where(inside, shifts, np.inf).min(axis=(1, 2))
    high = np.where(inside, shifts, -np.inf).max(axis=(1, 2))
    shifted = ((high - low) < 1e-3).all(axis=1) & ~same
    counts = [same.sum(), shifted.sum(), (~same & ~shifted).sum()]
    assert nearly_equal(counts)


def test_choice_is_independent_of_the_numbers_of_the_operations():
    layer = built("random_choice", operations=parse(MOVES))
    images, seeds = tf.constant(one_image(4000)), many(4000)
    params = layer.sample(StatelessGenerator(seeds, 0), images)["transformations"]
    which = params["which"].numpy()[:, 0]
    assert nearly_equal(np.bincount(which, minlength=5)[1:])
    shifts = params["params"][1][0][0]["transformations"].numpy().ravel()
    for member in range(1, 5):
        assert abs(np.corrcoef(which == member, shifts)[0, 1]) < 5 / np.sqrt(4000)


def parse(operations):
    from kerastl.augment.operation_options import parse_operations

    return tuple(Operation(*operation) for operation in parse_operations(operations))


@pytest.mark.parametrize("exact", [False, True])
def test_each_image_equals_the_result_of_its_operation_alone(exact):
    images, seeds = np.random.default_rng(3).uniform(0, 255, (24, SIZE, SIZE, 3)), many(24)
    images = images.astype(np.float32)
    layer = built("random_choice", operations=parse(MOVES))
    generator = StatelessGenerator(seeds, 0)
    which = layer.sample(generator, images)["transformations"]["which"].numpy()[:, 0]
    results = changed({"name": "random_choice", "operations": MOVES}, images, seeds, exact=exact)
    assert set(which) == {1, 2, 3, 4}
    for index, operation in enumerate(parse(MOVES)):
        alone = BuiltOperation(index, operation.name, operation.options, (SIZE, SIZE))
        once = StatelessGenerator(seeds, 0).child(0)
        params = alone.sample(once.child(index), images)
        expected = alone.apply(tf.constant(images), params).numpy()
        mine = which == index + 1
        np.testing.assert_allclose(results[mine], expected[mine], atol=0.01)


def test_two_operations_of_rand_augment_are_drawn_independently_and_with_repeats():
    layer = built("rand_augment", num_operations=2)
    params = layer.sample(StatelessGenerator(many(6000), 0), tf.constant(one_image(6000)))
    first, second = params["transformations"]["which"].numpy().T
    table = np.histogram2d(first, second, bins=12)[0].ravel()
    assert table.size == 144
    assert nearly_equal(table.tolist())


def test_rand_augment_uses_only_the_requested_operations():
    images, seeds = one_image(200), many(200)
    unsupported = {"name": "rand_augment", "operations": ["identity", "random_flip"]}
    with pytest.raises(RequestError, match=r"operations\[1\]: must be 'identity', 'auto_contrast'"):
        build_policy([unsupported], image_size_px=SIZE)
    rand = {"name": "rand_augment", "num_operations": 1, "operations": ["identity", "posterization"]}
    results = changed({**rand, "magnitude": 1.0}, images, seeds)
    allowed = [images[0], *(posterized(images[0], bits) for bits in range(2, 8))]
    hits = [[np.array_equal(result, image) for image in allowed] for result in results]
    assert all(any(hit) for hit in hits)
    assert nearly_equal([sum(hit[0] for hit in hits), sum(not hit[0] for hit in hits)])


def test_grayscale_images_get_only_operations_that_support_them():
    layer = built("rand_augment")
    params = layer.sample(StatelessGenerator(many(2000), 0), tf.constant(one_image(2000, channels=1)))
    which = np.bincount(params["transformations"]["which"].numpy().ravel(), minlength=12)
    names = [member.name for member in layer._layer.members]
    left_out = 1 + names.index("random_saturation")
    assert which[left_out] == 0
    assert nearly_equal(np.delete(which, left_out))


@pytest.mark.parametrize(
    "operation",
    [
        {"name": "rand_augment", "operations": ["random_saturation"]},
        {"name": "random_choice", "operations": [{"name": "random_hue", "max_deg": 5}, "random_flip"]},
        {
            "name": "random_apply",
            "operations": [{"name": "random_choice", "operations": [{"name": "grayscale"}]}],
        },
    ],
    ids=lambda operation: operation["name"],
)
def test_container_of_a_color_operation_refuses_grayscale_images(operation):
    operation = {**operation, "operations": [_as_mapping(inner) for inner in operation["operations"]]}
    if operation["name"] == "rand_augment":
        operation["operations"] = ["random_saturation"]
    build_policy([operation], image_size_px=SIZE)
    with pytest.raises(RequestError, match=f"{operation['name']} requires color images"):
        build_policy([operation], image_size_px=SIZE, channels=1)


def _as_mapping(operation):
    return {"name": operation} if isinstance(operation, str) else operation


@pytest.mark.parametrize(
    "operation",
    [
        {"name": "rand_augment", "magnitude": 0.0},
        {"name": "aug_mix", "severity": 0.0},
        {"name": "random_choice", "operations": [{"name": "random_rotation", "max_deg": 0}]},
        {"name": "random_apply", "operations": MOVES, "apply_probability": 0.0},
    ],
    ids=lambda operation: operation["name"],
)
def test_strength_zero_changes_no_byte(operation):
    images = one_image(8)
    assert changed(operation, images, many(8)).tobytes() == images.tobytes()


def test_random_apply_applies_all_or_none_of_its_operations():
    images = np.full((500, SIZE, SIZE, 3), 100, np.float32)
    images[:, : SIZE // 2] = 140
    apply = {
        "name": "random_apply",
        "operations": [
            {"name": "random_brightness", "max_fraction": 0.1},
            {"name": "random_contrast", "max_fraction": 0.5},
        ],
        "apply_probability": 0.3,
    }
    results = changed(apply, images, many(500))
    lower, upper = results[:, -1, 0, 0], results[:, 0, 0, 0]
    shifted, stretched = lower + upper != 240, upper - lower != 40
    assert (shifted == stretched).all()
    assert abs(shifted.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 500)
    assert results[~shifted].tobytes() == images[~shifted].tobytes()


def test_random_apply_equals_its_operations_in_sequence():
    """With the same random numbers, in the same order."""
    images, seeds = one_image(12), many(12)
    layer = built("random_apply", operations=parse(MOVES), apply_probability=1.0)
    params = layer.sample(StatelessGenerator(seeds, 0), images)["transformations"]
    expected = tf.constant(images)
    for own, member in zip(params, layer._layer.members, strict=True):
        expected = member.apply(expected, own)
    apply = {"name": "random_apply", "operations": MOVES, "apply_probability": 1.0}
    np.testing.assert_allclose(changed(apply, images, seeds), expected, atol=0.01)


def test_containers_can_be_nested_once():
    inner = {"name": "random_apply", "operations": [{"name": "random_flip"}]}
    choice = {"name": "random_choice", "operations": [inner]}
    images, seeds = one_image(40), many(40)
    results = changed(choice, images, seeds)
    mirrored = (results == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (results == images).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert mirrored.any()
    with pytest.raises(RequestError, match="random_apply is nested too deeply"):
        build_policy([{**inner, "operations": [choice]}], image_size_px=SIZE)


def test_nested_operations_can_be_given_as_objects():
    flip = registry.options_of("operation", "random_flip")
    choice = registry.options_of("operation", "random_choice")
    written = {"name": "random_choice", "operations": [{"name": "random_flip"}]}
    images, seeds = one_image(6), many(6)
    expected = changed(written, images, seeds)
    for nested in (("random_flip", flip()), Operation("random_flip", flip())):
        operation = ("random_choice", choice(operations=(nested,)))
        assert np.array_equal(changed(operation, images, seeds), expected)


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([{"name": "random_hue", "max_deg": 999}], r"augment\[0\].operations\[0\].max_deg"),
        ([{"name": "random_flip"}, {"name": "random_zoom"}], r"augment\[0\].operations\[1\].*max_fraction"),
        ([{"name": "random_flipp"}], "'random_flip'"),
        ([], r"augment\[0\].operations"),
        ("random_flip", r"augment\[0\].operations"),
    ],
)  # fmt: skip
def test_errors_of_nested_operations_state_their_location(operations, message):
    with pytest.raises(RequestError, match=message):
        build_policy([{"name": "random_choice", "operations": operations}], image_size_px=SIZE)


def test_chain_lengths_from_one_to_three_are_equally_likely():
    layer = built("aug_mix", severity=0.5)
    params = layer.sample(StatelessGenerator(many(3000), 0), tf.constant(one_image(3000)))
    which = params["transformations"]["which"].numpy().reshape(-1, 3, 3)
    depths = (which > 0).sum(axis=2)
    assert (np.diff((which > 0).astype(int), axis=2) <= 0).all(), "a gap in a chain"
    for chain in range(3):
        assert nearly_equal(np.bincount(depths[:, chain], minlength=4)[1:])
    assert nearly_equal(np.bincount(which[which > 0], minlength=8)[1:])


def test_chain_weights_follow_a_dirichlet_distribution():
    """Mean 1/3, variance (1/3)(2/3)/4 and covariance -(1/3)(1/3)/4 of Dirichlet(1, 1, 1); each weight follows Beta(1, 2)."""
    from scipy import stats

    shares = flat_dirichlet(StatelessGenerator(many(20_000), 0), 20_000, 3).numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    for share in shares.T:
        assert stats.kstest(share, stats.beta(1, 2).cdf).pvalue > 1e-6
    covariance = np.cov(shares.T)
    expected = (np.eye(3) / 3 - np.full((3, 3), 1 / 9)) / 4
    assert np.abs(covariance - expected).max() < 5 * 0.1 / np.sqrt(20_000)


def test_weight_of_the_original_image_is_uniform():
    from scipy import stats

    layer = built("aug_mix", severity=0.5)
    params = layer.sample(StatelessGenerator(many(5000), 0), tf.constant(one_image(5000)))
    own = 1 - params["transformations"]["weights"].numpy().sum(axis=1)
    assert stats.kstest(own, "uniform").pvalue > 1e-6


def test_aug_mix_interpolates_between_image_and_chain_result():
    """With one chain of one operation, each pixel changes by a fixed fraction of the change by the operation."""
    images, seeds = one_image(16), many(16)
    layer = built("aug_mix", severity=1.0, num_chains=1, max_depth=1)
    params = layer.sample(StatelessGenerator(seeds, 0), images)["transformations"]
    weights = params["weights"].numpy()[:, 0]
    mixed = changed({"name": "aug_mix", "severity": 1.0, "num_chains": 1, "max_depth": 1}, images, seeds)
    which = params["which"].numpy()[:, 0]
    assert len(set(which)) > 3
    for row, (member, weight) in enumerate(zip(which, weights, strict=True)):
        operation = layer._layer.members[member - 1]
        once = StatelessGenerator(seeds, 0).child(0)
        end = operation.apply(tf.constant(images), operation.sample(once.child(member - 1), images)).numpy()[
            row
        ]
        expected = images[row] + weight * (end - images[row])
        assert (np.abs(mixed[row] - expected) > 0.01).mean() <= 0.001


@pytest.mark.parametrize(
    "name",
    [
        "random_choice",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("random_apply", "rand_augment", "aug_mix")),
    ],
)  # fmt: skip
def test_bytes_do_not_depend_on_the_position_in_the_batch(name):
    """Images are processed in parts of eight; order and batch size must not matter."""
    options = registry.module("operation", name).at_strength(0.7)
    policy = build_policy([(name, options)], image_size_px=SIZE)
    images = np.random.default_rng(8).uniform(0, 255, (11, SIZE, SIZE, 3)).astype(np.float32)
    seeds = many(11)
    batch = policy(images, seeds).numpy()
    order = np.random.default_rng(1).permutation(11)
    assert np.array_equal(policy(images[order], seeds[order]).numpy(), batch[order])
    assert np.array_equal(policy(images[:8], seeds[:8]).numpy(), batch[:8])


def test_apply_probability_of_containers_is_the_fraction_of_changed_images():
    images, seeds = one_image(300), many(300)
    options = registry.module("operation", "rand_augment").at_strength(0.8)
    options = options.model_copy(update={"operations": ("random_brightness",), "apply_probability": 0.25})
    changed_fraction = (
        (changed(("rand_augment", options), images, seeds) != images).any(axis=(1, 2, 3)).mean()
    )
    assert abs(changed_fraction - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 300)
