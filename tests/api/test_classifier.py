"""The Python API: `read_images`, `build_classifier`, `fit`, `evaluate`, `export_model`, `run` and `load_run`."""

import contextlib
import io
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from dark_and_light import write_dark_and_light

import kerastl
from kerastl.errors import Problems, RequestError
from kerastl.models import read_signature

SIZE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty dark and twenty light images."""
    return write_dark_and_light(tmp_path_factory.mktemp("photos"), 20)


@pytest.fixture(scope="module")
def collection(photos):
    return kerastl.read_images(photos).split(val_fraction=0.2, test_fraction=0.2, seed=7)


def build(class_names=("dark", "light")):
    return kerastl.build_classifier("small_cnn", weights="none", class_names=class_names, image_size_px=SIZE)


@pytest.fixture(scope="module")
def trained(collection):
    model = build()
    train = kerastl.ImageDataset(collection.train, image_size_px=SIZE, seed=7, cache="memory")
    phases = [kerastl.Phase("all", epochs=3, trainable="all")]
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        history = kerastl.fit(model, train, validation_data=collection.val, phases=phases)
    return SimpleNamespace(model=model, history=history, progress=printed.getvalue())


def test_fit_prints_the_outcome_of_each_phase_unless_it_is_not_verbose(trained, collection, capfd):
    assert "Phase       all: trained for 3 epochs. Best: epoch " in trained.progress
    assert trained.history.phases[0].best_epoch in (1, 2, 3)
    phases = [kerastl.Phase("all", epochs=1, trainable="all")]
    kerastl.fit(build(), collection.val, phases=phases, verbose=False)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_run_prints_its_result_unless_it_is_not_verbose(photos, tmp_path, capfd):
    sets = [
        f"data.image_size_px={SIZE}", "backbone={name: small_cnn, weights: none}", "augment=none", "export.formats=[]",
        "evaluation.resamples=100", "phases=[{name: all, epochs: 1, learning_rate: 1e-3, trainable: all}]",
    ]  # fmt: skip
    run = kerastl.run("folder-classifier", data=photos, sets=sets, out=tmp_path / "loud")
    assert (
        f"Score       balanced accuracy {run.summary.headline.estimate.value:.3f}" in capfd.readouterr().err
    )
    kerastl.run("folder-classifier", data=photos, sets=sets, out=tmp_path / "quiet", verbose=False)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_collection_reports_its_splits(collection):
    assert [len(part.records) for part in (collection.train, collection.val, collection.test)] == [24, 8, 8]
    assert repr(collection) == "<Collection: 40 images (8 test, 24 train, 8 val), 2 classes>"


def test_a_collection_without_a_split_is_refused(photos):
    with pytest.raises(RequestError, match=r"no train split.*split\("):
        _ = kerastl.read_images(photos).train


@pytest.mark.slow
def test_a_dataset_takes_class_names_from_a_collection_and_an_augmentation_by_name(collection):
    by_name = kerastl.ImageDataset(collection.train, image_size_px=SIZE, augment="light", seed=7)
    policy = kerastl.ImageDataset(
        collection.train.records, class_names=("dark", "light"), image_size_px=SIZE, seed=7,
        augment=by_name._augment,
    )  # fmt: skip
    for first, second in zip(by_name.batches(1), policy.batches(1), strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    with pytest.raises(RequestError, match="class_names"):
        kerastl.ImageDataset(collection.train.records, image_size_px=SIZE)


def test_training_separates_dark_from_light_images_and_prints_each_epoch(trained, collection):
    scores = kerastl.evaluate(trained.model, collection.test)
    assert scores["test"]["overall"]["auc"]["value"] == 1.0
    assert [row["epoch"] for row in trained.history.rows] == [1, 2, 3]
    assert trained.progress.count("epoch") >= 3


def test_an_export_has_the_class_names_of_the_model(trained, tmp_path):
    version = kerastl.export_model(trained.model, tmp_path / "served")
    assert version == tmp_path / "served" / "1"
    assert '"dark"' in (version / "manifest.json").read_text()


def test_other_class_names_and_sizes_are_refused_before_training(collection):
    model = build(("light", "dark"))
    with pytest.raises(RequestError, match=r"'dark', 'light'.*'light', 'dark'"):
        kerastl.fit(model, collection.train)
    small = kerastl.ImageDataset(collection.train, image_size_px=16)
    with pytest.raises(RequestError, match=r"32 px.*16 px"):
        kerastl.evaluate(build(), small)
    with pytest.raises(
        RequestError, match=r"'dark', 'light'\]\. They must be equal and in the same order\.$"
    ):
        kerastl.evaluate(build(("light", "grey")), collection.test)


def test_training_images_that_are_not_held_out_are_rejected_or_reported(
    photos, collection, monkeypatch, capsys
):
    monkeypatch.setattr("kerastl.workflows.classifier.fit_phases", lambda *args, **options: "trained")
    monkeypatch.setattr("kerastl.workflows.classifier.has_random_backbone", lambda model: False)
    with pytest.raises(RequestError, match=r"images from test, train and val\. Use collection\.train"):
        kerastl.fit(build(), collection)
    with pytest.raises(RequestError, match="from test and train"):
        kerastl.fit(
            build(), collection.with_records([*collection.train.records, *collection.test.records[:1]])
        )
    kerastl.fit(build(), collection.train, validation_data=collection.val)
    assert "Warning" not in (printed := capsys.readouterr().err)
    assert "no split" not in printed
    unsplit = kerastl.read_images(photos)
    for train in (unsplit, kerastl.ImageDataset(unsplit, image_size_px=SIZE)):
        kerastl.fit(build(), train, validation_data=collection.val)
        printed = capsys.readouterr().err
        assert "Training on all 40 images, because they have no split" in printed
        assert "collection.split(val_fraction=0.2" in printed
        assert "Warning: 8 images in validation_data are also training images." in printed
        kerastl.fit(build(), train, verbose=False)
        assert capsys.readouterr().err == ""


def test_evaluating_augmented_images_prints_a_note(collection, capsys):
    augmented = kerastl.ImageDataset(collection.test, image_size_px=SIZE, augment="light", seed=7)
    kerastl.evaluate(build(), augmented)
    assert "Note: test: the images are augmented" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["a"], ["a", "a"]])
def test_a_classifier_needs_two_different_class_names(names):
    with pytest.raises(RequestError, match="two different"):
        build(names)


def test_a_model_without_class_names_is_not_exported(tmp_path):
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(RequestError, match="class_names"):
        kerastl.export_model(model, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_run_reports_all_problems_of_a_recipe_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Problems) as refused:
        kerastl.run("folder-classifier", data="photos", sets=["phases[0].epochs=0", "head.dropout=2"])
    assert [problem.where for problem in refused.value.problems] == [
        "--set phases[0].epochs", "--set head.dropout", "--data",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="not a run folder"):
        kerastl.load_run(tmp_path)


def test_importing_the_package_imports_neither_tensorflow_nor_pydantic():
    code = "import sys, kerastl; dir(kerastl); print([m for m in ('tensorflow', 'pydantic') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    "names", [["Cat", "cat"], ["1", "01"], ["a b", "a\u00a0b"], ["none", "crack"], ["N/A", "x"]]
)
def test_spellings_of_one_class_are_rejected_unless_exact(names):
    options = {"weights": "none", "image_size_px": 32}
    with pytest.raises(Problems, match="identity='exact'"):
        kerastl.build_classifier("small_cnn", class_names=names, **options)
    model = kerastl.build_classifier("small_cnn", class_names=names, identity="exact", **options)
    assert read_signature(model)["class_names"] == tuple(names)
