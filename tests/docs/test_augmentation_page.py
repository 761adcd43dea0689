"""The tables, code and images of docs/augmentation.md."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl import registry
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.presets import POLICIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "augmentation.md").read_text()
ROWS = dict(
    re.findall(
        r"^\| `(\w+)` \| (\w+) \|",
        PAGE.partition("<!-- operations: begin -->")[2].partition("<!-- operations: end -->")[0],
        re.MULTILINE,
    )
)


def test_each_operation_and_mixing_has_one_row():
    assert sorted(ROWS) == sorted(registry.names("operation") + registry.names("mixing"))
    assert {name for name, execution in ROWS.items() if execution == "mixing"} == set(
        registry.names("mixing")
    )


@pytest.mark.parametrize("name", registry.names("operation"))
def test_an_operation_is_executed_as_documented(name):
    options = registry.module("operation", name).at_strength(1.0)
    assert BuiltOperation(0, name, options, (32, 32)).lowering == ROWS[name]


def test_the_table_of_policies_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "policy_table.py"))
    hint = f"run: {Path(sys.executable).name} scripts/policy_table.py"
    assert script["written"](PAGE) == PAGE, hint
    assert all(f"\n**{name}**" in PAGE for name in POLICIES if name != "none")


def test_the_python_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    images = np.full((2, 224, 224, 3), 90, np.float32)
    names = {"images": images, "seeds": np.array([[1, 2], [3, 4]], np.int32)}
    exec(code, names)
    assert names["images"].shape == images.shape
    assert "random_flip" not in dict(names["operations"])


@pytest.mark.parametrize("name", ["augmentation_gallery.jpg", "augmentation_figure.jpg"])
def test_the_images_of_the_page_are_small_files(name):
    file = ROOT / "docs" / "images" / name
    assert file.stat().st_size < 200_000
    with Image.open(file) as image:
        assert min(image.size) > 300
