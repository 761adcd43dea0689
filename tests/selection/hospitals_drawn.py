"""Two hospitals drawn from normal classes, and models of them that are right, collapsed, or torn."""

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression

from kerastl.selection import Evidence, Outputs

WIDTH = 24
APART = 4.0
IMAGES = 5


def axes_of(seed):
    return np.linalg.qr(np.random.default_rng(1000 + seed).normal(size=(WIDTH, WIDTH)))[0]


def drawn(seed, *, patients=60, shares=(0.5, 0.5), shift=0.0, stretch=1.0, unknown=0.0, axes_seed=0):
    """Features, labels and patients. Classes are `APART` apart, patients differ, images of one patient less so.

    shift: how far along what tells the classes apart (as a share of their distance), and as far across it.
    unknown: the share of patients of a class that lies elsewhere.
    """
    generator, axes = np.random.default_rng(seed), axes_of(axes_seed)
    means = axes[: len(shares)] * APART / np.sqrt(2)
    labels = generator.choice(len(shares), size=patients, p=shares)
    middle = means[labels] + 0.5 * generator.normal(size=(patients, WIDTH))
    strange = generator.random(patients) < unknown
    middle[strange] += axes[7] * 1.5 * APART - means[labels[strange]]
    features = np.repeat(middle, IMAGES, axis=0)
    features += generator.normal(size=features.shape)
    features = features * stretch + shift * APART * ((axes[0] - axes[1]) / np.sqrt(2) + axes[5])
    groups = tuple(f"p{patient}" for patient in np.repeat(np.arange(patients), IMAGES))
    return features.astype(np.float32), np.repeat(labels, IMAGES), groups


def linear_model(features, labels):
    """Return logits of a fitted logistic regression."""
    model = LogisticRegression(C=0.1, max_iter=500).fit(features, labels)

    def logits(images):
        told = model.decision_function(images)
        if told.ndim == 1:
            told = np.column_stack([np.zeros(len(told)), told])
        return told.astype(np.float32)

    return logits


def source_only(seed, *, source=(0.5, 0.5), patients=60, **target):
    """Return the evidence of a model that was not adapted, and the target's true labels."""
    train = drawn(10 * seed, patients=2 * patients, shares=source, axes_seed=seed)
    val = drawn(10 * seed + 1, patients=patients, shares=source, axes_seed=seed)
    there = drawn(10 * seed + 2, **({"patients": patients, "shares": source} | target), axes_seed=seed)
    model = linear_model(train[0], train[1])
    parts = [Outputs(part[0], model(part[0]), part[1], part[2]) for part in (train, val)]
    target_part = Outputs(there[0], model(there[0]), None, there[2])
    names = tuple(f"class {place}" for place in range(len(source)))
    return Evidence(*parts, target_part, names), there[1]


def with_target(evidence, features=None, logits=None, mixed=None):
    """The same evidence with other outputs at the target."""
    target = evidence.target
    changed = Outputs(
        target.features if features is None else features,
        target.logits if logits is None else logits, None, target.groups,
    )  # fmt: skip
    return Evidence(evidence.source_train, evidence.source_val, changed, evidence.class_names, mixed)


def logits_for(labels, *, classes=2, certainty=3.0, seed=0):
    """Logits of a model that answers `labels`, not always equally surely."""
    noise = 0.3 * np.random.default_rng(seed).normal(size=(len(labels), classes))
    return (certainty * np.eye(classes)[labels] + noise).astype(np.float32)


def able(evidence, *, certainty=6.0):
    """The same of a model that is right about the source's validation images, and so may be as sure of the target."""
    val = evidence.source_val
    logits = logits_for(val.labels, classes=len(evidence.class_names), certainty=certainty)
    return dataclasses.replace(evidence, source_val=Outputs(val.features, logits, val.labels, val.groups))
