import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastl.errors import RequestError
from kerastl.export import export_saved_model
from kerastl.export.saved_model import write_version
from tests.export.conftest import CLASS_NAMES, SETTINGS, SIZE, WINDOW


def test_every_output_has_the_batch_dimension_of_the_row_format_of_rest(
    loaded: Any, encoded: list[bytes]
) -> None:
    outputs = loaded.signatures["serving_default"](tf.constant(encoded))
    assert {name: output.shape[0] for name, output in outputs.items()} == {
        "probabilities": 8, "predicted": 8, "class_names": 8, "top_classes": 8, "top_scores": 8,
    }  # fmt: skip
    assert outputs["probabilities"].dtype == tf.float32
    names = [name.decode() for name in outputs["class_names"].numpy()[3]]
    assert names == list(CLASS_NAMES)


def test_bytes_and_pixels_agree_with_the_model_on_an_image_read_by_pillow(
    loaded: Any, model: Any, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    logits = np.asarray(model.predict(pixels[None].astype(np.float32), verbose=0), np.float64)[0]
    softmax = np.exp(logits) / np.exp(logits).sum()
    by_bytes = loaded.signatures["serving_default"](tf.constant([(tmp_path / "one.png").read_bytes()]))
    by_pixels = loaded.signatures["pixels"](tf.constant(pixels[None], tf.float32))
    for outputs in (by_bytes, by_pixels):
        assert outputs["probabilities"].numpy()[0] == pytest.approx(softmax, abs=1e-5)
        assert outputs["predicted"].numpy()[0].decode() == CLASS_NAMES[softmax.argmax()]


def test_pixels_of_another_size_are_refused_with_the_right_size(loaded: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="24 x 24"):
        loaded.signatures["pixels"](tf.zeros([2, SIZE, SIZE + 1, 3]))


def test_large_images_tiff_and_other_files_are_refused_in_the_graph(loaded: Any, tmp_path: Path) -> None:
    predict = loaded.signatures["serving_default"]
    Image.new("L", (400, 300)).save(tmp_path / "large.png")
    Image.new("L", (40, 30)).save(tmp_path / "one.tif")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"400 x 300.*40000"):
        predict(tf.constant([(tmp_path / "large.png").read_bytes()]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="TIFF"):
        predict(tf.constant([(tmp_path / "one.tif").read_bytes()]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        predict(tf.constant([b"rubbish"]))


def test_an_export_gets_the_next_version_and_keeps_the_others(export: Path) -> None:
    assert export.name == "8"
    assert (export.parent / "7" / "keep").read_text() == "me"
    assert {path.name for path in export.parent.iterdir() if path.is_dir()} == {"7", "8"}


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "saved_model.pb").write_text("graph")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_version(tmp_path / "served", fill, **SETTINGS, model_sha256="")
    assert list((tmp_path / "served").iterdir()) == []


def test_class_names_that_do_not_match_the_model_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\b2\b"):
        export_saved_model(model, tmp_path, **{**SETTINGS, "class_names": ("a", "b")})
    with pytest.raises(RequestError):
        export_saved_model(model, tmp_path, **{**SETTINGS, "class_names": ("a", "b", "a")})


def test_an_export_contains_no_path_of_this_machine(export: Path, images: list[Path]) -> None:
    inside = b"".join(path.read_bytes() for path in export.rglob("*") if path.is_file())
    assert len(inside) > 10_000
    for word in (str(Path.cwd()), str(export.parent), str(images[0].parent), images[0].name):
        assert word.encode() not in inside


def test_the_manifest_has_the_sha256_of_each_file(export: Path) -> None:
    manifest = json.loads((export / "manifest.json").read_text())
    assert set(manifest["files"]) >= {"saved_model.pb", "variables/variables.index"}
    for name, digest in manifest["files"].items():
        process = subprocess.run(["sha256sum", export / name], capture_output=True, check=True)
        assert process.stdout.decode().split()[0] == digest
    assert manifest["class_names"] == list(CLASS_NAMES)
    assert manifest["window"] == list(WINDOW)


def test_formats_and_commands_import_no_tensorflow() -> None:
    code = (
        "import sys; from kerastl import registry; registry.module('format', 'saved_model'); "
        "import kerastl.export, kerastl.cli.export, kerastl.cli.predict, kerastl.cli.verify; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
