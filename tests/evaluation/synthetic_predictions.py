"""Synthetic predictions of a model."""

import dataclasses

import numpy as np

from kerastl.evaluation import Predictions


def make_predictions(count=120, classes=2, groups=30, seed=0, signal=1.5, domains=("a",)) -> Predictions:
    """Return predictions of the split `test` with random logits, higher by `signal` for the label."""
    generator = np.random.default_rng(seed)
    group_of = np.arange(count) % groups
    labels = (group_of % classes).astype(np.int32)
    logits = generator.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += signal
    return Predictions(
        tuple(f"p{row}.png" for row in range(count)),
        labels,
        logits,
        tuple(f"class{index}" for index in range(classes)),
        ("test",) * count,
        tuple(f"g{group}" for group in group_of),
        tuple(domains[group % len(domains)] for group in group_of),
    )


def concatenate(*parts: Predictions) -> Predictions:
    """Return the rows of all parts in order."""
    columns = {
        name: sum((getattr(part, name) for part in parts), ())
        for name in ("paths", "splits", "groups", "domains")
    }
    labels = np.concatenate([part.labels for part in parts])
    logits = np.concatenate([part.logits for part in parts])
    return Predictions(labels=labels, logits=logits, class_names=parts[0].class_names, **columns)


def make_splits(classes=2, count=300, shift=0.0) -> Predictions:
    """Return the splits val, test and target_test. At the target, the logits of the last class are shifted."""
    parts = []
    for seed, split in enumerate(("val", "test", "target_test")):
        part = make_predictions(
            count, classes=classes, groups=count // 5, seed=seed, domains=("ab"[seed == 2],)
        )
        logits = part.logits.copy()
        logits[:, -1] += shift if split == "target_test" else 0.0
        parts.append(dataclasses.replace(part, splits=(split,) * count, logits=logits))
    return concatenate(*parts)
