"""The pixels in the served graph are bit-equal to those of the run, and differences are reported."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from kerastl.data import ImageDataset, Record
from kerastl.evaluation import Trained
from kerastl.export import compare_with_run, export_saved_model, find_export
from kerastl.export.parity import outputs_and_pixels
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW

SETTINGS = {"class_names": CLASS_NAMES, "image_size_px": (SIZE, SIZE), "max_pixels": MAX_PIXELS}


@pytest.fixture(scope="module")
def run_outputs(trained: Trained, images: list[Path], encoded: list[bytes]) -> dict[str, Any]:
    """The images decoded by the training pipeline, and the predictions of the run."""
    records = [Record(file.name, file, CLASS_NAMES[0]) for file in images]
    source = ImageDataset(records, batch_size=3, window=WINDOW, shuffle=False, **SETTINGS)
    pixels = np.concatenate([images.numpy() for images, _ in source.batches(0)])
    return {"encoded": encoded, "pixels": pixels, "logits": trained.logits(encoded)}


def edited(export: Path, folder: Path, change: Any) -> Path:
    """Copy an export and change nodes of its functions, as a tampering hand or a faulty writer would."""
    shutil.copytree(export, folder)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((export / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    count = sum(change(node) for function in functions for node in function.node_def)
    assert count, "nothing was changed"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def harden(node: Any) -> bool:
    if node.op == "ScaleAndTranslate":
        node.attr["antialias"].b = False
    return node.op == "ScaleAndTranslate"


def rename(node: Any) -> bool:
    is_decoded = node.name == "decoded_pixels"
    if is_decoded:
        node.name = "other"
    for index, name in enumerate(node.input):
        node.input[index] = name.replace("decoded_pixels", "other")
    return is_decoded


@pytest.mark.slow
def test_pixels_are_bit_equal_and_changes_are_reported(
    export: Path, run_outputs: dict[str, Any], tmp_path: Path
) -> None:
    report = compare_with_run(find_export(export), **run_outputs)
    assert report["faults"] == []
    assert report["pixels"] == {"compared": True, "differ": 0, "largest_difference": 0.0}
    assert report["predictions"]["differ"] == 0
    assert report["predictions"]["largest_difference"] <= 1e-5

    hardened = edited(export, tmp_path / "hardened", harden)
    report = compare_with_run(find_export(hardened), **run_outputs)
    _, served = outputs_and_pixels(hardened, run_outputs["encoded"])
    assert served is not None
    gaps = np.abs(served - run_outputs["pixels"]).max(axis=(1, 2, 3))
    assert report["pixels"]["differ"] == np.count_nonzero(gaps) >= 7
    assert report["pixels"]["largest_difference"] == float(gaps.max())
    assert "pixels" in report["faults"][-1]

    nameless = edited(export, tmp_path / "nameless", rename)
    report = compare_with_run(find_export(nameless), **run_outputs)
    assert report["faults"] == []
    assert report["pixels"]["compared"] is False
    assert report["predictions"]["differ"] == 0

    wrong = run_outputs["logits"] + np.float32([[3e-3, -3e-3, 0]])
    report = compare_with_run(find_export(export), **{**run_outputs, "logits": wrong})
    assert report["predictions"]["differ"] == 8
    assert "probabilities differ" in report["faults"][0]

    (nameless / "saved_model.pb").write_bytes(b"\x08")
    report = compare_with_run(find_export(nameless), **run_outputs)
    assert report["faults"]


@pytest.mark.slow
def test_another_window_is_found_by_its_pixels(
    model: Any, run_outputs: dict[str, Any], tmp_path: Path
) -> None:
    """The window touches 16-bit images alone: four of the eight."""
    export = export_saved_model(model, tmp_path / "served", window=None, **SETTINGS)
    report = compare_with_run(find_export(export), **run_outputs)
    assert report["pixels"]["differ"] == 4
    assert report["predictions"]["differ"] == 4
    assert len(report["faults"]) == 2
