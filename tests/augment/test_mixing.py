"""Properties of mixing, against known results.

Statistical tests have a false alarm rate of 1e-4; their seeds are fixed.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kerastl import registry
from kerastl.augment import build_mixing
from kerastl.augment.mixing.fourier_mix import low_frequencies
from kerastl.augment.stateless_random import CELLS, StatelessGenerator, beta_quantiles, build_beta
from kerastl.errors import RequestError
from kerastl.testing import check_mixing

NAMES = registry.names("mixing")
FALSE_ALARM = 1e-4


def seeds_of(count, seed=1):
    return np.random.default_rng(seed).integers(-(2**31), 2**31, (count, 2)).astype(np.int32)


def mixed(names, count, *, size=16, seed=1, **options):
    """Mix constant images with unique levels and classes, from which partner and weight can be read.

    Returns:
        The images `[count, size, size]`, and the partner of each and its weight, from the labels.
    """
    levels = np.arange(count, dtype=np.float32) * (255 / max(count - 1, 1))
    images = np.broadcast_to(levels[:, None, None, None], (count, size, size, 1))
    mixing = build_mixing(
        [{"name": name, **options} for name in names],
        image_size_px=size, channels=1, num_classes=count,
    )  # fmt: skip
    labels = np.arange(count, dtype=np.int32)
    images, rows = (part.numpy() for part in mixing(images, labels, seeds_of(count, seed)))
    others = rows * (1 - np.eye(count, dtype=np.float32))
    return images[..., 0], others.argmax(axis=1), others.sum(axis=1), levels


@pytest.mark.parametrize("name", NAMES)
def test_mixing_fulfills_the_contract(name):
    check_mixing(name)


def test_known_mixings_are_registered():
    assert {"mix_up", "cut_mix", "fourier_mix"} <= set(NAMES)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0, 30.0])
def test_beta_table_samples_from_beta(alpha):
    """Each half is measured from its own end, where float32 is precise."""
    unit = StatelessGenerator(seeds_of(40_000), 0).uniform([40_000])
    params = build_beta(alpha)(unit).numpy().astype(np.float64)
    lower = params[unit.numpy() < 0.5]
    assert stats.kstest(lower, lambda x: 2 * stats.beta.cdf(x, alpha, alpha)).pvalue > FALSE_ALARM
    mirrored = build_beta(alpha)(1.0 - unit).numpy()
    np.testing.assert_allclose(mirrored, 1 - params, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 0.2, 1.0, 8.0, 100.0])
def test_beta_table_error_is_below_one_cell(alpha):
    """The distribution is off by at most one cell, up to float32 rounding, between table entries, too."""
    assert (np.diff(beta_quantiles(alpha)) >= 0).all()
    unit = (np.arange(2 * CELLS, dtype=np.float32) + 0.5) / (2 * CELLS)
    params = build_beta(alpha)(unit).numpy().astype(np.float64)
    low, high = (stats.beta.cdf(params + by, alpha, alpha) for by in (-1e-7, 1e-7))
    assert (low - 1 / CELLS <= unit).all()
    assert (unit <= high + 1 / CELLS).all()


def test_partners_form_one_cycle_over_the_batch():
    for seed in range(3):
        _, partners, weights, _ = mixed(["mix_up"], 9, seed=seed, alpha=5.0)
        assert (weights > 0).all()
        index, ring = 0, []
        for _ in range(9):
            ring.append(index)
            index = partners[index]
        assert index == 0
        assert sorted(ring) == list(range(9))


def test_all_other_examples_are_partners_equally_often():
    mixing = tf.function(build_mixing([{"name": "mix_up"}], image_size_px=1, num_classes=5))
    images, labels = np.zeros((5, 1, 1, 3), np.float32), np.arange(5, dtype=np.int32)
    rows = [mixing(images, labels, seeds_of(5, seed))[1][0, 1:].numpy() for seed in range(200)]
    counts = np.bincount([1 + row.argmax() for row in rows if row.any()], minlength=5)
    assert stats.chisquare(counts[1:]).pvalue > FALSE_ALARM


def test_mix_up_is_the_weighted_mean_of_two_images():
    images, partners, weights, levels = mixed(["mix_up"], 32, alpha=1.0)
    expected = (1 - weights) * levels + weights * levels[partners]
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None], images.shape), atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("name", ["cut_mix", "fourier_mix"])
@pytest.mark.parametrize("size", [16, 31])
def test_label_weight_equals_the_partner_s_fraction_of_the_pixels(name, size):
    images, partners, weights, levels = mixed([name], 64, size=size)
    theirs = images == levels[partners][:, None, None]
    ours = images == levels[:, None, None]
    assert (theirs ^ ours).all(), "a pixel is neither the image's nor the partner's"
    count = theirs.sum(axis=(1, 2))
    np.testing.assert_array_equal(np.rint(weights * size**2), count)
    np.testing.assert_allclose(weights, count / size**2, atol=1e-7)
    assert len(set(count)) > 20


def test_cut_mix_pastes_one_rectangle_of_the_expected_area():
    """A square with side s, centered anywhere and cut off at the borders, covers s - s * s / 4 each way on average.

    Its area is even from 0 to 1, so that the mean share is the integral of (sqrt(w) - w / 4)^2 = 1/2 - 1/5 + 1/48.
    """
    shares = []
    for seed in range(20):
        images, _, weights, levels = mixed(["cut_mix"], 32, size=32, seed=seed)
        theirs = images != levels[:, None, None]
        rows, columns = theirs.any(axis=2), theirs.any(axis=1)
        np.testing.assert_array_equal(theirs, rows[:, :, None] & columns[:, None, :])
        for line in (*rows, *columns):
            assert (np.diff(np.flatnonzero(line)) == 1).all(), "not in one piece"
        shares.extend(weights)
    error = np.std(shares) / np.sqrt(len(shares))
    # Tolerance in addition to the error of 640 samples: half a pixel of 32 in each direction.
    assert abs(np.mean(shares) - (1 / 2 - 1 / 5 + 1 / 48)) < 4 * error + 1 / 64


def test_fourier_mix_area_follows_beta():
    shares = np.concatenate([mixed(["fourier_mix"], 32, size=32, seed=s)[2] for s in range(10)])
    assert stats.kstest(shares, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("decay_power", [1.0, 3.0])
def test_fourier_mix_power_decays_equally_in_all_directions(size, decay_power):
    gray = low_frequencies(StatelessGenerator(seeds_of(400), 0), 400, (size, size), decay_power).numpy()
    power = (np.abs(np.fft.fft2(gray.astype(np.float64))) ** 2).mean(axis=0)
    down, right = power[1:9, 0], power[0, 1:9]
    diagonal = power[np.arange(1, 7), np.arange(1, 7)]
    whole, slanted = np.arange(1, 9), np.arange(1, 7) * np.sqrt(2)
    for line, frequency in ((down, whole), (right, whole), (diagonal, slanted)):
        slope, height = np.polyfit(np.log(frequency), np.log(line), 1)
        # Each mean of 400 powers is off by 5 to 7%; a factor 2, which half a spectrum would give, is 0.69.
        assert abs(slope + 2 * decay_power) < 0.2
        assert abs(height - np.log(diagonal[0]) - decay_power * np.log(2)) < 0.3


def test_each_image_gets_one_of_several_mixings_equally_often():
    """Constant images: after MixUp they are constant at a new value, after CutMix they have two of the original values."""
    flat = 0
    for seed in range(10):
        names = ["mix_up", "fourier_mix"]
        images, partners, weights, levels = mixed(names, 40, seed=seed, alpha=20.0)
        for image, own, other, weight in zip(images, levels, levels[partners], weights, strict=True):  # fmt: skip
            if np.ptp(image) < 1e-3:
                flat += 1
                assert image.mean() == pytest.approx((1 - weight) * own + weight * other, abs=1e-3)  # fmt: skip
            else:
                assert set(np.unique(image)) == {own, other}
                assert (image == other).mean() == pytest.approx(weight)
    assert stats.binomtest(flat, 400).pvalue > FALSE_ALARM


def test_probability_is_the_fraction_of_mixed_images():
    weights = np.concatenate(
        [mixed(["mix_up"], 40, seed=s, alpha=5.0, apply_probability=0.3)[2] for s in range(10)]
    )
    assert stats.binomtest(int((weights > 0).sum()), 400, 0.3).pvalue > FALSE_ALARM


def test_partners_weights_and_choices_are_not_correlated_with_those_of_the_next_epoch():
    first, second = (mixed(["mix_up"], 400, size=1, seed=s, alpha=1.0) for s in (1, 2))
    pairs = [(first[2], second[2]), (first[1], second[1]), (first[1], first[2])]
    for left, right in pairs:
        assert stats.pearsonr(left, right).pvalue > FALSE_ALARM


@pytest.mark.parametrize("label", [-1, 3])
def test_invalid_label_raises_an_error(label):
    mixing = build_mixing([{"name": "mix_up"}], image_size_px=8, num_classes=3)
    labels = tf.constant([0, label], tf.int32)
    batches = tf.data.Dataset.from_tensors((np.zeros((2, 8, 8, 3), np.float32), labels, seeds_of(2)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels from 0 to 2"):
        list(batches.map(mixing))


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"name": "mixup"}, "unknown mixing operation 'mixup'. Did you mean 'mix_up'?"),
        ({"alpha": 1.0}, "Missing required key 'name'"),
        ({"name": "mix_up", "alfa": 1.0}, "alfa: unknown argument. Did you mean 'alpha'?"),
        ({"name": "cut_mix", "alpha": -0.1}, "alpha: must be a number from 0 to 100, got -0.1"),
        ({"name": "cut_mix", "alpha": float("nan")}, "alpha: must be a number"),
        ({"name": "fourier_mix", "apply_probability": 30}, "apply_probability: must be a fraction from 0 to 1"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused_with_the_allowed_values(operation, message):
    with pytest.raises(RequestError) as caught:
        build_mixing([operation], image_size_px=8, num_classes=2)
    assert message in str(caught.value)


def test_mixing_requires_two_classes():
    with pytest.raises(RequestError, match=r"at least two classes\. Received 1"):
        build_mixing([{"name": "mix_up"}], image_size_px=8, num_classes=1)


def test_mixed_precision_policy_does_not_round_images_or_labels():
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
    labels = np.array([257, 256, 258, 299], np.int32)
    every = [{"name": name} for name in NAMES]

    def result():
        mixing = build_mixing(every, image_size_px=16, num_classes=300)
        return [part.numpy() for part in mixing(images, labels, seeds_of(4))]

    expected = result()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed_images, rows = result()
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed_images.tobytes() == expected[0].tobytes()
    assert rows.tobytes() == expected[1].tobytes()
    assert set(np.nonzero(rows)[1]) <= {256, 257, 258, 299}
    assert (rows[np.arange(4), labels] > 0).all()


@pytest.mark.slow
def test_parallel_calls_do_not_change_the_bytes():
    images = np.random.default_rng(0).uniform(0, 255, (24, 16, 16, 3)).astype(np.float32)
    labels = np.arange(24, dtype=np.int32) % 3
    mixing = build_mixing([{"name": name} for name in NAMES], image_size_px=16, num_classes=3)
    batches = tf.data.Dataset.from_tensor_slices((images, labels, seeds_of(24))).batch(5)
    runs = [
        [
            part.numpy().tobytes()
            for batch in batches.map(mixing, num_parallel_calls=calls, deterministic=True)
            for part in batch
        ]
        for calls in (1, tf.data.AUTOTUNE)
    ]
    assert len(runs[0]) == 10
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("images", "labels", "seeds", "message"),
    [
        (np.zeros((2, 8, 8, 3)), [0, 1], seeds_of(2), r"images: expected shape \[batch, 16, 16, 3\]"),
        (np.zeros((2, 16, 16, 3)), [0, 1], seeds_of(3), "2 images and 3 seeds"),
        (np.zeros((2, 16, 16, 3)), [0, 1, 1], seeds_of(2), r"labels: expected shape \[2\]\. Received \[3\]"),
        (
            np.zeros((2, 16, 16, 3)),
            np.eye(2),
            seeds_of(2),
            r"labels: expected shape \[2\]\. Received \[2, 2\]",
        ),
        (np.zeros((2, 16, 16, 3)), [0.0, 1.0], seeds_of(2), "labels: expected integers"),
    ],
)
def test_what_has_another_shape_or_kind_is_refused_by_name(images, labels, seeds, message):
    mixing = build_mixing([{"name": "mix_up"}], image_size_px=16, num_classes=2)
    with pytest.raises(RequestError, match=message):
        mixing(images, labels, seeds)
