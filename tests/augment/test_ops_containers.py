"""Operations that do other operations to each image: who gets which, by what chance, and what it comes to."""

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
    return BuiltOperation(0, name, kind(**options), SIZE)


def evenly(counts):
    """Tell whether so many draws fell equally often, within five standard errors."""
    total, share = sum(counts), 1 / len(counts)
    return np.abs(np.array(counts) - total * share).max() < 5 * np.sqrt(total * share * (1 - share))


def posterized(images, bits):
    step = 2 ** (8 - bits)
    return np.floor(images / step) * step


def test_each_operation_is_chosen_equally_often_and_one_at_a_time():
    """Told apart by what they do to a ramp: half levels, mirror, or a black and white image."""
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
    assert evenly(counts)


def test_the_choice_does_not_depend_on_what_the_operations_draw():
    layer = built("random_choice", operations=_held(MOVES))
    images, seeds = tf.constant(one_image(4000)), many(4000)
    drawn = layer.draw(StatelessGenerator(seeds, 0), images)["transformations"]
    which = drawn["which"].numpy()[:, 0]
    assert evenly(np.bincount(which, minlength=5)[1:])
    shifts = drawn["numbers"][1][0][0]["transformations"].numpy().ravel()
    for member in range(1, 5):
        assert abs(np.corrcoef(which == member, shifts)[0, 1]) < 5 / np.sqrt(4000)


def _held(operations):
    from kerastl.augment.parse_operations import named

    return tuple(Operation(*one) for one in named(operations))


@pytest.mark.parametrize("exact", [False, True])
def test_a_image_is_what_its_operation_alone_makes_of_it(exact):
    images, seeds = np.random.default_rng(3).uniform(0, 255, (24, SIZE, SIZE, 3)), many(24)
    images = images.astype(np.float32)
    layer = built("random_choice", operations=_held(MOVES))
    draws = StatelessGenerator(seeds, 0)
    which = layer.draw(draws, images)["transformations"]["which"].numpy()[:, 0]
    results = changed({"name": "random_choice", "operations": MOVES}, images, seeds, exact=exact)
    assert set(which) == {1, 2, 3, 4}
    for place, operation in enumerate(_held(MOVES)):
        alone = BuiltOperation(place, operation.name, operation.options, SIZE)
        once = StatelessGenerator(seeds, 0).child(0)
        drawn = alone.draw(once.child(place), images)
        expected = alone.apply(tf.constant(images), drawn).numpy()
        mine = which == place + 1
        np.testing.assert_allclose(results[mine], expected[mine], atol=0.01)


def test_two_operations_of_rand_augment_are_drawn_independently_and_with_repeats():
    layer = built("rand_augment", num_operations=2)
    drawn = layer.draw(StatelessGenerator(many(6000), 0), tf.constant(one_image(6000)))
    first, second = drawn["transformations"]["which"].numpy().T
    table = np.histogram2d(first, second, bins=12)[0].ravel()
    assert table.size == 144
    assert evenly(table.tolist())


def test_rand_augment_takes_the_paper_s_operations_and_only_those_named():
    images, seeds = one_image(200), many(200)
    named = {"name": "rand_augment", "operations": ["identity", "random_flip"]}
    with pytest.raises(RequestError, match=r"operations\[1\]: must be identity, auto_contrast"):
        build_policy([named], image_size_px=SIZE)
    rand = {"name": "rand_augment", "num_operations": 1, "operations": ["identity", "posterization"]}
    results = changed({**rand, "magnitude": 1.0}, images, seeds)
    allowed = [images[0], *(posterized(images[0], bits) for bits in range(2, 8))]
    hits = [[np.array_equal(result, one) for one in allowed] for result in results]
    assert all(any(hit) for hit in hits)
    assert evenly([sum(hit[0] for hit in hits), sum(not hit[0] for hit in hits)])


def test_grey_images_get_only_what_works_on_grey():
    layer = built("rand_augment")
    drawn = layer.draw(StatelessGenerator(many(2000), 0), tf.constant(one_image(2000, channels=1)))
    which = np.bincount(drawn["transformations"]["which"].numpy().ravel(), minlength=12)
    names = [one.name for one in layer._layer.members]
    left_out = 1 + names.index("random_saturation")
    assert which[left_out] == 0
    assert evenly(np.delete(which, left_out))


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
def test_what_holds_an_operation_for_colour_refuses_grey_images(operation):
    operation = {**operation, "operations": [_named(one) for one in operation["operations"]]}
    if operation["name"] == "rand_augment":
        operation["operations"] = ["random_saturation"]
    build_policy([operation], image_size_px=SIZE)
    with pytest.raises(RequestError, match=f"{operation['name']} needs colour images"):
        build_policy([operation], image_size_px=SIZE, channels=1)


def _named(one):
    return {"name": one} if isinstance(one, str) else one


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


def test_random_apply_does_all_or_nothing_to_its_share_of_the_images():
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


def test_random_apply_is_the_policy_of_its_operations():
    """The same draws, and both in their order: brightness up to white, then the mirror of it."""
    images, seeds = one_image(12), many(12)
    layer = built("random_apply", operations=_held(MOVES), apply_probability=1.0)
    drawn = layer.draw(StatelessGenerator(seeds, 0), images)["transformations"]
    expected = tf.constant(images)
    for numbers, one in zip(drawn, layer._layer.members, strict=True):
        expected = one.apply(expected, numbers)
    apply = {"name": "random_apply", "operations": MOVES, "apply_probability": 1.0}
    np.testing.assert_allclose(changed(apply, images, seeds), expected, atol=0.01)


def test_an_operation_that_holds_one_may_stand_in_another_but_no_deeper():
    inner = {"name": "random_apply", "operations": [{"name": "random_flip"}]}
    choice = {"name": "random_choice", "operations": [inner]}
    images, seeds = one_image(40), many(40)
    results = changed(choice, images, seeds)
    mirrored = (results == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (results == images).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert mirrored.any()
    with pytest.raises(RequestError, match="random_apply is nested too deep"):
        build_policy([{**inner, "operations": [choice]}], image_size_px=SIZE)


def test_python_callers_hand_over_names_and_options_too():
    flip = registry.options_of("operation", "random_flip")
    choice = registry.options_of("operation", "random_choice")
    written = {"name": "random_choice", "operations": [{"name": "random_flip"}]}
    images, seeds = one_image(6), many(6)
    expected = changed(written, images, seeds)
    for held in (("random_flip", flip()), Operation("random_flip", flip())):
        ready = ("random_choice", choice(operations=(held,)))
        assert np.array_equal(changed(ready, images, seeds), expected)


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([{"name": "random_hue", "max_deg": 999}], r"augment\[0\].operations\[0\].max_deg"),
        ([{"name": "random_flip"}, {"name": "random_zoom"}], r"augment\[0\].operations\[1\].*max_fraction"),
        ([{"name": "random_flipp"}], "'random_flip'"),
        ([], r"augment\[0\].operations"),
        ("random_flip", r"augment\[0\].operations"),
    ],
)  # fmt: skip
def test_what_is_wrong_inside_is_told_with_its_place(operations, said):
    with pytest.raises(RequestError, match=said):
        build_policy([{"name": "random_choice", "operations": operations}], image_size_px=SIZE)


def test_chains_are_one_to_three_operations_long_equally_often():
    layer = built("aug_mix", severity=0.5)
    drawn = layer.draw(StatelessGenerator(many(3000), 0), tf.constant(one_image(3000)))
    which = drawn["transformations"]["links"]["which"].numpy().reshape(-1, 3, 3)
    depths = (which > 0).sum(axis=2)
    assert (np.diff((which > 0).astype(int), axis=2) <= 0).all(), "a hole in a chain"
    for chain in range(3):
        assert evenly(np.bincount(depths[:, chain], minlength=4)[1:])
    assert evenly(np.bincount(which[which > 0], minlength=8)[1:])


def test_the_chains_shares_are_a_dirichlet_s():
    """Mean 1/3, variance (1/3)(2/3)/4 and covariance -(1/3)(1/3)/4 of Dirichlet(1, 1, 1); each share is a Beta(1, 2)."""
    from scipy import stats

    shares = flat_dirichlet(StatelessGenerator(many(20_000), 0), 20_000, 3).numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    for share in shares.T:
        assert stats.kstest(share, stats.beta(1, 2).cdf).pvalue > 1e-6
    covariance = np.cov(shares.T)
    expected = (np.eye(3) / 3 - np.full((3, 3), 1 / 9)) / 4
    assert np.abs(covariance - expected).max() < 5 * 0.1 / np.sqrt(20_000)


def test_the_image_s_own_share_is_uniform():
    from scipy import stats

    layer = built("aug_mix", severity=0.5)
    drawn = layer.draw(StatelessGenerator(many(5000), 0), tf.constant(one_image(5000)))
    own = 1 - drawn["transformations"]["weights"].numpy().sum(axis=1)
    assert stats.kstest(own, "uniform").pvalue > 1e-6


def test_a_mix_lies_between_the_image_and_the_ends_of_its_chains():
    """One chain of one operation: the mix moves every pixel by one share of what the operation alone does."""
    images, seeds = one_image(16), many(16)
    layer = built("aug_mix", severity=1.0, num_chains=1, max_depth=1)
    drawn = layer.draw(StatelessGenerator(seeds, 0), images)["transformations"]
    weights = drawn["weights"].numpy()[:, 0]
    mixed = changed({"name": "aug_mix", "severity": 1.0, "num_chains": 1, "max_depth": 1}, images, seeds)
    which = drawn["links"]["which"].numpy()[:, 0]
    assert len(set(which)) > 3
    for row, (member, weight) in enumerate(zip(which, weights, strict=True)):
        one = layer._layer.members[member - 1]
        once = StatelessGenerator(seeds, 0).child(0)
        end = one.apply(tf.constant(images), one.draw(once.child(member - 1), images)).numpy()[row]
        expected = images[row] + weight * (end - images[row])
        assert (np.abs(mixed[row] - expected) > 0.01).mean() <= 0.001


@pytest.mark.parametrize(
    "name",
    [
        "random_choice",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("random_apply", "rand_augment", "aug_mix")),
    ],
)  # fmt: skip
def test_bytes_do_not_depend_on_the_place_in_the_batch(name):
    """Parts of eight, the last filled up: the same images in another order, and in a batch of another size."""
    options = registry.module("operation", name).at_strength(0.7)
    policy = build_policy([(name, options)], image_size_px=SIZE)
    images = np.random.default_rng(8).uniform(0, 255, (11, SIZE, SIZE, 3)).astype(np.float32)
    seeds = many(11)
    together = policy(images, seeds).numpy()
    order = np.random.default_rng(1).permutation(11)
    assert np.array_equal(policy(images[order], seeds[order]).numpy(), together[order])
    assert np.array_equal(policy(images[:8], seeds[:8]).numpy(), together[:8])


def test_the_share_of_changed_images_holds_for_what_holds_others():
    images, seeds = one_image(300), many(300)
    options = registry.module("operation", "rand_augment").at_strength(0.8)
    named = options.model_copy(update={"operations": ("random_brightness",), "apply_probability": 0.25})
    touched = (changed(("rand_augment", named), images, seeds) != images).any(axis=(1, 2, 3)).mean()
    assert abs(touched - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 300)
