"""Runs with presets of KerasHub, from the recipe to the verified export."""

import json
import sys
from importlib import import_module
from pathlib import Path

import keras
import pytest
from make_runs import run, same_bytes, stop_at

from kerastl.workflows import run_writer

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hub_backbones import build, save_preset

LAST_BLOCK_AND_RATES = {"vit": ("transformer_block_2", 1e-3, 1e-3), "dinov2": ("layers_1", 0.1, 1e-2)}
"""The last block, and the learning rates of both phases, with which the predictions differ by more than `verify` requires."""


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST_BLOCK_AND_RATES)
def test_run_with_a_transformer_freezes_by_block_resumes_to_the_same_bytes_and_passes_verify(
    name, kerastl, recipe, images, tmp_path, monkeypatch
):
    preset = save_preset(build(name), tmp_path / name)
    block, head_rate, rate = LAST_BLOCK_AND_RATES[name]
    fine = f"{{name: fine, epochs: 2, learning_rate: {rate}, trainable: {{from_block: {block}}}}}"
    sets = [
        f"backbone={{name: 'keras_hub/{preset}'}}",
        f"phases=[{{name: head, epochs: 1, learning_rate: {head_rate}}}, {fine}]",
        "export.formats=[saved_model]",
    ]
    words = [word for value in sets for word in ("--set", value)]
    complete = run(recipe, tmp_path / "complete", *words)
    for phase in complete.json("freeze.json")["phases"]:
        assert not phase["faults"]

    resumed = tmp_path / "resumed"
    step = (run_writer, "epoch_line")
    command = stop_at(monkeypatch, step, recipe, *words, "--out", resumed, call_number=3)
    answer = kerastl(*command)
    assert answer.code == 0, answer.err
    assert "Resuming after epoch 2 of 3" in answer.err
    same_bytes(complete.path, resumed, ["model.json", "predictions.csv", "scores.json", "history.jsonl"])

    quick = () if name == "vit" else ("--quick",)
    verified = kerastl("verify", resumed / "export" / "saved_model", "--run", resumed, *quick)
    assert verified.code == 0, verified.out
    assert "equal to kerastl predict" in verified.out
    assert ("heatmaps of 4 x 4, in [0, 1]" in verified.out) == (not quick)
    table = tmp_path / "predictions.csv"
    predicted = kerastl("predict", resumed / "export" / "saved_model", images / "dark", "--out", table)
    assert predicted.code == 0, predicted.err
    assert len(table.read_text().splitlines()) == 21


@pytest.mark.slow
def test_run_states_before_training_that_its_export_has_no_heatmaps(recipe, tmp_path, monkeypatch):
    image = keras.Input((32, 32, 3))
    cells = keras.layers.Conv2D(2, 8, strides=8)(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Flatten()(cells)).save(tmp_path / "flat.keras")
    sets = (f"backbone={{name: {tmp_path / 'flat.keras'}}}", "export.formats=[saved_model]")
    words = [word for value in sets for word in ("--set", value)]
    before_training = (import_module("kerastl.workflows.run"), "train")
    stop_at(monkeypatch, before_training, recipe, *words, "--out", tmp_path / "run")
    (note,) = (
        note for note in json.loads((tmp_path / "run" / "notes.json").read_text()) if "heatmaps" in note
    )
    assert note == (
        "The export has no heatmaps (signature explain): it does not pool one feature map or one sequence of tokens."
    )
