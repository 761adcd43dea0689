"""One image has the same probabilities everywhere: with the temperature of validation, or without it if requested."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

import kerastl
from kerastl.errors import RequestError
from kerastl.evaluation import load_trained, read_predictions, score
from kerastl.export import check_formats
from tests.workflows.make_runs import RECIPE, Finished, call, draw, rows_of, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("noisy")]
FORMATS = ("saved_model", "keras", "onnx", "litert", "openvino")
CLASSES = ("dark", "light")
TOLERANCE = 1e-6


def installed_formats():
    for name in FORMATS:
        try:
            check_formats([name])
        except RequestError:
            continue
        yield name


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of which one in six has the wrong label, so that validation determines a temperature."""
    folder = tmp_path_factory.mktemp("noisy") / "images"
    for seed, name in enumerate(CLASSES, 1):
        draw(folder / name, 25, seed, light=name == "light")
        for number, file in enumerate(draw_files(folder, name, seed)):
            file.rename(folder / name / f"noise{number}.png")
    return folder


def draw_files(folder, name, seed):
    """Draw five images of the other class."""
    draw(folder.parent / name, 5, seed + 10, light=name != "light")
    return sorted((folder.parent / name).iterdir())


@pytest.fixture(scope="module", params=["validation", "none"])
def finished(request, images, tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp(request.param)
    recipe = folder / "noisy.yaml"
    recipe.write_text(RECIPE.format(path=images))
    formats = f"export={{formats: [{', '.join(installed_formats())}], temperature: {request.param}}}"
    done = run(recipe, folder / "run", "--set", formats, "--set", "data.split.val_fraction=0.4")
    assert done.json("scores.json")["val"]["calibration"]["temperature"]["value"] is not None
    assert (done.json("model.json")["temperature"] is None) == (request.param == "none")
    return done


def test_one_image_has_the_same_probabilities_everywhere(finished, images, tmp_path):
    row = next(row for row in finished.rows("predictions.csv") if row["split"] == "test")
    expected = np.array([float(row[f"prob_{name}"]) for name in CLASSES])
    file = images / row["path"]
    found = {"run.predictions": probabilities_of(kerastl.load_run(finished.path).predictions, row["path"])}
    found["load_trained"] = load_trained(finished.path).predict([file.read_bytes()])[1][0]
    exports = {name: finished.path / "export" / name for name in installed_formats()}
    exports["export command"] = tmp_path / "again"
    assert call("export", finished.path, "--out", tmp_path / "again").code == 0
    own = kerastl.load_run(finished.path).model
    exports["export_model"] = kerastl.export_model(own, tmp_path / "own", class_names=CLASSES).parent
    for name, folder in {"run": finished.path, **exports}.items():
        line = json.loads(call("predict", folder, file, "--json").out)
        found[f"predict {name}"] = [line["probabilities"][label] for label in CLASSES]
    served = tf.saved_model.load(str(exports["saved_model"] / "1")).signatures["serving_default"]
    found["served"] = served(tf.constant([file.read_bytes()]))["probabilities"].numpy()[0]
    for name, values in found.items():
        assert values == pytest.approx(expected, abs=TOLERANCE), name
    logits = np.array([[float(row[f"logit_{name}"]) for name in CLASSES]])
    assert expected == pytest.approx(softmax(logits / (own.temperature or 1.0))[0], abs=TOLERANCE)


def probabilities_of(predictions, path):
    return predictions.probabilities[predictions.paths.index(path)]


def test_scores_page_and_card_use_these_probabilities(finished, images):
    rows = [row for row in finished.rows("predictions.csv") if row["split"] == "test"]
    scores = finished.json("scores.json")["test"]
    losses = [-np.log(float(row[f"prob_{row['label']}"])) for row in rows]
    assert scores["overall"]["log_loss"]["value"] == pytest.approx(np.mean(losses))
    applied = finished.json("model.json")["temperature"]
    calibration = scores["calibration"]
    same = calibration["before" if applied is None else "after"]["overall"]["log_loss"]
    assert same == scores["overall"]["log_loss"]
    assert calibration["before"] != calibration["after"]
    again = score(read_predictions(finished.path / "predictions.csv"), seed=5, resamples=100)["test"]
    assert json.dumps(again["overall"], sort_keys=True) == json.dumps(scores["overall"], sort_keys=True)
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    page, card = (
        (finished.path / name).read_text() for name in ("report.html", "export/saved_model/1/MODEL_CARD.md")
    )
    for row in wrong[:3]:
        probability = float(row[f"prob_{row['predicted']}"])
        assert f"{round(100 * probability, 1)}%" in page
    text = "without a temperature" if applied is None else f"temperature {applied:.3f}"
    assert text in page
    assert ("temperature " + f"{applied:.3g}" if applied else "Postprocessing: none") in card


def test_evaluate_in_python_gives_the_scores_of_the_run(finished, images):
    tested = {row["path"] for row in finished.rows("split.csv") if row["split"] == "test"}
    collection = kerastl.read_images(images)
    test = [record for record in collection.records if record.path in tested]
    dataset = kerastl.ImageDataset(test, class_names=CLASSES, image_size_px=32, shuffle=False)
    result = kerastl.evaluate(kerastl.load_run(finished.path).model, dataset, resamples=100)["all"]["overall"]
    for name in ("log_loss", "ece", "brier", "auc", "accuracy"):
        expected = finished.json("scores.json")["test"]["overall"][name]["value"]
        assert result[name]["value"] == pytest.approx(expected, abs=TOLERANCE), name


@pytest.mark.xdist_group("unlabelled")
def test_candidates_of_an_adaptation_have_probabilities_with_their_own_temperature(unlabelled):
    for finished_file in sorted((unlabelled.path / "runs").glob("*/finished.json")):
        folder = finished_file.parent
        temperature = json.loads((folder / "model.json").read_text()).get("temperature")
        fitted = json.loads((folder / "scores.json").read_text())["val"]["calibration"]["temperature"][
            "value"
        ]
        assert temperature == fitted, folder.name
        row = rows_of(folder / "predictions.csv")[0]
        odds = float(row["logit_light"]) - float(row["logit_dark"])
        expected = 1 / (1 + np.exp(-odds / (temperature or 1.0)))
        assert float(row["prob_light"]) == pytest.approx(expected, abs=TOLERANCE)
