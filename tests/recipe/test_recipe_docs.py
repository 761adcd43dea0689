import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"


@pytest.fixture
def tables():
    return runpy.run_path(str(ROOT / "scripts" / "recipe_table.py"))


def test_the_tables_of_the_page_match_the_schema(tables):
    remedy = f"run: {Path(sys.executable).name} scripts/recipe_table.py"
    assert tables["written"](PAGE.read_text()) == PAGE.read_text(), remedy


def test_every_key_has_a_meaning(tables):
    from kerastl.recipe import Recipe

    rows = tables["rows"](Recipe)
    assert len(rows) > 50
    assert [key for key, _, _, meaning in rows if not meaning] == []
