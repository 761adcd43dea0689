"""Enlarged digits of scikit-learn, and augmentation in NumPy, to test the statistics without TensorFlow."""

import numpy as np
from sklearn.datasets import load_digits

from kerastl.audit import FIXED_WIDTHS, Trial, audit, fixed_features
from kerastl.options import StrictModel


class Change(StrictModel):
    """An augmentation, by name."""

    what: str
    apply_probability: float = 1.0


def digits(label, number=140):
    """Images `[n, 24, 24, 3]` float32 in [0, 255] of one digit."""
    dataset = load_digits()
    images = dataset.images[dataset.target == label][:number]
    return np.repeat(np.kron(images * 255 / 16, np.ones((3, 3)))[..., None], 3, axis=-1).astype(np.float32)


def _half(images, generator, changed):
    chosen = generator.random(len(images)) < 0.5
    return np.where(chosen[:, None, None, None], changed, images)


def _levels(images, generator, most):
    return np.clip(images + generator.uniform(-most, most, (len(images), 1, 1, 1)), 0, 255)


CHANGES = {
    "turn": lambda x, g: _half(x, g, x[:, ::-1, ::-1]),
    "mirror": lambda x, g: _half(x, g, x[:, :, ::-1]),
    "shift": lambda x, g: np.roll(x, g.integers(-1, 2), axis=2),
    "brightness": lambda x, g: _levels(x, g, 90.0),
    "faint": lambda x, g: _levels(x, g, 15.0),
    "colours": lambda x, g: _half(x, g, x[..., [1, 2, 0]]),
    "grey": lambda x, g: np.repeat(x.mean(axis=-1, keepdims=True), 3, axis=-1),
    "invert": lambda x, g: _half(x, g, 255 - x),
    "blank": lambda x, g: np.zeros_like(x),
    "nothing": lambda x, g: x,
}


def audited(first, second, what, *, seed=0, groups=None, names=("A", "B")):
    """Audit two classes of images under changes by name; each is a trial at strength 1."""
    images = np.concatenate([first, second])
    labels = [names[0]] * len(first) + [names[1]] * len(second)
    units = groups or [str(row) for row in range(len(images))]
    trials = [Trial(name, 1.0, Change(what=name), Change(what=name)) for name in what]

    def changed(trial, draw):
        generator = np.random.default_rng([seed, draw, *trial.name.encode()])
        return fixed_features(CHANGES[trial.name](images, generator).astype(np.float32))

    return audit(fixed_features(images), labels, units, trials, changed, widths=FIXED_WIDTHS, seed=seed)


def states(result):
    """Return the verdict of each operation."""
    return {verdict.name: verdict.state for verdict in result.verdicts}


def kinds(result):
    """Return the kinds of all harmful effects."""
    return {finding.kind for verdict in result.verdicts for finding in verdict.findings}
