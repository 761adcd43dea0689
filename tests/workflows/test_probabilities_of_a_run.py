"""One image has the same probabilities everywhere: with the temperature of validation, or without it if requested."""

import json
import shlex

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

import kerastl
from kerastl.errors import RequestError
from kerastl.evaluation import load_trained, read_predictions, score
from kerastl.export import check_formats
from kerastl.workflows import run as workflow
from tests.workflows.make_runs import RECIPE, Finished, call, draw, rows_of, run, stop_at

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


@pytest.fixture(scope="module")
def noisy(images):
    """Words that run a recipe for these images, up to the format of its exports."""
    recipe = images.parent / "noisy.yaml"
    recipe.write_text(RECIPE.format(path=images))
    return [recipe, "--set", "data.split.val_fraction=0.4"]


@pytest.fixture(scope="module", params=["validation", "none"])
def finished(request, noisy, tmp_path_factory) -> Finished:
    recipe, *sets = noisy
    formats = f"export={{formats: [{', '.join(installed_formats())}], temperature: {request.param}}}"
    done = run(recipe, tmp_path_factory.mktemp(request.param) / "run", *sets, "--set", formats)
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


@pytest.mark.parametrize("step", ["evaluate", "write_exports"])
def test_an_interrupted_run_predicts_with_its_temperature_or_is_refused(
    noisy, images, tmp_path, monkeypatch, step
):
    """Before the evaluation, the temperature of validation is unknown."""
    out = tmp_path / "stopped"
    command = stop_at(monkeypatch, (workflow, step), *noisy, "--out", out)
    assert call("report", out).code == 0
    page = (out / "report.html").read_text()
    # Neither run was checked for consistency.
    with pytest.raises(RequestError, match="not finished") as unchecked:
        kerastl.load_run(out)
    assert shlex.join(command) in str(unchecked.value)
    if step == "write_exports":
        row = rows_of(out / "predictions.csv")[0]
        line = json.loads(call("predict", out, images / row["path"], "--json").out)
        temperature = json.loads((out / "scores.json").read_text())["val"]["calibration"]["temperature"][
            "value"
        ]
        logits = np.array([float(row[f"logit_{name}"]) for name in CLASSES])
        expected = softmax(logits / temperature)
        assert expected[0] != pytest.approx(softmax(logits)[0], abs=1e-4)
        assert [line["probabilities"][name] for name in CLASSES] == pytest.approx(expected, abs=TOLERANCE)
        assert f"temperature {temperature:.3f}" in page
        return
    assert "This run is not finished" in page
    refused = [
        call("predict", out, images), call("export", out, "--out", tmp_path / "served"),
        call("run", noisy[0], "--set", f"backbone.weights={out}", "--out", tmp_path / "next"),
    ]  # fmt: skip
    for answer in refused:
        assert answer.code == 1
        assert shlex.join(command) in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["stopped"]


def test_candidates_of_an_adaptation_have_probabilities_with_their_own_temperature(noisy, images, tmp_path):
    target = tmp_path / "target"
    for seed, name in enumerate(CLASSES, 21):
        draw(target / name, 12, seed, light=name == "light")
    reader = f"reader: {{name: folder, path: {target}}}"
    sets = {
        "phases": "[{name: source, epochs: 2, learning_rate: 1e-3, trainable: all}, {name: adapt, domain: target, "
        "epochs: 2, learning_rate: 1e-3, trainable: all, batch_norm: statistics, keep: last}]",
        "target": f"{{{reader}, labels: none, split: {{val_fraction: 0, test_fraction: 0.4}}}}",
        "adaptation": "{methods: [adabn, coral]}",
    }
    recipe, *words = noisy
    words += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    done = run(recipe, tmp_path / "run", *words)
    chosen = done.json("adaptation.json")["chosen"]
    temperatures = {}
    for folder in [done.path, *sorted((done.path / "runs").iterdir())]:
        temperature = json.loads((folder / "model.json").read_text())["temperature"]
        fitted = json.loads((folder / "scores.json").read_text())["val"]["calibration"]["temperature"]
        assert temperature is not None, f"the validation images determine no temperature of {folder.name}"
        assert temperature == fitted["value"], folder.name
        row = next(row for row in rows_of(folder / "predictions.csv") if row["split"] == "val")
        expected = softmax([float(row[f"logit_{name}"]) / temperature for name in CLASSES])
        assert [float(row[f"prob_{name}"]) for name in CLASSES] == pytest.approx(expected, abs=TOLERANCE)
        line = json.loads(call("predict", folder, images / row["path"], "--json").out)
        if folder.name != "source_only":  # the source's images are evaluated with its statistics
            assert [line["probabilities"][name] for name in CLASSES] == pytest.approx(expected, abs=TOLERANCE)
        temperatures[folder.name] = temperature
    assert temperatures["run"] == temperatures[chosen]
    assert len(set(temperatures.values())) == 3, "each candidate has a temperature of its own"
