from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kerastl.errors import Problems, RequestError
from kerastl.evaluation import Trained
from kerastl.evaluation.predictions import resolve_image
from kerastl.export import (
    expected_predictions,
    export_saved_model,
    find_export,
    find_images,
    predict_files,
    read_export,
    read_probe_images,
    read_samples,
    select_test_images,
    write_samples,
)
from kerastl.export.postprocess import Postprocessing, Threshold
from kerastl.export.predict import printable_path
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW

pytestmark = pytest.mark.xdist_group("exported_run")


def test_a_run_and_its_export_give_the_same_predictions(
    exported_run: Callable[[str], Path], trained: Trained, images: list[Path]
) -> None:
    export = read_export(str(exported_run("saved_model") / "export" / "saved_model"))
    by_run = list(predict_files(trained, images, batch_size=3))
    by_export = list(predict_files(export, images))
    assert [row.predicted for row in by_run] == [row.predicted for row in by_export]
    numbers = [np.array([row.probabilities for row in rows]) for rows in (by_run, by_export)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    assert np.ptp(numbers[0], axis=0).max() > 0.01


@pytest.mark.slow
def test_an_export_applies_its_own_threshold(model: Any, images: list[Path], tmp_path: Path) -> None:
    """An operating point so low that the largest probability decides nothing."""
    low = Postprocessing(threshold=Threshold("benign", 0.01))
    folder = export_saved_model(
        model, tmp_path / "served", class_names=CLASS_NAMES, image_size_px=SIZE, window=WINDOW,
        max_pixels=MAX_PIXELS, postprocessing=low,
    )  # fmt: skip
    answers = list(predict_files(read_export(folder), images))
    assert {answer.predicted for answer in answers} == {"benign"}
    assert {int(np.argmax(answer.probabilities)) for answer in answers} != {0}


def test_unreadable_files_have_a_problem_and_the_others_predictions(
    trained: Trained, images: list[Path], tmp_path: Path
) -> None:
    bad = {"empty.png": b"", "text.jpg": b"hello", "cut.png": images[0].read_bytes()[:200]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    Image.new("L", (400, 300)).save(tmp_path / "large.png")
    Image.fromarray(np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)).save(tmp_path / "page.tif")
    names = [images[0], *(tmp_path / name for name in [*bad, "large.png", "page.tif"]), tmp_path]
    answers = list(predict_files(trained, [str(names[0]), *names[1:]]))
    with pytest.raises(RequestError, match="must be a list of paths"):
        next(predict_files(trained, str(names[0])))
    assert [bool(answer.problem) for answer in answers] == [False, *[True] * 4, False, True]
    assert "40000" in answers[4].problem
    assert all(sum(answer.probabilities) == pytest.approx(1) for answer in (answers[0], answers[5]))
    strict = predict_files(trained, names, batch_size=2, strict=True)
    assert [next(strict).path for _ in names] == [answer.path for answer in answers]
    with pytest.raises(Problems) as refused:
        next(strict)
    assert [problem.where for problem in refused.value.problems] == [
        row.path for row in answers if row.problem
    ]
    assert len(list(predict_files(trained, images, strict=True))) == len(images)


def test_converted_file_types_are_predicted_like_the_same_pixels_in_png(
    trained: Trained, tmp_path: Path
) -> None:
    drawn = np.random.default_rng(2).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    colour, mono = Image.fromarray(drawn), Image.fromarray(drawn).convert("1")
    colour.save(tmp_path / "colour.png")
    mono.save(tmp_path / "mono.png")
    more = {"save_all": True, "append_images": [mono.convert("RGB")], "lossless": True}
    colour.save(tmp_path / "moving.webp", **more)
    mono.save(tmp_path / "mono.bmp")
    names = [tmp_path / name for name in ("colour.png", "moving.webp", "mono.png", "mono.bmp")]
    answers = list(predict_files(trained, names))
    assert [answer.problem for answer in answers] == [""] * 4
    assert answers[0].probabilities == pytest.approx(answers[1].probabilities, abs=1e-6)
    assert answers[2].probabilities == pytest.approx(answers[3].probabilities, abs=1e-6)
    probes = read_probe_images(names, max_pixels=40_000)
    assert (len(probes.encoded), probes.problems) == (4, ())


def test_memory_holds_one_batch(images: list[Path]) -> None:
    class Watched:
        class_names = CLASS_NAMES
        max_pixels = 40_000
        largest = 0

        def predict(self, encoded: Sequence[bytes]) -> tuple[list[str], Any]:
            self.largest = max(self.largest, len(encoded))
            return ["benign"] * len(encoded), np.full((len(encoded), 3), 1 / 3)

    index = 0

    def endless() -> Any:
        nonlocal index
        while True:
            index += 1
            yield images[index % 8]

    watched = Watched()
    answers = predict_files(watched, endless(), batch_size=4)
    assert [next(answers).predicted for _ in range(9)] == ["benign"] * 9
    assert (watched.largest, index) == (4, 12)


def test_folders_are_searched_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/10.PNG", "b/2.jpg", "b/.2.jpg", "b/notes.txt", ".git/3.png", "1.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert names == ["1.webp", "b/2.jpg", "b/10.PNG"]
    assert list(find_images([tmp_path / "b" / "notes.txt"])) == [tmp_path / "b" / "notes.txt"]
    with pytest.raises(RequestError, match=r"no-such\.png"):
        list(find_images([tmp_path / "no-such.png"]))


def test_undecodable_bytes_and_control_characters_are_escaped() -> None:
    assert printable_path(Path("a\x1b[2Jb\udcff.png")) == "a\\x1b[2Jb\\xff.png"


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/passwd", "a/../../secret.png", "tfds:x/train/1", "out.png"]
)
def test_paths_in_a_table_cannot_leave_the_data_folder(path: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret.png").touch()
    (root / "a" / "fine.png").touch()
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    assert resolve_image(root, path) is None
    assert resolve_image(root, "a/fine.png") == root / "a" / "fine.png"


def test_samples_have_neutral_names_and_the_expected_predictions(
    run_with_export: Callable[[str], Path], trained: Trained
) -> None:
    run_folder = run_with_export("saved_model")
    export = run_folder / "export" / "saved_model" / "1"
    assert read_samples(export) is None
    files = select_test_images(run_folder, limit=4)
    images = read_probe_images(files, max_pixels=trained.max_pixels)
    assert (len(images.encoded), images.problems) == (4, ())
    write_samples(export, images.encoded, expected_predictions(trained, images.encoded))
    samples = read_samples(export)
    assert samples is not None
    assert samples.encoded == images.encoded
    assert samples.expected.probabilities == pytest.approx(trained.probabilities(samples.encoded), abs=0)
    names = {path.stem for path in (export / "samples").iterdir()}
    assert names == {"expected", "sample_1", "sample_2", "sample_3", "sample_4"}


def test_the_highest_version_is_the_export(tmp_path: Path) -> None:
    assert find_export(tmp_path) is None
    for version in ("1", "2", "10"):
        (tmp_path / "served" / version).mkdir(parents=True)
    for version in ("1", "2"):
        (tmp_path / "served" / version / "saved_model.pb").touch()
    found = find_export(tmp_path / "served")
    assert found is not None
    assert (found.folder, found.format_name) == (tmp_path / "served" / "2", "saved_model")
