"""Linear algebra in one thread: thousands of small products, which threads only keep waiting, and sums in one order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy, SciPy and scikit-learn multiply in one thread inside; TensorFlow is not touched.

    Beside other work on two cores the guards of a choice take a seventh of the time so (21 s instead of 152), as k-means and its kind
    wait for each other's threads; and last digits no longer depend on how many cores there are.
    """
    import sklearn.cluster  # noqa: F401 - what is not loaded by now would not be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
