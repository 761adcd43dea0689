"""The sheet of restyled images contains the given images, and is on the page if it exists."""

import base64
import io

import numpy as np
from PIL import Image

from kerastl.report import write_style_sheet
from kerastl.report.figures import CELL_PX, SHEET, style_sheet_url


def test_the_sheet_shows_each_pair_row_by_row(tmp_path):
    levels = {"source": 40.2, "target": 200.0, "histogram_matching": 90.0, "fda": 300.0}
    shown = {name: np.full((2, 16, 16, 3), level) for name, level in levels.items()}
    assert style_sheet_url(tmp_path) == ""
    source, target = shown.pop("source"), shown.pop("target")
    write_style_sheet(tmp_path, source, target, shown)
    sheet = np.asarray(Image.open(tmp_path / SHEET).convert("RGB"))
    counts = [int((sheet == level).all(axis=-1).sum()) for level in (40, 200, 90)]
    assert min(counts) >= 2 * CELL_PX**2  # two rows of each, and letters may have a level by chance
    url = style_sheet_url(tmp_path)
    encoded = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")) == sheet).all()
