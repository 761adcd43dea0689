import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest

from kerastl.errors import RequestError
from kerastl.evaluation import load_trained, read_description
from kerastl.evaluation.trained_model import fingerprint, load_network, weights_fingerprint


def change(run_folder: Path, **values: Any) -> None:
    file = run_folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_an_unfinished_run_is_refused_with_the_command_to_resume(run_folder: Path) -> None:
    (run_folder / "model.json").unlink()
    with pytest.raises(RequestError, match="--resume"):
        load_trained(run_folder)


def test_an_unfinished_candidate_is_refused_with_the_command_to_resume_its_run(run_folder: Path) -> None:
    candidate = run_folder / "runs" / "coral"
    candidate.mkdir(parents=True)
    for name in ("model.keras", "recipe.resolved.yaml"):
        (candidate / name).write_text("")
    with pytest.raises(RequestError) as refused:
        load_trained(candidate)
    words = shlex.split(str(refused.value).partition("To finish it: ")[2])
    assert words[words.index("--out") + 1] == str(run_folder)


@pytest.mark.parametrize("name", ["model.json", "model.keras"])
def test_a_finished_run_without_a_file_is_damaged_and_cannot_be_resumed(run_folder: Path, name: str) -> None:
    (run_folder / "finished.json").write_text("{}")
    (run_folder / name).unlink()
    with pytest.raises(RequestError, match=rf"damaged: it has no {name}.*again") as refused:
        load_trained(run_folder)
    assert "--resume" not in str(refused.value)


def test_another_folder_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=str(tmp_path)):
        read_description(tmp_path)
    with pytest.raises(RequestError, match="nowhere"):
        read_description(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"window": [5, 5]}, "window"),
        ({"window": [0, float("nan")]}, "window"),
        ({"class_names": ["a", "a", "b"]}, "class"),
        ({"image_size_px": "wide"}, "model.json"),
        ({"class_names": ["a", "b"]}, "2"),
        ({"image_size_px": 25}, "25"),
    ],
)
def test_a_damaged_description_is_refused_with_the_reason(
    values: dict[str, Any], key: str, run_folder: Path
) -> None:
    change(run_folder, **values)
    with pytest.raises(RequestError, match=key):
        load_trained(run_folder)


@pytest.mark.parametrize(
    "values",
    [
        {"class_names": ["<script>alert(1)</script>", "benign", "10"]}, {"temperature": 1.5}, {"temperature": None},
        {"window": None}, {"window": [1000.0, 3001.0]}, {"max_pixels": 1}, {"fingerprint": "0"},
    ],
)  # fmt: skip
def test_a_description_that_was_edited_is_refused(values: dict[str, Any], run_folder: Path) -> None:
    change(run_folder, temperature=1.25)
    weights = weights_fingerprint(load_network(run_folder))
    change(run_folder, fingerprint=fingerprint(weights, read_description(run_folder)))
    assert load_trained(run_folder).temperature == 1.25
    change(run_folder, data_root="/moved")
    load_trained(run_folder)
    change(run_folder, **values)
    with pytest.raises(RequestError, match=r"model\.json was edited, or belongs to a different run"):
        load_trained(run_folder)


def test_the_model_of_another_run_is_refused(run_folder: Path) -> None:
    weights = weights_fingerprint(load_network(run_folder))
    change(run_folder, fingerprint=fingerprint(weights, read_description(run_folder)))
    model = load_network(run_folder)
    model.layers[-1].bias.assign_add([0.0, 0.0, 1e-6])
    model.save(run_folder / "model.keras")
    with pytest.raises(RequestError, match="a different run"):
        load_trained(run_folder)


def test_a_model_file_with_code_is_refused(run_folder: Path) -> None:
    image = keras.Input((24, 24, 3))
    flat = keras.layers.Flatten()(image)
    keras.Model(image, keras.layers.Lambda(lambda x: x[:, :3])(flat)).save(run_folder / "model.keras")
    with pytest.raises(RequestError, match=r"model\.keras"):
        load_trained(run_folder)


def test_a_truncated_model_file_is_refused(run_folder: Path) -> None:
    file = run_folder / "model.keras"
    assert zipfile.is_zipfile(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(RequestError, match=r"model\.keras is damaged: it is empty or truncated"):
        load_trained(run_folder)
