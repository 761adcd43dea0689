"""A recipe whose methods change pixels: no cache stands in for the images, and a run goes on to the same bytes."""

import json

import pytest
import yaml
from runs_drawn import draw_hospitals, kill_run_when, two_hospitals_recipe

from kerastl import recipe as recipes
from kerastl.report.figures import SHEET, style_sheet_url
from kerastl.workflows.phase_data import phases_of_methods

NAMES = ["histogram_matching", "reinhard", "fda", "strong_augmentation", "fixmatch"]
LIGHT = "{name: strong_augmentation, policy: light}, {name: fixmatch, policy: light, threshold: 0.5}"
ALL = f"[mcc, {{name: fda, beta: 0.1}}, histogram_matching, reinhard, {LIGHT}]"
DRAWING = f"[{{name: fda, beta: 0.1, share: 0.5}}, {LIGHT}]"


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
    return recipes.load(str(file), sets=list(sets))


def test_a_cache_is_left_to_methods_that_change_no_pixel(written):
    file = written()
    (phase,) = phases_of_methods(loaded(file))
    assert phase.cache == "none"
    (phase,) = phases_of_methods(loaded(file, "adaptation.methods=[mcc, jan]"))
    assert phase.cache == "auto"
    (phase,) = phases_of_methods(loaded(file, "phases[1].cache=features"))
    assert phase.cache == "features"  # asked for: refused, and not overruled


def test_a_cache_that_is_asked_for_is_refused_before_anything_is_written(kerastl, written, tmp_path):
    answer = kerastl("run", written(), "--out", tmp_path / "run", "--set", "phases[1].cache=features")
    assert answer.code == 1
    for name in NAMES:
        assert f"phase adapt: {name} changes images at each step" in answer.err
    assert "mcc" not in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_run_of_methods_that_draw_goes_on_to_the_same_bytes(kerastl, written, tmp_path):
    names = ["fda", "strong_augmentation", "fixmatch"]
    recipe = written(epochs=4, methods=DRAWING)
    answer = kerastl("run", recipe, "--out", tmp_path / "whole", "--oracle")
    assert answer.code == 0, answer.err
    told = json.loads((tmp_path / "whole" / "adaptation.json").read_text())
    assert set(told["oracle"]) == {"source_only", *names}
    resolved = yaml.safe_load((tmp_path / "whole" / "recipe.resolved.yaml").read_text())
    assert resolved["phases"][1]["cache"] == "none"
    assert (tmp_path / "whole" / SHEET).is_file()
    assert style_sheet_url(tmp_path / "whole") in (tmp_path / "whole" / "report.html").read_text()
    out = tmp_path / "killed"
    kill_run_when(out / "runs" / "fixmatch" / "checkpoints" / "epoch-00002.npz", recipe, out)
    assert kerastl("run", recipe, "--out", out, "--resume", "--oracle").code == 0
    for name in ["adaptation.json", "predictions.csv"] + [
        f"runs/{one}/{file}" for one in names for file in ("history.jsonl", "predictions.csv")
    ]:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
