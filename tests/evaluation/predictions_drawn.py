"""Answers of a model that never was."""

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
