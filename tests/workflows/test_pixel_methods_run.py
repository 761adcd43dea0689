"""A recipe with methods that change pixels: their images are decoded at each step, without a cache."""

import pytest
import yaml
from make_runs import draw_hospitals, two_hospitals_recipe

from kerastl import recipe as recipes
from kerastl.report.figures import SHEET, style_sheet_url
from kerastl.workflows.check_recipe import check_recipe
from kerastl.workflows.resolve import method_phases

NAMES = ["histogram_matching", "reinhard", "fda", "strong_augmentation", "fixmatch"]
LIGHT = "{name: strong_augmentation, policy: light}, {name: fixmatch, policy: light, threshold: 0.5}"
ALL = f"[mcc, {{name: fda, beta: 0.1}}, histogram_matching, reinhard, {LIGHT}]"


@pytest.fixture
def written(tmp_path):
    draw_hospitals(tmp_path, 16)

    def write(epochs=1, methods=ALL):
        file = tmp_path / "style.yaml"
        adapt = "learning_rate: 1e-3, trainable: none, batch_norm: frozen"
        text = two_hospitals_recipe(tmp_path, source_epochs=1, epochs=epochs, adapt=adapt, methods=methods)
        file.write_text(text)
        return file

    return write


def loaded(file, *sets):
    return check_recipe(recipes.find(str(file)), sets)


def test_automatic_caching_is_disabled_if_a_method_changes_pixels(written):
    file = written()
    (phase,) = method_phases(loaded(file))
    assert phase.cache == "none"
    (phase,) = method_phases(loaded(file, "adaptation.methods=[mcc, jan]"))
    assert phase.cache == "auto"
    (phase,) = method_phases(loaded(file, "phases[1].cache=features"))
    assert phase.cache == "features"  # an explicit value is kept, and refused later


def test_an_explicit_cache_is_refused_before_anything_is_written(kerastl, written, tmp_path):
    answer = kerastl("run", written(), "--out", tmp_path / "run", "--set", "phases[1].cache=features")
    assert answer.code == 1
    for name in NAMES:
        assert f"phase adapt: {name} " in answer.err
    assert "mcc" not in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("unlabelled")
def test_a_run_with_methods_that_change_pixels_shows_them_and_caches_no_image(drawing):
    assert set(drawing.json("adaptation.json")["candidates"]) >= {"fda", "fixmatch"}
    resolved = yaml.safe_load((drawing.path / "recipe.resolved.yaml").read_text())
    assert resolved["phases"][1]["cache"] == "none"
    assert (drawing.path / SHEET).is_file()
    assert style_sheet_url(drawing.path) in (drawing.path / "report.html").read_text()
