"""LiteRT in float16 and int8: calibration images, size, and the reported effect on predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kerastl.cli import app
from kerastl.errors import RequestError
from kerastl.evaluation import load_trained
from kerastl.export import expected_predictions, export_once, export_run, read_export, verify
from kerastl.export.litert_conversion import measure_effect, read_calibration
from kerastl.export.postprocess import NO_POSTPROCESSING
from tests.export.conftest import CLASS_NAMES, write_rows
from tests.export.converted_formats import need, run_client


@pytest.fixture
def _litert() -> None:
    need("litert")


def write_split(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    lines = ["path,label,split,group,domain"]
    lines += [f"{path},{label},{split},patient7,a" for path, label, split in rows]
    (folder / "split.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(run_folder: Path, images: list[Path]) -> Path:
    """The run with rows of training images, the same as its test images."""
    root = images[0].parent.parent
    names = [file.relative_to(root).as_posix() for file in images]
    write_split(run_folder, [(name, CLASS_NAMES[at % 3], "train") for at, name in enumerate(names)])
    return run_folder


def test_calibration_is_spread_over_classes_and_splits_and_reports_only_counts(
    run_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for split, label, count in (
        ("train", "benign", 30), ("train", "10", 3), ("target_train", "", 30), ("test", "10", 9),
    ):  # fmt: skip
        for number in range(count):
            name = f"{split}-{label}-{number}.png"
            Image.new("L", (9, 9), 8 * number).save(data / name)
            rows.append((name, label, split))
    (data / "train-benign-0.png").write_bytes(b"broken")
    (data / "train-10-1.png").unlink()
    write_split(run_folder, [*rows, ("../run/secret.png", "benign", "train")])
    described = json.loads((run_folder / "model.json").read_text())
    described |= {"data_root": str(data), "target_root": str(data), "window": None}
    (run_folder / "model.json").write_text(json.dumps(described))
    images, summary = read_calibration(load_trained(run_folder), limit=20)
    assert summary == {"images": 20, "classes": {"10": 2, "benign": 8, "unlabeled": 10}}
    assert len(images) == 20
    # From all over a class, not its first images only.
    levels = sorted(set(images[:, 0, 0, 0].tolist()))
    assert levels[-1] >= 8 * 25
    again, _ = read_calibration(load_trained(run_folder), limit=20)
    assert again.tobytes() == images.tobytes()


def test_int8_without_training_images_is_refused(run_folder: Path) -> None:
    write_split(run_folder, [("gone.png", "benign", "train")])
    with pytest.raises(RequestError, match=r"split\.csv.*--quantize float16"):
        read_calibration(load_trained(run_folder))


def test_the_effect_equals_a_calculation_by_hand(run_folder: Path, images: list[Path]) -> None:
    """Labels a b c a b c a b. Before: all right. After: always class a, right for 3 of 3, 0 of 3, 0 of 2."""
    root = images[0].parent.parent
    names = [file.relative_to(root).as_posix() for file in images]
    write_rows(run_folder, [*names, "in ü/gone.png"])
    table = run_folder / "predictions.csv"
    header, *rows = table.read_text().splitlines()
    rows = [row.replace(",benign,", f",{CLASS_NAMES[at % 3]},", 1) for at, row in enumerate(rows)]
    table.write_text("\n".join([header, *rows]) + "\n")
    batch_sizes = []

    def right(images: Any) -> Any:
        batch_sizes.append(len(images))
        return np.eye(3, dtype=np.float32)[np.arange(len(images)) % 3]

    def first(images: Any) -> Any:
        return np.tile(np.float32([0.75, 0.25, 0.0]), (len(images), 1))

    (cost,) = measure_effect(load_trained(run_folder), NO_POSTPROCESSING, before=right, after=first).values()
    assert batch_sizes == [8]
    assert cost == {
        "images": 8,
        "labels_differ": 5,
        "largest_difference": 1.0,
        "balanced_accuracy": {"before": 1.0, "after": pytest.approx(1 / 3)},
        "auc": {"before": 1.0, "after": 0.5},
        "changed": [
            "a probability differs by 1 (0.05 allowed)",
            "the label differs for 5 of 8 images (1 allowed)",
        ],
    }


@pytest.mark.slow
@pytest.mark.usefixtures("_litert")
def test_int8_predicts_nearly_like_the_run_and_reports_its_effect(run: Path, encoded: list[bytes]) -> None:
    trained = load_trained(run)
    done = CliRunner().invoke(app, ["export", str(run), "--format", "litert", "--quantize", "int8"])
    assert done.exit_code == 0, done.output
    folder = run / "export" / "litert" / "1"
    conversion = json.loads((folder / "manifest.json").read_text())["conversion"]
    assert conversion["calibration"] == {
        "images": 8,
        "classes": {"10": 2, "<script>alert(1)</script>": 3, "benign": 3},
    }
    assert conversion["bytes"] == (folder / "model.tflite").stat().st_size
    assert f"{conversion['bytes']:,} bytes, {conversion['float32_bytes']:,} in float32" in done.stdout
    assert "Calibrated on 8 training images: 10 2," in done.stdout
    assert "int8 on 8 images of test: balanced accuracy" in done.stdout
    assert "patient7" not in done.output
    assert b"patient7" not in (folder / "model.tflite").read_bytes()

    expected = expected_predictions(trained, encoded)
    findings = verify(folder, encoded=encoded, expected=expected)
    assert [finding for finding in findings if finding.passed is not True] == []
    probabilities = read_export(folder).predict(encoded)[1]
    gap = np.abs(probabilities - expected.probabilities).max()
    assert 1e-4 < gap < 0.05, "8 bits are seen, and no more"
    # The softmax is float32: by its 8-bit kernel all probabilities were multiples of 1/256.
    assert np.abs(probabilities * 256 - np.round(probabilities * 256)).max() > 0.01

    (row,) = run_client(folder)
    content = json.loads((folder / "sample.json").read_text())["probabilities"]
    assert row == pytest.approx([content[label] for label in CLASS_NAMES], abs=1e-4)

    assert export_once(run, "litert", quantize="int8") == folder
    assert export_once(run, "litert", quantize=None) == folder.parent / "2"


@pytest.mark.slow
@pytest.mark.usefixtures("_litert")
def test_float16_halves_and_int8_quarters_the_file_of_a_real_network(
    cxr_folder: Path, keras_home: Path, run_folder: Path
) -> None:
    """MobileNetV2 with ImageNet weights on X-rays: size, and probabilities that stay."""
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("mobilenet_v2", weights="imagenet", image_size_px=224, alpha=0.35)
    model = build_model(backbone, class_names=("ap", "pa"))
    files = sorted((cxr_folder / "ap").glob("*.jpg"))[:12] + sorted((cxr_folder / "pa").glob("*.jpg"))[:12]
    assert len(files) == 24
    names = [file.relative_to(cxr_folder).as_posix() for file in files]
    (run_folder / "model.json").write_text(
        json.dumps(
            {
                "class_names": ["ap", "pa"],
                "image_size_px": 224,
                "window": None,
                "max_pixels": 10**7,
                "data_root": str(cxr_folder),
            }
        )
    )
    model.save(run_folder / "model.keras")
    header = "path,label,predicted,split,group,domain,prob_ap,prob_pa,logit_ap,logit_pa"
    rows = [f"{name},{name[:2]},ap,test,,,0.5,0.5,0,0" for name in names]
    (run_folder / "predictions.csv").write_text("\n".join([header, *rows]) + "\n")
    write_split(run_folder, [(name, name[:2], "train") for name in names])
    sizes = {}
    encoded = [file.read_bytes() for file in files]
    expected = expected_predictions(load_trained(run_folder), encoded)
    for quantize in (None, "float16", "int8"):
        folder = export_run(run_folder, "litert", quantize=quantize)
        sizes[quantize] = (folder / "model.tflite").stat().st_size
        probabilities = read_export(folder).predict(encoded)[1]
        gap = float(np.abs(probabilities - expected.probabilities).max())
        assert gap < {None: 1e-4, "float16": 0.1, "int8": 0.3}[quantize], quantize
    assert sizes["float16"] < 0.55 * sizes[None]
    assert sizes["int8"] < 0.42 * sizes[None]
