"""What every augmentation must keep true."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import registry
from kerastl.augment import build_policy

SIZE_PX = 24


def strongest(name: str) -> Any:
    """Return an operation's options with every strength in the middle of its range."""
    kind = registry.options_of("operation", name)
    assert kind is not None
    values = {"max_deg": 90.0, "max_fraction": 0.5}
    fields = {field.name for field in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in fields})


def check_augmentation(name: str) -> None:
    """Check one operation.

    - the same seeds give the same bytes; alone, an example comes out as in its batch (to 0.01 of 255, as
      sine and cosine round differently in the vector units of a processor and outside them);
    - another seed gives another picture;
    - size and range are kept, nothing becomes NaN, also on grey, black and white pictures;
    - probability 0 changes nothing;
    - no stateful random operation is in the graph.

    Args:
        name: of the operation.

    Raises:
        AssertionError: one of these does not hold.
    """
    options = strongest(name)
    policy = build_policy([(name, options)], image_size_px=SIZE_PX)
    images = _pictures()
    seeds = np.random.default_rng(5).integers(0, 2**31, (len(images), 2)).astype(np.int32)
    together = policy(images, seeds).numpy()
    for row in range(len(images)):
        alone = policy(images[row : row + 1], seeds[row : row + 1]).numpy()[0]
        assert np.abs(alone - together[row]).max() < 0.01, f"{name}: the batch changes row {row}"
    assert policy(images, seeds).numpy().tobytes() == together.tobytes(), f"{name}: not repeatable"
    assert together.shape == images.shape
    assert np.isfinite(together).all()
    assert together.min() >= 0
    assert together.max() <= 255
    other = policy(images, seeds + 1).numpy()
    assert not np.array_equal(other, together), f"{name}: another seed, the same pictures"
    never = build_policy(
        [(name, dataclasses.replace(options, apply_probability=0.0))], image_size_px=SIZE_PX
    )
    assert np.array_equal(never(images, seeds).numpy(), images)
    assert not stateful_random_operations(policy), f"{name}: a stateful random operation"


def _pictures() -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (24, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    images[0], images[1] = 0.0, 255.0
    images[2] = images[2].mean(axis=-1, keepdims=True)
    return images


def stateful_random_operations(policy: Any) -> list[str]:
    """Return the types of stateful random operations in the graph that tf.data would run."""
    graph = (
        tf.function(policy)
        .get_concrete_function(
            tf.TensorSpec([None, SIZE_PX, SIZE_PX, 3], tf.float32),
            tf.TensorSpec([None, 2], tf.int32),
        )
        .graph.as_graph_def()
    )
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    return [
        node.op for node in nodes if "Random" in node.op and not node.op.startswith("Stateless")
    ]
