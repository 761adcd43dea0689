"""A picture file as Classify takes it: in a `tf.Example`, named as TensorFlow's own tools name it. No TensorFlow at import."""

from __future__ import annotations

from typing import Any

ENCODED = "image/encoded"
"""The feature that holds a whole picture file."""


def put_picture(example: Any, picture: bytes) -> None:
    """Put a whole picture file into an empty `tf.Example`."""
    example.features.feature[ENCODED].bytes_list.value.append(picture)
