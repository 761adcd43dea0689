"""A picture file as Classify takes it: in a `tf.Example`, named as TensorFlow's own tools name it. No TensorFlow at import."""

from __future__ import annotations

from typing import Any

ENCODED = "image/encoded"
"""The feature that holds a whole picture file."""


def put_picture(example: Any, picture: bytes) -> None:
    """Put a whole picture file into an empty `tf.Example`."""
    example.features.feature[ENCODED].bytes_list.value.append(picture)


def example_of(picture: bytes) -> bytes:
    """Return a serialized `tf.Example` that holds a whole picture file."""
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    put_picture(example, picture)
    return bytes(example.SerializeToString())
