"""Import torchvision with a torch build of another kind."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def skip_detection_operations() -> Iterator[None]:
    """Import torchvision even if its compiled extension does not match the installed torch.

    The torchvision wheel on PyPI is built for CUDA. With a CPU build of torch, its extension does not load, and the import fails when
    detection operations are registered, which no transform or classifier uses. Skip these registrations.
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
