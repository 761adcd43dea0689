"""The folder of a converted model is used without kerastl: its client, its sample and its README."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from inline_snapshot import snapshot
from PIL import Image

from kerastl import registry
from kerastl.cli import app
from kerastl.data.decode import decode_images
from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.export import check_formats, expected_predictions, export_once, read_export, verify
from kerastl.export.converted import write_converted
from kerastl.export.postprocess import NO_POSTPROCESSING
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.converted_formats import FORMATS, FORMATS_ONE_FAST, need, run_client, write_format

pytestmark = pytest.mark.xdist_group("exported_run")

FILES = {
    "README.md",
    "labels.txt",
    "preprocess.json",
    "client.py",
    "sample.png",
    "sample.json",
    "manifest.json",
}


@pytest.fixture(autouse=True)
def _installed() -> None:
    need(*FORMATS)


def expected_output(folder: Path) -> list[float]:
    content = json.loads((folder / "sample.json").read_text())
    return [content["probabilities"][name] for name in CLASS_NAMES]


def draw_odd_images(folder: Path) -> list[Path]:
    """Images of other modes: transparent, rotated by EXIF, gray, with a palette, of one pixel, CMYK."""
    rgba = np.random.default_rng(0).integers(0, 256, (70, 41, 4)).astype(np.uint8)
    folder.mkdir()
    color, exif = Image.fromarray(rgba[..., :3]), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba).save(folder / "clear.png")
    color.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(rgba[..., 0]).save(folder / "gray.png")
    color.quantize(16).save(folder / "palette.gif")
    color.crop((0, 0, 1, 1)).save(folder / "one.bmp")
    color.convert("CMYK").save(folder / "ink.jpg")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", FORMATS_ONE_FAST)
def test_the_client_reproduces_the_expected_output_and_predict(
    name: str, exported_run: Callable[[str], Path], trained: Trained, images: list[Path], tmp_path: Path
) -> None:
    folder = exported_run(name) / "export" / name / "1"
    assert {file.name for file in folder.iterdir()} > FILES
    _, *code = filter(None, (folder / "client.py").read_text().splitlines())
    assert len(code) <= 25, "without the docstring"
    with Image.open(folder / "sample.png") as sample:
        assert sample.mode.startswith("I"), "16 bits, because the model has a window"
    (row,) = run_client(folder)
    assert row == pytest.approx(expected_output(folder), abs=1e-4)
    files = [folder / "sample.png", *draw_odd_images(tmp_path / "odd"), *images]
    rows = trained.probabilities([file.read_bytes() for file in files])
    assert row == pytest.approx(rows[0].tolist(), abs=1e-4)
    assert np.array(run_client(folder, *files)) == pytest.approx(rows, abs=1e-4)


def read_costs(folder: Path) -> dict[str, list[str]]:
    """Return the cells of the table of the README by the preprocessing in the first column."""
    lines = [
        line.strip("| ").split(" | ")
        for line in (folder / "README.md").read_text().splitlines()
        if "|" in line
    ]
    start = next(row for row, cells in enumerate(lines) if cells[0] == "preprocessing")
    return {cells[0].replace("\\", ""): cells[1:] for cells in lines[start + 2 :]}


def without_antialiasing(pixels: np.ndarray, size: int) -> np.ndarray:
    """Interpolate between the four pixels around each half-pixel center."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(position).astype(int)
        share = (position - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        first, second = (np.take(pixels, np.minimum(low + step, length - 1), axis) for step in (0, 1))
        pixels = first * (1 - share) + second * share
    return pixels


@pytest.mark.slow
def test_the_readme_lists_the_cost_of_other_preprocessing(
    trained: Trained, encoded: list[bytes], tmp_path: Path
) -> None:
    folder = write_format(dataclasses.replace(trained, window=None), tmp_path, "onnx")
    costs = read_costs(folder)
    assert len(costs) == 7
    predict = registry.module("format", "onnx").load(folder)[1]
    with Image.open(folder / "sample.png") as sample:
        pixels = np.asarray(sample, np.float64)
        rounded = np.asarray(sample.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float64)
        height, width = pixels.shape[:2]
        edge = (width - height) // 2
        square = sample.crop((edge, 0, edge + height, height))
        central = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float64)
        nearest = np.asarray(sample.resize((SIZE, SIZE), Image.Resampling.NEAREST), np.float64)
    channels = [Image.fromarray(channel) for channel in np.float32(pixels.transpose(2, 0, 1))]
    right = np.stack([channel.resize((SIZE, SIZE), Image.Resampling.BILINEAR) for channel in channels], -1)
    inputs = {
        "Pillow": rounded,
        "OpenCV": without_antialiasing(pixels, SIZE),
        "nearest": nearest,
        "central": central,
        "divided": right / 255,
        "BGR": right[..., ::-1],
    }
    reference = predict(right[None])
    content = json.loads((folder / "sample.json").read_text())
    assert content["input_mean"] == pytest.approx(right.mean(axis=(0, 1)).tolist(), abs=1e-2)
    assert content["input_standard_deviation"] == pytest.approx(right.std(axis=(0, 1)).tolist(), abs=1e-2)
    for word, image in inputs.items():
        ((variant, cells),) = [row for row in costs.items() if word in row[0]]
        expected = float(np.abs(predict(np.float32(image)[None]) - reference).max())
        # The central square is resized without rounding.
        assert float(cells[0]) == pytest.approx(expected, abs=0.002 if word == "central" else 1e-4), variant
        assert (float(cells[0]) > 0.01) == (word != "Pillow"), "the sample reveals all but rounding to 8 bits"
        assert re.fullmatch(r"\d of 8", cells[2])
    # On test images: for the division by 255, recomputed.
    images = decode_images(encoded, (SIZE, SIZE), "stretch", None, 10**6)
    before, after = predict(images), predict(images / 255)
    cells = costs["values divided by 255"]
    assert float(cells[1]) == pytest.approx(float(np.abs(after - before).max()), abs=1e-4)
    assert cells[2] == f"{(after.argmax(axis=1) != before.argmax(axis=1)).sum()} of 8"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_model_with_the_resize_inside_predicts_images_of_any_size_as_the_run(
    name: str, run_folder: Path, trained: Trained, encoded: list[bytes], images: list[Path], tmp_path: Path
) -> None:
    words = ["export", str(run_folder), "--format", name, "--with-resize"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "The model resizes them" in done.stdout
    folder = run_folder / "export" / name / "1"
    files = [folder / "sample.png", *draw_odd_images(tmp_path / "odd"), *images]
    assert "resize(" not in (folder / "client.py").read_text()
    rows = trained.probabilities([file.read_bytes() for file in files])
    assert np.array(run_client(folder, *files)) == pytest.approx(rows, abs=1e-4)
    assert rows[0] == pytest.approx(expected_output(folder), abs=1e-4)
    assert {"nearest neighbor", "16-bit values without the window"} & set(read_costs(folder)) == {
        "16-bit values without the window"
    }
    # Also a batch, and in verify and predict, which resize themselves.
    batch = np.random.default_rng(2).uniform(0, 255, (3, 77, 50, 3)).astype(np.float32)
    small = tf.image.resize(batch, [SIZE, SIZE], antialias=True)
    expected = tf.nn.softmax(trained.model(small, training=False)).numpy()
    assert registry.module("format", name).load(folder)[1](batch) == pytest.approx(expected, abs=1e-4)
    findings = verify(folder, encoded=encoded, expected=expected_predictions(trained, encoded))
    assert {finding.check for finding in findings if finding.passed is not True} == {"wrong size rejected"}
    assert all(finding.ok for finding in findings)
    assert read_export(folder).predict(encoded)[1] == pytest.approx(rows[-len(encoded) :], abs=1e-4)
    assert export_once(run_folder, name, with_resize=True) == folder
    assert export_once(run_folder, name) == folder.parent / "2", "the recipe did not request this one"


@pytest.mark.slow
def test_half_precision_weights_do_not_change_the_resize(trained: Trained, tmp_path: Path) -> None:
    folder = write_converted(
        trained, tmp_path, "litert", NO_POSTPROCESSING, quantize="float16", with_resize=True
    )
    predict = registry.module("format", "litert").load(folder)[1]
    blocks = np.random.default_rng(3).uniform(0, 255, (1, 60, 80, 3)).repeat(31, 1).repeat(29, 2)
    large = blocks.astype(np.float32)
    resized = tf.image.resize(large, [SIZE, SIZE], antialias=True).numpy()
    assert predict(large) == pytest.approx(predict(resized), abs=1e-6)


def test_a_resize_that_a_format_cannot_have_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        check_formats(["saved_model", "keras", "onnx"], with_resize=True)
    assert str(refused.value) == snapshot("""\
The format saved_model always decodes and resizes files itself. Omit --with-resize.
The format keras has no resize, because kerastl resizes the images. Omit --with-resize.\
""")
    with pytest.raises(RequestError) as refused:
        check_formats(["litert"], "int8", with_resize=True)
    assert str(refused.value) == snapshot(
        "--with-resize cannot be combined with --quantize int8, which would resize in 8 bits. Use --quantize float16, or omit one."
    )
    check_formats(["litert", "onnx"], "float16", with_resize=True)
