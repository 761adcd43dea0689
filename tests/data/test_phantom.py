"""Phantom hospitals: reproducible bytes, correct physics, and no shortcut to the class."""

import csv
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import iradon, radon
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerastl.cli.data import command
from kerastl.data import write_phantoms
from kerastl.data.phantom import scanner as scanners
from kerastl.data.phantom.anatomy import Grid, ellipse_distance_mm
from kerastl.data.phantom.generate import assign_classes, draw_patient
from kerastl.data.phantom.scanner import HOSPITALS, SCANNER_A
from kerastl.data.readers.phantom import Options, read
from kerastl.errors import KerastlError

PERFECT = scanners.Scanner(
    kernel_cutoff=4.0, kernel_boost=0.0, photons=1e12, zoom=1.0, rings=0.0, offset_hu=0.0
)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def hospital_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantoms") / "a"
    return write_phantoms(out, hospital="a", patients=6, seed=3, slices_per_patient=2, image_size_px=64)


def test_bytes_do_not_depend_on_the_number_of_workers(hospital_a: Path, tmp_path: Path) -> None:
    again = write_phantoms(
        tmp_path / "again",
        hospital="a",
        patients=6,
        seed=3,
        slices_per_patient=2,
        image_size_px=64,
        workers=4,
    )
    assert len(contents(hospital_a)) == 2 * 12 + 1
    assert contents(again) == contents(hospital_a)


def test_another_seed_gives_other_patients() -> None:
    first, second = (
        draw_patient(Options(slices_per_patient=1, image_size_px=48), patient=1, malignant=True, seed=seed)[
            0
        ].stored
        for seed in (1, 2)
    )
    assert np.mean(first != second) > 0.5


def test_table_lists_every_image_with_the_box_of_its_mask(hospital_a: Path) -> None:
    with (hospital_a / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {
        path.relative_to(hospital_a).as_posix() for path in hospital_a.glob("images/*.png")
    }
    for row in rows:
        image = Image.open(hospital_a / row["path"])
        assert image.mode == "I;16"
        assert image.size == (64, 64)
        assert np.asarray(image).max() <= 4095
        left, top, right, bottom = Image.open(hospital_a / row["mask"]).getbbox() or (0, 0, 0, 0)
        box = [int(row[f"box_{name}_px"]) for name in ("top", "left", "height", "width")]
        assert box == [top, left, bottom - top, right - left]
        assert row["patient_id"] in row["path"]
        assert row["site"] == "a"
        assert row["label"] in ("benign", "malignant")


def test_patient_has_one_label_and_different_slices(hospital_a: Path) -> None:
    with (hospital_a / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {(row["patient_id"], row["label"]) for row in rows}
    assert len(labels) == 6
    images = {(hospital_a / row["path"]).read_bytes() for row in rows}
    assert len(images) == 12


@pytest.mark.parametrize("hospital", ["a", "b", "c"])
def test_prevalence_is_met_within_one_patient(hospital: str) -> None:
    malignant = sum(assign_classes(hospital, patients=50, seed=1))
    assert malignant == pytest.approx(HOSPITALS[hospital].prevalence * 50, abs=0.5)


def test_two_patients_have_one_of_each_class() -> None:
    assert sorted(assign_classes("c", patients=2, seed=5)) == [False, True]


def test_hospital_c_has_the_scanner_of_a_and_b_does_not() -> None:
    assert HOSPITALS["c"].scanner == HOSPITALS["a"].scanner != HOSPITALS["b"].scanner


@pytest.mark.parametrize("region", ["lung", "head"])
@pytest.mark.parametrize("hospital", ["a", "b"])
def test_nodule_is_denser_than_its_surroundings_and_in_view(hospital: str, region: str) -> None:
    options = Options(hospital=hospital, slices_per_patient=1, image_size_px=64, region=region)
    for patient in range(1, 5):
        patient_slice = draw_patient(options, patient=patient, malignant=patient % 2 == 0, seed=11)[0]
        around = np.zeros_like(patient_slice.mask)
        top, left, height, width = patient_slice.box()
        around[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2] = True
        inside = np.median(patient_slice.stored[patient_slice.mask])
        assert inside > np.median(patient_slice.stored[around & ~patient_slice.mask]) + 15
        assert 10 < patient_slice.mask.sum() < 400


@given(
    st.tuples(*[st.floats(-200, 200)] * 2), st.tuples(*[st.floats(0.5, 170)] * 2), st.floats(-4, 4), st.floats(2, 3)
)  # fmt: skip
def test_no_pixel_that_an_ellipse_covers_is_left_out(center, axes, turn_rad, exponent) -> None:
    grid = Grid(40, 340, center_column_mm=20)
    near, everywhere = (
        ellipse_distance_mm(grid, *center, *axes, turn_rad, exponent, reach_mm=reach) for reach in (0, 1e4)
    )
    assert np.isfinite(everywhere).all()
    assert grid.coverage(near).tobytes() == grid.coverage(everywhere).tobytes()


def disc(grid: Grid, radius_mm: float) -> np.ndarray:
    away = np.hypot(grid.rows_mm, grid.columns_mm)
    return (1000 * grid.coverage(away - radius_mm) - 1000).astype(np.float32)


def test_projection_of_a_water_disc_is_its_chord_at_every_angle() -> None:
    grid = Grid(96, 200.0)
    water = (disc(grid, 60.0) + 1000) / 1000
    sums = (scanners._projector(96, 200.0) @ water.ravel()).reshape(-1, 96)
    chord = 2 * np.sqrt(np.maximum(60.0**2 - grid.axis_mm**2, 0))
    assert sums.shape[0] == scanners.NUM_VIEWS // 2
    assert np.abs(sums - chord).max() < 9.0
    assert np.abs(sums - chord).mean() < 0.8


def test_noise_free_reconstruction_matches_scikit_image() -> None:
    grid = Grid(96, 200.0)
    image = disc(grid, 70.0)
    image[30:40, 50:62] += 300
    angles = np.linspace(0, 180, scanners.NUM_VIEWS, endpoint=False)
    theirs = iradon(radon((image + 1000) / 1000, angles), angles, interpolation="linear")
    ours = scanners.scan(
        [image], PERFECT, width_mm=200.0, view=grid, gains=np.zeros(96), rng=np.random.default_rng(0)
    )[0]
    inside = np.hypot(grid.rows_mm, grid.columns_mm) < 60
    gap = ours[inside] - (1000 * theirs[inside] - 1000)
    assert np.sqrt(np.mean(gap**2)) < 40
    assert ours[34, 55] == pytest.approx(300, abs=40)
    assert ours[70, 48] == pytest.approx(0, abs=25)


def test_quarter_of_the_photons_doubles_the_noise() -> None:
    grid = Grid(64, 200.0)
    image = disc(grid, 80.0)
    spreads = []
    for photons in (4e5, 1e5):
        device = scanners.Scanner(1.0, 0.0, photons, 1.0, 0.0, 0.0)
        scans = [
            scanners.scan(
                [image],
                device,
                width_mm=200.0,
                view=grid,
                gains=np.zeros(64),
                rng=np.random.default_rng(seed),
            )[0]
            for seed in (1, 2)
        ]
        spreads.append(float(np.std((scans[0] - scans[1])[20:44, 20:44])))
    assert spreads[1] / spreads[0] == pytest.approx(2, rel=0.15)


def test_gain_errors_give_rings_around_the_center() -> None:
    grid = Grid(64, 200.0)
    image = disc(grid, 80.0)
    scans = [
        scanners.scan(
            [image],
            scanners.Scanner(1.0, 0.0, 1e12, 1.0, rings, 0.0),
            width_mm=200.0,
            view=grid,
            gains=np.random.default_rng(4).standard_normal(64),
            rng=np.random.default_rng(0),
        )[0]
        for rings in (0.0, 0.01)
    ]
    rings = scans[1] - scans[0]
    ring = np.rint(np.hypot(grid.rows_mm, grid.columns_mm) / grid.pixel_mm).astype(int)
    counts = np.maximum(np.bincount(ring.ravel()), 1)
    by_ring = np.bincount(ring.ravel(), rings.ravel()) / counts
    inner = ring < 20
    assert np.var(by_ring[ring][inner]) > 0.5 * np.var(rings[inner])


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"patients": 1}, "patients"),
        ({"seed": -1}, "seed"),
        ({"image_size_px": 4000}, "image_size_px"),
        ({"slices_per_patient": 0}, "slices_per_patient"),
        ({"hospital": "d"}, "hospital"),
        ({"region": "knee"}, "region"),
    ],
)
def test_invalid_arguments_are_reported_and_nothing_is_written(
    tmp_path: Path, wrong: dict[str, object], word: str
) -> None:
    request = {"hospital": "a", "patients": 4, "seed": 1} | wrong
    with pytest.raises(KerastlError, match=word):
        write_phantoms(tmp_path / "out", **request)
    assert not list(tmp_path.iterdir())


def test_folder_that_is_not_empty_is_rejected_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(KerastlError, match="not empty"):
        write_phantoms(tmp_path, hospital="a", patients=2, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_interrupted_generation_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kerastl.data.phantom.generate.draw_patient", stop)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "out", hospital="a", patients=2, seed=1)
    assert not list(tmp_path.iterdir())


FULL = """
import resource, signal, sys
from kerastl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
main(["data", "phantom", "new/hospital", "--hospital", "a", "--patients", "2"])
"""


def test_a_full_disk_is_reported_with_the_folder(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FULL]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "File too large: new/hospital" in done.stderr
    assert not list((tmp_path / "new").iterdir())


def test_reader_generates_once_and_groups_by_patient(tmp_path: Path) -> None:
    options = Options(hospital="b", patients=3, slices_per_patient=2, image_size_px=48)
    first = read(options, seed=4, cache_dir=tmp_path)
    times = {record.file: record.file.stat().st_mtime_ns for record in first.records}
    assert read(options, seed=4, cache_dir=tmp_path) == first
    assert times == {record.file: record.file.stat().st_mtime_ns for record in first.records}
    assert len(first.records) == 6
    assert {record.domain for record in first.records} == {"b"}
    assert len({record.group for record in first.records}) == 3
    assert first.class_names == ("benign", "malignant")
    other = read(options, seed=5, cache_dir=tmp_path)
    assert other.fingerprint() != first.fingerprint()


def test_command_prints_the_next_command_and_a_disclaimer(tmp_path: Path) -> None:
    out = tmp_path / "c"
    words = [
        "phantom",
        str(out),
        "--hospital",
        "c",
        "--patients",
        "2",
        "--slices",
        "1",
        "--image-size-px",
        "48",
    ]
    answer = CliRunner().invoke(command, words, catch_exceptions=False)
    assert answer.exit_code == 0
    assert "kerastl run" in answer.output.splitlines()[-1]
    assert len(list(out.glob("images/*.png"))) == 2
    help_text = CliRunner().invoke(command, ["phantom", "--help"]).output
    assert "no clinical meaning" in " ".join(help_text.split())
    assert "kerastl data phantom" in help_text


def pixel_statistics(stored: np.ndarray) -> np.ndarray:
    values = stored.astype(np.float64).ravel()
    return np.r_[values.mean(), values.std(), np.histogram(values, 32, (0, 2048))[0]]


@pytest.fixture(scope="module")
def slices_of():
    """Return a cached function that draws 200 patients of a hospital with two slices each."""

    @functools.cache
    def draw(hospital: str, seed: int):
        truth = assign_classes(hospital, patients=200, seed=seed)
        options = Options(hospital=hospital, slices_per_patient=2, image_size_px=64)
        return np.array(truth), [
            draw_patient(options, patient=number, malignant=malignant, seed=seed)
            for number, malignant in enumerate(truth, start=1)
        ]

    return draw


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("hospital", ["a", "b"])
def test_single_pixel_statistics_do_not_predict_the_class(slices_of, hospital, seed) -> None:
    truth, slices = slices_of(hospital, seed)
    features = np.array(
        [pixel_statistics(item.stored) for patient_slices in slices for item in patient_slices]
    )
    for columns in (slice(0, 1), slice(1, 2), slice(2, None), slice(None)):
        scores = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
            features[:, columns],
            np.repeat(truth, 2),
            groups=np.repeat(np.arange(200), 2),
            cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
            method="decision_function",
        )
        assert roc_auc_score(truth, scores.reshape(-1, 2).mean(1)) < 0.65


@pytest.mark.slow
@pytest.mark.parametrize("hospital", ["a", "b"])
def test_nodule_size_and_box_do_not_predict_the_class(slices_of, hospital) -> None:
    truth, slices = slices_of(hospital, 1)
    areas = [patient_slices[0].mask.sum() for patient_slices in slices]
    assert 0.35 < roc_auc_score(truth, areas) < 0.65
    for side in (2, 3):
        lengths = [patient_slices[0].box()[side] for patient_slices in slices]
        assert 0.35 < roc_auc_score(truth, lengths) < 0.65


def test_scanner_of_a_has_less_noise_than_b() -> None:
    assert SCANNER_A.photons > HOSPITALS["b"].scanner.photons
    assert SCANNER_A.kernel_boost < HOSPITALS["b"].scanner.kernel_boost
