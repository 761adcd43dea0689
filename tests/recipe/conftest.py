from collections.abc import Iterator

import example_plug_ins
import pytest

from kerastl import registry


@pytest.fixture
def made_up_plug_ins() -> Iterator[None]:
    """Replace the plug-ins of kerastl by those of `example_plug_ins`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "has", example_plug_ins.has)
        patch.setattr(registry, "names", example_plug_ins.names_of)
        patch.setattr(registry, "options_of", example_plug_ins.options_of)
        yield
