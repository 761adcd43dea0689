"""How many pictures a server puts together at most, told once for its settings and for its warm-up. No TensorFlow."""

from __future__ import annotations

MOST_PICTURES = 32
MOST_PIXELS = MOST_PICTURES * 320 * 320
"""Pixels of a batch. Beyond, the activations of a large network would not fit the memory that the server is given."""


def batch_sizes(image_size_px: int) -> tuple[int, ...]:
    """Return the sizes that a server brings its batches to: powers of two from 1 on, 32 at most.

    Args:
        image_size_px: side of the square picture that the model sees, in pixels.
    """
    sizes = [1]
    while 2 * sizes[-1] <= MOST_PICTURES and 2 * sizes[-1] * image_size_px**2 <= MOST_PIXELS:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)
