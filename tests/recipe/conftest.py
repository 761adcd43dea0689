from collections.abc import Iterator

import plug_ins_drawn
import pytest

from kerastl import registry


@pytest.fixture
def made_up_plug_ins() -> Iterator[None]:
    """Replace the plug-ins of kerastl by those of `plug_ins_drawn`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "names", plug_ins_drawn.names_of)
        patch.setattr(registry, "options_of", plug_ins_drawn.options_of)
        yield
