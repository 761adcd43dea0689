"""A small folder of drawn images, a small recipe on it, and the command line called in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs_drawn import RECIPE
from runs_drawn import draw as draw


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    draw(folder / "dark", 20, 1, light=False)
    draw(folder / "light", 20, 2, light=True)
    return folder


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE.format(path=images))
    return file


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def kerastl(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call the command line in this process, errors and exit codes and all."""
    from kerastl.cli import main

    def call(*words: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        text = capfd.readouterr()
        assert "Traceback" not in text.err
        return Answer(int(left.value.code or 0), text.out, text.err)

    return call
