"""What travels to another hospital: a model and what one must know to go on with it, nothing of the images."""

import json
import math
import shutil

import pytest

from kerastl.errors import RequestError
from kerastl.evaluation import load_trained
from kerastl.evaluation.trained_model import find_model, read_source_model, read_unverified_model
from kerastl.export import export_once, export_run, find_keras_export, verify_keras_export

RESOLVED = "backbone: {name: small_cnn, weights: none}\nhead: {dropout: 0.4}\n"
SPLIT = "path,label,split,group,domain\n" + "".join(
    f"in/{number}.png,{label},{split},secret{number},a\n"
    for number, (label, split) in enumerate(
        [("benign", "train"), ("benign", "train"), ("10", "train"), ("10", "val")]
    )
)
SCORES = {
    "val": {
        "calibration": {
            "temperature": {"value": 1.5, "from": "val"},
            "overall": {"log_loss": {"value": 0.25, "low": 0.125, "high": 0.5}},
        },
        "confusion": [[5, 1], [2, 1]],
        "operating_points": {
            "positive": "10",
            "points": [{"fixed": "specificity", "at": 0.9, "threshold": 0.75, "overall": {}}],
        },
    }
}


@pytest.fixture
def run(run_folder):
    (run_folder / "recipe.resolved.yaml").write_text(RESOLVED)
    (run_folder / "split.csv").write_text(SPLIT)
    (run_folder / "scores.json").write_text(json.dumps(SCORES))
    return run_folder


@pytest.fixture
def portable(run):
    return export_run(run, "keras")


def test_the_export_describes_the_model_and_contains_nothing_of_its_images(run, portable):
    assert portable == run / "export" / "keras" / "1"
    assert {one.name for one in portable.iterdir()} == {"model.keras", "model.json", "manifest.json"}
    told = json.loads((portable / "model.json").read_text())
    assert told["backbone"] == {"name": "small_cnn"}
    assert told["head"] == {"dropout": 0.4}
    assert told["class_shares"]["benign"] == pytest.approx(2 / 3)
    assert told["class_shares"]["10"] == pytest.approx(1 / 3)
    assert told["validation"]["temperature"] == 1.5
    assert told["validation"]["points"] == [{"fixed": "specificity", "at": 0.9, "threshold": 0.75}]
    labels = -(6 * math.log(6 / 9) + 3 * math.log(3 / 9)) / 9
    assert told["validation"]["bounded_information"] == pytest.approx(
        {"value": labels - 0.25, "low": labels - 0.5, "high": labels - 0.125}
    )
    root = json.loads((run / "model.json").read_text())["data_root"]
    for file in portable.iterdir():
        for word in (b"secret", b".png", root.encode(), str(run).encode()):
            assert word not in file.read_bytes(), file.name


def test_the_export_has_the_description_and_the_weights_of_the_run(run, portable):
    one, other = read_source_model(run), read_source_model(portable.parent)
    assert other.folder == portable
    assert one.to_json() == other.to_json()
    first, second = (load_trained(folder).model.get_weights() for folder in (run, portable))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_resumed_run_does_not_export_the_same_model_twice(run, portable):
    assert export_once(run, "keras") == portable
    (portable / "model.json").write_text("{}")
    assert export_once(run, "keras") == portable.parent / "2"
    assert find_model(portable.parent) == find_keras_export(portable.parent) == portable.parent / "2"


def test_verify_finds_a_modified_file_and_another_run(run, portable, tmp_path):
    assert all(one.ok for one in verify_keras_export(portable, run))
    other = tmp_path / "other"
    shutil.copytree(run, other)
    model = load_trained(run).model
    model.get_layer("norm").moving_mean.assign(model.get_layer("norm").moving_mean + 1.0)
    model.save(other / "model.keras")
    bad = [one for one in verify_keras_export(portable, other) if not one.ok]
    assert [one.check for one in bad] == ["run"]
    (portable / "model.json").write_text((portable / "model.json").read_text() + " ")
    (bad,) = (one for one in verify_keras_export(portable, None) if not one.ok)
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
def test_a_damaged_description_is_refused(portable, change):
    told = json.loads((portable / "model.json").read_text())
    (portable / "model.json").write_text(json.dumps(told | change))
    with pytest.raises(RequestError, match=r"model\.json|model"):
        read_unverified_model(portable)
    with pytest.raises(RequestError, match=r"model\.json"):
        read_source_model(portable)


def test_a_description_of_another_model_is_refused(portable):
    told = json.loads((portable / "model.json").read_text())
    (portable / "model.json").write_text(json.dumps(told | {"image_size_px": 32}))
    with pytest.raises(RequestError):
        load_trained(portable)


def test_a_folder_without_a_model_is_refused(tmp_path, run):
    with pytest.raises(RequestError, match="nowhere"):
        read_source_model(tmp_path / "nowhere")
    (run / "recipe.resolved.yaml").unlink()
    with pytest.raises(RequestError):
        read_source_model(run)
