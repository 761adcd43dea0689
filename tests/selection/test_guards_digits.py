"""The three guards on real images: random rectified features of the digits 0 to 4 of scikit-learn."""

import numpy as np
import pytest
from make_evidence import in_eight_of_ten_seeds, linear_model
from sklearn.datasets import load_digits

from kerastl.selection import Evidence, Outputs
from kerastl.selection.decision import evaluate_guards

KNOWN, UNKNOWN = 5, 6
PIXELS, DIGITS = load_digits(return_X_y=True)
AXES = np.random.default_rng(0).normal(size=(64, 300)) / 32
BIAS = 0.3 * np.random.default_rng(1).normal(size=300)


def features(pixels):
    return np.maximum(pixels @ AXES + BIAS, 0).astype(np.float32)


def with_other_prevalence(target):
    """Return all zeros and ones, and a fifth of the other digits."""
    few = [target[DIGITS[target] == digit] for digit in (0, 1)]
    return np.concatenate([*few, target[DIGITS[target] > 1][::5]])


def with_another_digit(target, generator):
    others = generator.permutation(np.flatnonzero(DIGITS == UNKNOWN))[:75]
    return np.concatenate([others, target[75:]])


def fired(case, seed):
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.flatnonzero(DIGITS < KNOWN))
    train, val, target = order[:300], order[300:550], order[550:850]
    if case == "prevalence":
        target = with_other_prevalence(target)
    if case == "unknown":
        target = with_another_digit(target, generator)
    pixels = PIXELS[target]
    if case == "noise":
        pixels = np.clip(pixels + 3 * generator.normal(size=pixels.shape), 0, 16)
    if case == "contrast":
        pixels = 0.6 * pixels + 2
    model = linear_model(features(PIXELS[train]), DIGITS[train])
    parts = [
        Outputs(features(PIXELS[rows]), model(features(PIXELS[rows])), DIGITS[rows]) for rows in (train, val)
    ]
    target_outputs = Outputs(features(pixels), model(features(pixels)))
    evidence = Evidence(*parts, target_outputs, tuple("01234"))
    return {name for name, guard in evaluate_guards(evidence, seed=seed).items() if guard.fired}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name"),
    [("equal", "nothing_to_adapt"), ("prevalence", "other_prevalence"), ("unknown", "unknown_class")],
)
def test_guards_detect_their_case_in_eight_of_ten_seeds(case, name):
    assert in_eight_of_ten_seeds(lambda seed: name in fired(case, seed))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["noise", "contrast"])
def test_another_scanner_fires_a_guard_in_at_most_two_of_ten_seeds(case):
    assert in_eight_of_ten_seeds(lambda seed: not fired(case, seed))
