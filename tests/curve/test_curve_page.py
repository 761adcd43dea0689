"""The image and the page: the same bytes for the same points, everything escaped, nothing loaded."""

import re
from dataclasses import replace

import pytest
from make_curves import STRATEGIES, make_curve
from PIL import Image

from kerastl.report import write_curve_image, write_curve_page

SCORES = {
    (strategy, number): [0.5 + 0.03 * number, 0.52 + 0.03 * number, None]
    for strategy in STRATEGIES
    for number in (0, 1, 10)
    if number or strategy != "scratch"
}


def test_the_page_contains_every_point_escaped_and_loads_nothing(tmp_path):
    curve = make_curve(SCORES, recipe="<script>a & b</script>", notes=("<b>note</b>",))
    text = write_curve_page(tmp_path, curve).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;a &amp; b&lt;/script&gt;" in text
    assert "&lt;b&gt;note&lt;/b&gt;" in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    rows = re.findall(r"<tr><td class=\"text\">(runs/[^<]+)</td>", text)
    assert rows == [point.run for point in curve.points]
    assert "the loss became nan" in text


def test_the_page_states_where_no_model_was_adapted(tmp_path):
    curve = make_curve(SCORES)
    kept = [replace(test, method="source_only", verdict="cannot_tell") for test in curve.tests]
    curve = replace(curve, tests=tuple(kept))
    text = write_curve_page(tmp_path, curve).read_text()
    # On its card and for each of three seeds.
    assert text.count("A&#39;s model was kept (source_only)") == 4
    assert "adabn" not in text


def test_plot_and_page_are_reproducible(tmp_path):
    curve = make_curve(SCORES)
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        write_curve_image(folder / "curve.png", curve)
        write_curve_page(folder, curve)
        written.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert written[0] == written[1]
    with Image.open(tmp_path / "one" / "curve.png") as image:
        assert image.size == (960, 600)


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_of_one_seed_and_of_more_than_two_classes_are_drawn(tmp_path, seeds):
    scores = {key: [0.4] * seeds for key in SCORES}
    curve = replace(make_curve(scores, seeds=seeds), metric="balanced_accuracy", unit="image")
    text = write_curve_page(tmp_path, curve).read_text()
    assert "balanced accuracy at B by labeled images" in text
    write_curve_image(tmp_path / "curve.png", curve)
