"""The proofs that a run ends with: what holds is written down, what does not stops the run with exit code 3."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from runs_drawn import RECIPE

from kerastl import recipe as recipes
from kerastl.data import Record
from kerastl.runs import Run
from kerastl.workflows import Datasets, check_consistency

SHORT = ["--set", "phases[0].epochs=1", "--set", "augment={operations: []}"]


def sheet_of(run: Path) -> dict:
    return json.loads((run / "freeze.json").read_text())


@keras.saving.register_keras_serializable("kerastl_tests")
class AlwaysNoisy(keras.layers.GaussianNoise):
    """Noise that does not heed `training=False`."""

    def call(self, x, training=False):
        return super().call(x, training=True)


def noisy(build):
    """Return what builds a model as before, with such a layer before the head."""

    def built(*args, **options):
        model = build(*args, **options)
        features = AlwaysNoisy(0.1, seed=1, name="noise")(model.get_layer("head").input)
        return keras.Model(model.inputs[0], model.get_layer("head")(features), name=model.name)

    return built


@pytest.mark.slow
def test_a_model_that_answers_otherwise_the_second_time_fails_and_all_else_is_kept(
    kerastl, recipe, tmp_path, monkeypatch
):
    from kerastl.workflows import model as building

    monkeypatch.setattr(building, "build_model", noisy(building.build_model))
    out = tmp_path / "run"
    answer = kerastl("run", recipe, *SHORT, "--out", out)
    assert answer.code == 3, answer.err
    assert "two passes" in answer.err
    assert "8 of 8 images got other logits" in answer.err
    assert "--resume" not in answer.err
    told = sheet_of(out)["two_passes"]
    assert told["differ"] == told["images"] == 8
    assert len(sheet_of(out)["phases"]) == 2
    kept = {path.name for path in out.iterdir()}
    assert kept >= {"model.keras", "predictions.csv", "scores.json", "history.jsonl", "report.html"}
    assert "finished.json" not in kept
    assert "FAULT" in (out / "report.html").read_text()


@pytest.mark.slow
def test_an_export_that_decodes_otherwise_fails_and_an_honest_one_passes(
    kerastl, recipe, tmp_path, monkeypatch
):
    from kerastl.export import endpoints

    formats = ["--set", "export.formats=[saved_model]"]
    for name in ("one", "two"):
        answer = kerastl("run", recipe, *SHORT, *formats, "--out", tmp_path / name)
        assert answer.code == 0, answer.err
    told = sheet_of(tmp_path / "one")["exports"]["saved_model"]
    assert (told["split"], told["files"], told["without_file"]) == ("validation", 8, 0)
    assert told["folder"] == "export/saved_model/1"
    assert told["pixels"] == {"compared": True, "differ": 0, "largest_difference": 0.0}
    assert told["predictions"]["largest_difference"] <= told["predictions"]["allowed"] == 1e-4
    assert sheet_of(tmp_path / "one")["two_passes"]["differ"] == 0
    one, two = ((tmp_path / name / "freeze.json").read_bytes() for name in ("one", "two"))
    assert one == two

    load = endpoints.load_image
    monkeypatch.setattr(endpoints, "load_image", lambda *args, **kw: load(*args, **kw)[:, ::-1])
    answer = kerastl("run", recipe, *SHORT, *formats, "--out", tmp_path / "mirrored")
    assert answer.code == 3, answer.err
    assert "export saved_model: its graph makes other pixels" in answer.err
    told = sheet_of(tmp_path / "mirrored")["exports"]["saved_model"]
    assert told["pixels"]["differ"] == 8
    assert (tmp_path / "mirrored" / "export" / "saved_model" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_batch_norm_that_follows_though_the_phase_says_frozen_fails(kerastl, recipe, tmp_path, monkeypatch):
    from kerastl.training import freeze

    def forgets(layer, rule, chosen):
        layer.trainable = True

    rule = ["--set", "phases[1].batch_norm=frozen", "--set", "phases[1].trainable=all"]
    assert kerastl("run", recipe, *SHORT, *rule, "--out", tmp_path / "good").code == 0
    monkeypatch.setattr(freeze, "_set_batch_norm", forgets)
    answer = kerastl("run", recipe, *SHORT, *rule, "--out", tmp_path / "run")
    assert answer.code == 3, answer.err
    assert "6 of them are BatchNorm statistics, and the phase says batch_norm: frozen" in answer.err
    told = sheet_of(tmp_path / "run")["phases"]
    assert told[0]["faults"] == []
    assert told[1]["batch_norm"]["changed"] == 3
    assert sheet_of(tmp_path / "good")["phases"][1]["batch_norm"]["changed"] == 0


def drawn_images(folder: Path, splits: list[str], *, on_disk: bool) -> Datasets:
    records = tuple(
        Record(f"tfds:drawn/{split}/{row}", folder / f"{split}-{row}.png", "dark", split)
        for row, split in enumerate(splits)
    )
    if on_disk:
        for record in records:
            keras.utils.save_img(record.file, np.full((32, 32, 3), 7.0), scale=False)
    return Datasets(
        records, ("dark", "light"), 32, None, "none", None, None, (), {}, (),
    )  # fmt: skip


def test_without_validation_images_or_files_the_sheet_says_so(recipe, tmp_path):
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2)(pooled))
    checked = recipes.check(
        RECIPE.format(path=tmp_path), name="small",sets=["export.formats=[saved_model]"],
    )  # fmt: skip
    run = Run(tmp_path)
    run.write_json("freeze.json", {"phases": []})
    check_consistency(checked, model, drawn_images(tmp_path, ["train", "test"], on_disk=False), run)
    told = sheet_of(tmp_path)
    assert told["phases"] == []
    assert told["two_passes"]["reason"] == "there are no validation images"
    assert told["exports"]["saved_model"] == {
        "split": "training", "files": 0, "without_file": 1, "faults": [],
        "reason": "no image lies as a file of its own",
    }  # fmt: skip

    check_consistency(checked, model, drawn_images(tmp_path, ["val", "val", "test"], on_disk=True), run)
    told = sheet_of(tmp_path)
    assert (told["two_passes"]["images"], told["two_passes"]["differ"]) == (2, 0)
    assert told["exports"]["saved_model"]["files"] == 2
    assert "no export" in told["exports"]["saved_model"]["reason"]
