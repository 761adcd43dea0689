"""Evidence of models on two random hospitals with normally distributed classes."""

import dataclasses
from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression

from kerastl.selection import Evidence, Outputs

WIDTH = 24
CLASS_DISTANCE = 4.0
IMAGES_PER_PATIENT = 5


def random_axes(seed):
    return np.linalg.qr(np.random.default_rng(1000 + seed).normal(size=(WIDTH, WIDTH)))[0]


def draw_domain(seed, *, patients=60, shares=(0.5, 0.5), shift=0.0, stretch=1.0, unknown=0.0, axes_seed=0):
    """Return features, labels and patients. Class means are `CLASS_DISTANCE` apart.

    shift: shift along the direction between the classes (as a fraction of their distance), and across it.
    unknown: fraction of patients of an unknown class.
    """
    generator, axes = np.random.default_rng(seed), random_axes(axes_seed)
    means = axes[: len(shares)] * CLASS_DISTANCE / np.sqrt(2)
    labels = generator.choice(len(shares), size=patients, p=shares)
    centers = means[labels] + 0.5 * generator.normal(size=(patients, WIDTH))
    is_unknown = generator.random(patients) < unknown
    centers[is_unknown] += axes[7] * 1.5 * CLASS_DISTANCE - means[labels[is_unknown]]
    features = np.repeat(centers, IMAGES_PER_PATIENT, axis=0)
    features += generator.normal(size=features.shape)
    features = features * stretch + shift * CLASS_DISTANCE * ((axes[0] - axes[1]) / np.sqrt(2) + axes[5])
    groups = tuple(f"p{patient}" for patient in np.repeat(np.arange(patients), IMAGES_PER_PATIENT))
    return features.astype(np.float32), np.repeat(labels, IMAGES_PER_PATIENT), groups


def linear_model(features, labels):
    """Return logits of a fitted logistic regression."""
    model = LogisticRegression(C=0.1, max_iter=500).fit(features, labels)

    def logits(images):
        scores = model.decision_function(images)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros(len(scores)), scores])
        return scores.astype(np.float32)

    return logits


@cache
def make_source_only(seed, *, source=(0.5, 0.5), patients=60, **target):
    """Return the evidence of a model without adaptation, and the true labels of the target."""
    train = draw_domain(10 * seed, patients=2 * patients, shares=source, axes_seed=seed)
    val = draw_domain(10 * seed + 1, patients=patients, shares=source, axes_seed=seed)
    there = draw_domain(10 * seed + 2, **({"patients": patients, "shares": source} | target), axes_seed=seed)
    model = linear_model(train[0], train[1])
    parts = [Outputs(part[0], model(part[0]), part[1], part[2]) for part in (train, val)]
    target_part = Outputs(there[0], model(there[0]), None, there[2])
    names = tuple(f"class {number}" for number in range(len(source)))
    return Evidence(*parts, target_part, names), there[1]


def with_target(evidence, features=None, logits=None, mixed=None):
    """Return the same evidence with other outputs on the target."""
    target = evidence.target
    changed = Outputs(
        target.features if features is None else features,
        target.logits if logits is None else logits, None, target.groups,
    )  # fmt: skip
    return Evidence(evidence.source_train, evidence.source_val, changed, evidence.class_names, mixed)


def logits_for(labels, *, classes=2, certainty=3.0, seed=0):
    """Return logits of a model that predicts `labels` with varying confidence."""
    noise = 0.3 * np.random.default_rng(seed).normal(size=(len(labels), classes))
    return (certainty * np.eye(classes)[labels] + noise).astype(np.float32)


def accurate_on_source(evidence, *, certainty=6.0):
    """Return the same evidence of a model that is correct on source validation images."""
    val = evidence.source_val
    logits = logits_for(val.labels, classes=len(evidence.class_names), certainty=certainty)
    return dataclasses.replace(evidence, source_val=Outputs(val.features, logits, val.labels, val.groups))


def in_eight_of_ten_seeds(holds):
    """Return whether `holds(seed)` is true for at least eight of the seeds 0 to 9; stop once this is decided."""
    misses = 0
    for seed in range(10):
        misses += not holds(seed)
        if misses > 2 or seed + 1 - misses == 8:
            break
    return misses <= 2
