"""Initial weights that belong to another backbone are reported by `check`, before any image is read."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from make_runs import Finished, call

pytestmark = pytest.mark.xdist_group("plain")
MOBILENET = "name: mobilenet_v2\n  alpha: 0.35"


def problems(recipe: Path, backbone: str, weights: Path) -> list[str]:
    """Return the problems of a recipe that starts with the weights of a file or of a run."""
    answer = call("check", recipe, "--json", "--set", f"backbone={{{backbone}, weights: {weights}}}")
    return [problem["message"] for problem in json.loads(answer.out)["problems"]]


@pytest.mark.parametrize(
    ("run_of", "backbone", "reason"),
    [
        ("name: small_cnn", "name: small_cnn", None),
        ("name: small_cnn", "name: mobilenet_v2", "is a run of small_cnn, not of mobilenet_v2."),
        ("name: keras_hub//old/lite0", "name: small_cnn", "is a run of keras_hub/lite0, not of small_cnn."),
        (
            MOBILENET,
            "name: mobilenet_v2, alpha: 0.35",
            "model.keras is a model without the layers of mobilenet_v2.",
        ),
        (MOBILENET, "name: mobilenet_v2", "is a run of mobilenet_v2 with alpha: 0.35. Use the same options."),
    ],
)
def test_weights_of_a_run_of_another_backbone(
    plain: Finished, tmp_path: Path, run_of: str, backbone: str, reason: str | None
) -> None:
    run = shutil.copytree(plain.path, tmp_path / "run")
    resolved = run / "recipe.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("  name: small_cnn", f"  {run_of}", 1))
    found = problems(plain.recipe, backbone, run)
    assert len(found) == (reason is not None)
    assert reason is None or reason in found[0]


def test_weights_files_that_are_damaged_or_without_the_layers_of_the_backbone(
    plain: Finished, tmp_path: Path
) -> None:
    model = plain.path / "model.keras"
    file = Path(shutil.copy(model, tmp_path / "mine.keras"))
    assert problems(plain.recipe, "name: small_cnn", file) == []
    assert problems(plain.recipe, "name: resnet50", file) == [
        f"{file} is a model without the layers of resnet50. Use weights of resnet50."
    ]
    with zipfile.ZipFile(model) as archive:
        weights = archive.read("model.weights.h5")
    for name, content in {
        "cut.keras": model.read_bytes()[:-100],
        "cut.weights.h5": weights[:-1],
        "cut.h5": weights[:-1],
        "notes.txt": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        (message,) = problems(plain.recipe, "name: small_cnn", tmp_path / name)
        assert message.startswith(str(tmp_path / name))
    (tmp_path / "run").mkdir()
    (message,) = problems(plain.recipe, "name: small_cnn", tmp_path / "run")
    assert message == f"There is no file {tmp_path / 'run' / 'model.keras'}."
