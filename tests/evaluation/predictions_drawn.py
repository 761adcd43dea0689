"""Answers of a model that never was."""

import dataclasses

import numpy as np

from kerastl.evaluation import Predictions


def made(count=120, classes=2, groups=30, seed=0, signal=1.5, domains=("a",)) -> Predictions:
    generator = np.random.default_rng(seed)
    owner = np.arange(count) % groups
    labels = (owner % classes).astype(np.int32)
    logits = generator.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += signal
    return Predictions(
        tuple(f"p{row}.png" for row in range(count)),
        labels,
        logits,
        tuple(f"class{place}" for place in range(classes)),
        ("test",) * count,
        tuple(f"g{one}" for one in owner),
        tuple(domains[one % len(domains)] for one in owner),
    )


def together(*parts: Predictions) -> Predictions:
    """The rows of several, one after the other."""
    texts = {
        name: sum((getattr(one, name) for one in parts), ())
        for name in ("paths", "splits", "groups", "domains")
    }
    labels = np.concatenate([one.labels for one in parts])
    logits = np.concatenate([one.logits for one in parts])
    return Predictions(labels=labels, logits=logits, class_names=parts[0].class_names, **texts)


def with_validation(classes=2, count=300, shift=0.0) -> Predictions:
    """Splits val, test and target_test; at the target the logits of the last class are shifted."""
    parts = []
    for seed, split in enumerate(("val", "test", "target_test")):
        one = made(count, classes=classes, groups=count // 5, seed=seed, domains=("ab"[seed == 2],))
        logits = one.logits.copy()
        logits[:, -1] += shift if split == "target_test" else 0.0
        parts.append(dataclasses.replace(one, splits=(split,) * count, logits=logits))
    return together(*parts)
