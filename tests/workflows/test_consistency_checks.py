"""The consistency checks at the end of a run: results are recorded, and a failed check exits with code 3."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from kerastl.data import Record
from kerastl.runs import Run
from kerastl.workflows import Datasets, check_consistency
from kerastl.workflows.exports import decode_sample

SHORT = ["--set", "phases[0].epochs=1", "--set", "augment={operations: []}"]


def freeze_json(run: Path) -> dict:
    return json.loads((run / "freeze.json").read_text())


@keras.saving.register_keras_serializable("kerastl_tests")
class AlwaysNoisy(keras.layers.GaussianNoise):
    """Noise that ignores `training=False`."""

    def call(self, x, training=False):
        return super().call(x, training=True)


def noisy(build):
    """Wrap a function that builds a model: the result has such a layer before the head."""

    def built(*args, **options):
        model = build(*args, **options)
        features = AlwaysNoisy(0.1, seed=1, name="noise")(model.get_layer("head").input)
        return keras.Model(model.inputs[0], model.get_layer("head")(features), name=model.name)

    return built


@pytest.mark.slow
def test_a_random_model_fails_and_all_else_is_kept(kerastl, recipe, tmp_path, monkeypatch):
    from kerastl import models

    monkeypatch.setattr(models, "build_model", noisy(models.build_model))
    out = tmp_path / "run"
    answer = kerastl("run", recipe, *SHORT, "--out", out)
    assert answer.code == 3, answer.err
    assert "--resume" not in answer.err
    determinism = freeze_json(out)["determinism"]
    assert determinism["differ"] == determinism["images"] == 8
    assert determinism["faults"][0] in answer.err
    assert len(freeze_json(out)["phases"]) == 2
    kept = {path.name for path in out.iterdir()}
    assert kept >= {"model.keras", "predictions.csv", "scores.json", "history.jsonl", "report.html"}
    assert "finished.json" not in kept
    assert "FAULT" in (out / "report.html").read_text()


@pytest.mark.slow
def test_an_export_that_decodes_differently_fails_and_is_kept(kerastl, recipe, tmp_path, monkeypatch):
    from kerastl.export import endpoints

    resize = endpoints.resize_image
    monkeypatch.setattr(endpoints, "resize_image", lambda *args, **kw: resize(*args, **kw)[:, ::-1])
    out = tmp_path / "run"
    answer = kerastl("run", recipe, *SHORT, "--set", "export.formats=[saved_model]", "--out", out)
    assert answer.code == 3, answer.err
    assert "--resume" not in answer.err
    export = freeze_json(out)["exports"]["saved_model"]
    assert export["pixels"]["differ"] == 8
    assert any("pixels" in fault and fault in answer.err for fault in export["faults"])
    assert not (out / "finished.json").exists()
    assert (out / "export" / "saved_model" / "1" / "saved_model.pb").is_file()
    assert "FAULT" in (out / "report.html").read_text()


@pytest.mark.slow
def test_batch_norm_that_changes_in_a_phase_with_frozen_statistics_fails_the_run(
    kerastl, recipe, tmp_path, monkeypatch
):
    from kerastl.training import freeze

    def unfreeze(layer, rule, *, is_selected):
        layer.trainable = True

    monkeypatch.setattr(freeze, "set_batch_norm", unfreeze)
    sets = ["--set", "phases[1].batch_norm=frozen", "--set", "phases[1].trainable=all"]
    answer = kerastl("run", recipe, *SHORT, *sets, "--out", tmp_path / "run")
    assert answer.code == 3, answer.err
    first, second = freeze_json(tmp_path / "run")["phases"]
    assert first["faults"] == []
    assert second["faults"][0] in answer.err
    assert second["batch_norm"]["changed"] == 3


def drawn_images(folder: Path, splits: list[str], *, on_disk: bool) -> Datasets:
    records = tuple(
        Record(f"tfds:drawn/{split}/{row}", folder / f"{split}-{row}.png", "dark", split)
        for row, split in enumerate(splits)
    )
    if on_disk:
        for record in records:
            keras.utils.save_img(record.file, np.full((32, 32, 3), 7.0), scale=False)
    return Datasets(
        records, ("dark", "light"), (32, 32), None, "none", None, None, (), {"source": ""}, (),
    )  # fmt: skip


def test_checks_without_validation_images_or_files_record_the_reason(tmp_path):
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2)(pooled))
    run, exports = Run(tmp_path), {"saved_model": tmp_path / "export" / "saved_model"}
    sample = decode_sample(drawn_images(tmp_path, ["train", "test"], on_disk=False))
    check_consistency(model, sample, [], exports, run)
    checks = freeze_json(tmp_path)
    assert checks["phases"] == []
    assert checks["determinism"]["reason"]
    assert checks["exports"]["saved_model"].pop("reason")
    assert checks["exports"]["saved_model"] == {
        "split": "training", "files": 0, "without_file": 1, "faults": [],
    }  # fmt: skip

    sample = decode_sample(drawn_images(tmp_path, ["val", "val", "test"], on_disk=True))
    check_consistency(model, sample, [], {"keras": tmp_path / "export" / "keras"}, run)
    checks = freeze_json(tmp_path)
    assert (checks["determinism"]["images"], checks["determinism"]["differ"]) == (2, 0)
    assert checks["exports"]["keras"]["files"] == 2
    assert "does not predict" in checks["exports"]["keras"]["reason"]
