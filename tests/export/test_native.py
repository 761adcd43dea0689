"""An export through TensorFlow's C++ loader, without Python in the process."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kerastl.errors import RequestError
from kerastl.export import Expected, Finding, export_saved_model
from kerastl.export.native import build, judge, loader
from kerastl.export.native.loader import Answer, Question, Told, ask_without_python
from tests.export.conftest import CLASS_NAMES, MAX_PIXELS, SIZE, WINDOW

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, build.COMPILERS)), reason="no C compiler"
)


@pytest.fixture(scope="module")
def export(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_saved_model(
        model, tmp_path_factory.mktemp("served"), class_names=CLASS_NAMES, image_size_px=SIZE,
        window=WINDOW, max_pixels=MAX_PIXELS,
    )  # fmt: skip


def softmax(logits: Any) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@needs_compiler
def test_several_questions_in_one_process_are_each_answered_or_refused(
    export: Path, model: Any, encoded: list[bytes]
) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    files = {"image_bytes": encoded}
    questions = [
        Question(
            "pixels", {"images": images}, ("probabilities", "predicted"), warm_up=1, repeats=3
        ),
        Question("pixels", {"images": images[:, 1:]}),
        Question("serving_default", {"image_bytes": [encoded[0], b"no picture"]}),
        Question("serving_default", files),
        Question("serving_default", files),
    ]
    told = ask_without_python(export, questions, intra_threads=1, inter_threads=1)
    assert (told.fault, len(told.answers)) == ("", 5)
    first, size, rubbish, whole, again = told.answers
    wanted = softmax(model(images, training=False))
    np.testing.assert_allclose(first.outputs["probabilities"], wanted, atol=1e-5)
    assert [name.decode() for name in first.outputs["predicted"]] == [
        CLASS_NAMES[index] for index in wanted.argmax(axis=1)
    ]
    assert len(first.nanoseconds) == 3
    assert 0 < min(first.nanoseconds) < told.load_ns * 1000
    assert size.refusal.startswith("INVALID_ARGUMENT: ")
    assert "24 x 24 pixels" in size.refusal
    assert "this is not a picture" in rubbish.refusal
    assert whole.outputs["probabilities"].tobytes() == again.outputs["probabilities"].tobytes()
    assert [name.decode() for name in whole.outputs["class_names"][7]] == list(CLASS_NAMES)
    by_python = tf.saved_model.load(str(export)).signatures["serving_default"](tf.constant(encoded))
    np.testing.assert_allclose(
        whole.outputs["probabilities"], by_python["probabilities"], atol=1e-6
    )


@needs_compiler
def test_what_is_no_export_is_told_not_crashed_on(export: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no signature other; there are"):
        ask_without_python(export, [Question("other", {})])
    with pytest.raises(RequestError, match="There is no tensor image; there are"):
        ask_without_python(export, [Question("pixels", {"image": np.zeros([1, 1])})])
    (tmp_path / "saved_model.pb").write_bytes(b"rubbish \xff")
    with pytest.raises(RequestError, match="cannot be read"):
        ask_without_python(tmp_path, [Question("pixels", {})])
    shutil.copy(export / "saved_model.pb", tmp_path)
    asked = Question("pixels", {"images": np.zeros([1, SIZE, SIZE, 3], np.float32)})
    (lost,) = ask_without_python(tmp_path, [asked]).answers
    assert "Could not find variable" in lost.refusal


def judged(export: Path, answers: Any = None, expected: Expected | None = None) -> Finding:
    images = np.zeros([1, SIZE, SIZE, 3], np.float32)
    return judge.without_python(
        export, pictures=[b""], images=images, answers=answers, expected=expected
    )


def test_without_a_compiler_nothing_is_checked_and_the_finding_says_what_to_install(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = judged(export)
    assert (found.check, found.passed) == ("without Python", None)
    assert found.detail == "not checked: no C compiler; apt-get install gcc"
    assert found.good


def test_a_crash_is_a_fault_that_names_signal_and_question(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crashing"
    script.write_text("#!/bin/sh\nhead -c 24 /dev/zero > $2\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(loader, "loader_program", lambda: script)
    asked = [Question("pixels", {"images": np.zeros([1, 4, 4, 3], np.float32)})]
    assert "SIGSEGV" in ask_without_python(export, asked).fault
    found = judged(export)
    assert found.passed is False
    assert "SIGSEGV" in found.detail


def answer(first: float, predicted: str = "benign") -> Answer:
    names = np.array([[name.encode() for name in CLASS_NAMES]], object)
    rows = np.array([[first, 1 - first, 0]], np.float32)
    predictions = np.array([predicted.encode()], object)
    return Answer({"probabilities": rows, "predicted": predictions, "class_names": names})


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (Told((answer(0.7), answer(0.7))), None),
        (Told((answer(0.7), answer(0.7002))), "pixels: probabilities differ"),
        (Told((answer(float("nan")), answer(0.7))), "serving_default: probabilities differ"),
        (Told((answer(0.7), answer(0.7, "10"))), "pixels: predicted differ"),
        (Told((answer(0.7), Answer(refusal="INTERNAL: a reason"))), "pixels: INTERNAL: a reason"),
        (Told(fault="NOT_FOUND: Op type not registered"), "loader: NOT_FOUND: Op type"),
    ],
)
@pytest.mark.parametrize("by", ["process", "run"])
def test_a_difference_from_the_fresh_process_or_the_run_is_a_fault(
    told: Told, word: str | None, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "ask_without_python", lambda *_: told)
    monkeypatch.setattr(judge, "signatures_of", lambda _: {})
    rows = [[0.7, 0.3, 0.0]]
    plain = {
        "probabilities": rows,
        "predicted": ["benign"],
        "class_names": [list(CLASS_NAMES)],
    }
    if by == "process":
        found = judged(Path(), {"batch": [plain], "pixels": plain})
    else:
        found = judged(Path(), expected=Expected(CLASS_NAMES, np.array(rows, np.float32)))
        if word and "predicted" in word:
            return
    assert found.passed is (word is None)
    assert (word or "largest difference") in found.detail


@needs_compiler
def test_the_program_is_built_once_and_in_a_place_of_its_own_for_each_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the compiler, that says what it was asked."""
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text(
        '#!/bin/sh\necho called >> "$CALLS"\nwhile [ "$1" != -o ]; do shift; done\necho built > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    program = build.loader_program()
    assert build.loader_program() == program
    assert program.read_text() == "built\n"
    other = tmp_path / "ask_export.c"
    other.write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(build, "SOURCE", other)
    assert build.loader_program() != program
    assert (tmp_path / "calls").read_text().count("called") == 2
    assert [path.name for path in program.parent.iterdir()] == [program.name]
