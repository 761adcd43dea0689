"""Hold back what TensorFlow says of many runs in one process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

RETRACING = "triggered tf.function retracing"


@contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Hold back the warning that a function is traced again and again: each run traces its own, once."""
    logger = logging.getLogger("tensorflow")

    def keep(record: logging.LogRecord) -> bool:
        return RETRACING not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
