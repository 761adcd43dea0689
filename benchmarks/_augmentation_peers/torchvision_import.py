"""torchvision beside a torch of another kind."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def skip_detection_operations() -> Iterator[None]:
    """Import torchvision, also where its compiled part was built for another kind of torch.

    PyPI's torchvision is built for CUDA and cannot load that part beside a torch for CPUs; then it stops at the
    declarations of operations for detection, which no transform and no classifier uses. Here those are passed over.
    """
    declare = torch.library.register_fake

    def register_if_available(name, *arguments, **options):
        def register(function):
            try:
                return declare(name, *arguments, **options)(function)
            except RuntimeError:
                return function

        ours = str(name).startswith("torchvision::")
        return register if ours else declare(name, *arguments, **options)

    torch.library.register_fake = register_if_available
    try:
        yield
    finally:
        torch.library.register_fake = declare
