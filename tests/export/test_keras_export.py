"""The Keras export holds the model and its description, and nothing of the images."""

import json
import math
import shutil

import pytest

from kerastl.errors import RequestError
from kerastl.evaluation import load_trained
from kerastl.evaluation.trained_model import find_model, read_source_model, read_unverified_model
from kerastl.export import export_once, export_run, find_export, verify_keras_export

RESOLVED = "backbone: {name: small_cnn, weights: none}\nhead: {dropout: 0.4}\n"
SPLIT = "path,label,split,group,domain\n" + "".join(
    f"in/{number}.png,{label},{split},secret{number},a\n"
    for number, (label, split) in enumerate(
        [("benign", "train"), ("benign", "train"), ("10", "train"), ("10", "val")]
    )
)
SCORES = {
    "val": {
        "overall": {},
        "calibration": {
            "bins": 15,
            "temperature": {"value": 1.5, "from": "val"},
            "before": {"overall": {}},
            "after": {"overall": {"log_loss": {"value": 0.25, "low": 0.125, "high": 0.5}}},
        },
        "confusion": [[5, 1], [2, 1]],
        "operating_points": {
            "positive": "10",
            "points": [{"fixed": "specificity", "at": 0.9, "threshold": 0.75, "overall": {}}],
        },
    }
}


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """A run with an export in the format keras. Read only."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("keras") / "run")
    (folder / "recipe.resolved.yaml").write_text(RESOLVED)
    (folder / "split.csv").write_text(SPLIT)
    (folder / "scores.json").write_text(json.dumps(SCORES))
    description = json.loads((folder / "model.json").read_text()) | {"temperature": 1.5}
    (folder / "model.json").write_text(json.dumps(description))
    assert export_run(folder, "keras") == folder / "export" / "keras" / "1"
    return folder


@pytest.fixture
def run(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "run")


@pytest.fixture
def keras_export(run):
    return run / "export" / "keras" / "1"


def test_the_export_describes_the_model_and_contains_nothing_of_its_images(exported):
    keras_export = exported / "export" / "keras" / "1"
    assert {file.name for file in keras_export.iterdir()} == {"model.keras", "model.json", "manifest.json"}
    content = json.loads((keras_export / "model.json").read_text())
    assert content["backbone"] == {"name": "small_cnn"}
    assert content["head"] == {"dropout": 0.4}
    assert content["class_shares"]["benign"] == pytest.approx(2 / 3)
    assert content["class_shares"]["10"] == pytest.approx(1 / 3)
    assert content["validation"]["temperature"] == content["temperature"] == 1.5
    assert content["validation"]["points"] == [{"fixed": "specificity", "at": 0.9, "threshold": 0.75}]
    labels = -(6 * math.log(6 / 9) + 3 * math.log(3 / 9)) / 9
    assert content["validation"]["bounded_information"] == pytest.approx(
        {"value": labels - 0.25, "low": labels - 0.5, "high": labels - 0.125}
    )
    root = json.loads((exported / "model.json").read_text())["data_root"]
    for file in keras_export.iterdir():
        for word in (b"secret", b".png", root.encode(), str(exported).encode()):
            assert word not in file.read_bytes(), file.name


def test_the_export_has_the_description_and_the_weights_of_the_run(run, keras_export):
    assert find_model(keras_export.parent) == keras_export
    assert read_source_model(run) == read_source_model(keras_export)
    own, exported = (load_trained(folder).model.get_weights() for folder in (run, keras_export))
    assert all((a == b).all() for a, b in zip(own, exported, strict=True))


def test_a_resumed_run_does_not_export_the_same_model_twice(run, keras_export):
    assert export_once(run, "keras") == keras_export
    (keras_export / "model.json").write_text("{}")
    assert export_once(run, "keras") == keras_export.parent / "2"
    found = find_export(keras_export.parent)
    assert found is not None
    assert find_model(keras_export.parent) == found.folder == keras_export.parent / "2"


def test_verify_finds_a_modified_file_and_another_run(run, keras_export, tmp_path):
    assert all(finding.ok for finding in verify_keras_export(keras_export, run))
    other = tmp_path / "other"
    shutil.copytree(run, other)
    model = load_trained(run).model
    model.get_layer("norm").moving_mean.assign(model.get_layer("norm").moving_mean + 1.0)
    model.save(other / "model.keras")
    bad = [finding for finding in verify_keras_export(keras_export, other) if not finding.ok]
    assert [finding.check for finding in bad] == ["run"]
    (keras_export / "model.json").write_text((keras_export / "model.json").read_text() + " ")
    (bad,) = (finding for finding in verify_keras_export(keras_export, None) if not finding.ok)
    assert (bad.check, "model.json" in bad.detail) == ("files", True)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": []},
        {"image_size_px": -1},
        {"window": [3, 1]},
        {"backbone": {"name": ["x"]}},
        {"backbone": 3},
        {"head": {}},
        {"class_shares": {"benign": 7, "10": 0, "<script>alert(1)</script>": 0}},
        {"validation": {"temperature": "hot", "positive": None, "points": []}},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(keras_export, change):
    content = json.loads((keras_export / "model.json").read_text())
    (keras_export / "model.json").write_text(json.dumps(content | change))
    with pytest.raises(RequestError, match=r"model\.json|model"):
        read_unverified_model(keras_export)
    with pytest.raises(RequestError, match=r"model\.json"):
        read_source_model(keras_export)


def test_a_description_of_another_model_is_refused(keras_export):
    content = json.loads((keras_export / "model.json").read_text())
    (keras_export / "model.json").write_text(json.dumps(content | {"image_size_px": 32}))
    with pytest.raises(RequestError):
        load_trained(keras_export)


def test_a_folder_without_a_model_is_refused(tmp_path, run):
    with pytest.raises(RequestError, match="nowhere"):
        read_source_model(tmp_path / "nowhere")
    (run / "recipe.resolved.yaml").unlink()
    with pytest.raises(RequestError):
        read_source_model(run)
