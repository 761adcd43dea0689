"""`fit`, `evaluate` and `predict` with NumPy arrays and `tf.data` datasets."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerastl
from kerastl.data import ArrayDataset
from kerastl.errors import RequestError, RunFailed
from kerastl.evaluation import predict

NAMES = ("dark", "light")
PHASES = [kerastl.Phase("all", epochs=2, trainable="all")]


def make_images(count, seed):
    """Return uint8 images and class indices; images of class 1 are brighter."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    images = generator.integers(0, 120, (count, 16, 16, 3)) + 60 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


TRAIN, VAL, TEST = make_images(24, 0), make_images(12, 1), make_images(21, 2)


def batched(images, labels, size=8):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def darken(images, seeds):
    """Return images that depend on their seed. A policy would take seconds to compile."""
    return images * (tf.cast(seeds[:, :1, None, None] % 7, tf.float32) + 17) / 24


def build():
    return kerastl.build_classifier("small_cnn", weights=None, class_names=NAMES, image_size_px=16, seed=1)


def trained(train, validation_data=VAL, **options):
    model = build()
    history = kerastl.fit(
        model, train, validation_data=validation_data, phases=PHASES, verbose=False, **options
    )
    return model, history


@pytest.fixture(scope="module")
def model():
    """A linear model of the mean color, without class names."""
    image = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    linear = keras.layers.Dense(2)
    outputs = linear(pooled)
    linear.set_weights([np.array([[-1.0, 1.0]] * 3), np.array([270.0, -270.0])])
    return keras.Model(image, outputs)


@pytest.mark.slow
def test_the_same_batches_train_the_same_model_in_arrays_and_in_tf_data():
    from_arrays, first = trained(
        ArrayDataset(*TRAIN, class_names=NAMES, shuffle=False, batch_size=8, augment=darken, seed=5)
    )
    one_hot = np.eye(2, dtype=np.float32)[TRAIN[1]]
    from_tf, second = trained(
        batched(TRAIN[0].astype(np.float32), one_hot),
        batched(VAL[0], np.array(NAMES)[VAL[1]]),
        augment=darken,
        seed=5,
    )
    assert first.rows == second.rows
    for one, other in zip(from_arrays.get_weights(), from_tf.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(report["faults"] == [] for report in second.freeze_reports)
    assert kerastl.evaluate(from_tf, TEST)["all"]["overall"]["accuracy"]["value"] == 1


def test_scores_depend_neither_on_the_form_of_the_images_nor_on_their_order(model):
    images, labels = TEST
    shuffled = tf.data.Dataset.from_tensor_slices((images, np.array(NAMES)[labels])).shuffle(21).batch(8)
    scores = kerastl.evaluate(model, TEST, class_names=NAMES)["all"]["overall"]
    others = [
        kerastl.evaluate(model, other, class_names=NAMES)["all"]["overall"]
        for other in ((images, np.eye(2)[labels]), shuffled, ArrayDataset(*TEST, class_names=NAMES))
    ]
    values = [{name: metric["value"] for name, metric in each.items()} for each in (scores, *others)]
    for other in values[1:]:
        assert other.keys() == values[0].keys()
        np.testing.assert_allclose(list(other.values()), list(values[0].values()), rtol=1e-6)
    assert 0.5 < values[0]["accuracy"] <= 1


def test_predictions_of_a_shuffled_dataset_keep_their_labels(model):
    images, labels = TEST
    expected = {
        (logits, label)
        for logits, label in zip(map(tuple, model.predict(images, verbose=0)), labels, strict=True)
    }
    dataset = kerastl.data.TfDataset(
        batched(images, labels).unbatch().shuffle(21).batch(4), class_names=NAMES
    )
    predictions = predict(model, dataset)
    pairs = set(zip(map(tuple, predictions.logits), predictions.labels, strict=True))
    assert {label for _, label in pairs} == {0, 1}
    np.testing.assert_allclose(
        sorted(logits for logits, _ in pairs), sorted(logits for logits, _ in expected), rtol=1e-5
    )
    by_logit = {round(float(logits[0]), 2): label for logits, label in expected}
    assert all(by_logit[round(float(logits[0]), 2)] == label for logits, label in pairs)


@pytest.mark.parametrize("own", [["light", "dark"], ["light", "night"], ["light"]])
def test_a_dataset_of_keras_with_other_class_names_is_refused_everywhere(own):
    classifier, dataset = build(), batched(*TEST)
    initial = classifier.get_weights()
    dataset.class_names = own
    calls = {
        "train": lambda: kerastl.fit(classifier, dataset, phases=PHASES),
        "validation_data": lambda: trained(TRAIN, dataset),
        "test": lambda: kerastl.evaluate(classifier, dataset),
        "dataset": lambda: predict(classifier, dataset),
    }
    for name, call in calls.items():
        with pytest.raises(RequestError, match=f"{name} has 1 problem.\n  class_names: are .*{own}"):
            call()
    assert all(map(np.array_equal, initial, classifier.get_weights()))


def test_a_model_without_class_names_gets_those_of_a_dataset_of_keras(model):
    dataset, copy = batched(*TEST), keras.models.clone_model(model)
    dataset.class_names = ["dark", "light"]
    assert predict(copy, dataset).class_names == NAMES
    with pytest.raises(RequestError, match=r"class_names is .*Remove class_names="):
        kerastl.evaluate(copy, ArrayDataset(*TEST, class_names=NAMES), class_names=NAMES[::-1])
    kerastl.fit(copy, dataset, validation_data=VAL, verbose=False, phases=[kerastl.Phase("all", epochs=1)])
    dataset.class_names = ["light", "dark"]
    with pytest.raises(RequestError, match="must be equal and in the same order"):
        predict(copy, dataset)


def test_unlabeled_images_are_predicted_and_not_evaluated():
    classifier = build()
    images = TEST[0]
    first, second = (
        predict(classifier, images),
        predict(classifier, tf.data.Dataset.from_tensor_slices(images).batch(5)),
    )
    np.testing.assert_array_equal(first.logits, second.logits)
    assert set(first.labels) == {-1}
    for unlabeled in (images, (images, None)):
        with pytest.raises(RequestError, match="0 of 21 images are labeled"):
            kerastl.evaluate(classifier, unlabeled)


def test_groups_of_an_array_are_resampled_together(model, capsys):
    images, labels = TEST
    kerastl.evaluate(model, (images, labels), class_names=NAMES)
    assert "each image is its own group" in capsys.readouterr().err
    groups = np.arange(21) // 2
    scores = kerastl.evaluate(model, ArrayDataset(images, labels, class_names=NAMES, groups=groups))
    assert scores["all"]["overall"]["accuracy"]["value"] is not None
    assert "own group" not in capsys.readouterr().err


def test_images_in_training_and_validation_and_missing_classes_are_reported(monkeypatch, capsys):
    monkeypatch.setattr("kerastl.workflows.classifier.fit_phases", lambda *args, **options: "trained")
    images, labels = TRAIN
    kerastl.fit(
        build(),
        batched(images, labels),
        validation_data=(images[:3].astype(float), labels[:3]),
        phases=PHASES,
    )
    printed = capsys.readouterr().err
    assert "3 images in validation_data are also training images" in printed
    assert "collection" not in printed
    kerastl.fit(build(), (images, np.zeros(24)), phases=PHASES)
    assert "there are no training images of 'light'" in capsys.readouterr().err


def test_a_cache_of_a_tf_dataset_is_refused_and_auto_uses_none():
    phase = kerastl.Phase("head", epochs=1, batch_norm="frozen", cache="features")
    classifier = build()
    kerastl.models.write_signature(classifier, class_names=NAMES)
    with pytest.raises(RequestError, match=r"tf\.data\.Dataset may change its images"):
        kerastl.training.fit(
            classifier,
            kerastl.data.TfDataset(batched(*TRAIN), class_names=NAMES, augment=darken),
            phases=[phase],
        )


def test_auto_caches_arrays_but_not_tf_datasets(monkeypatch):
    decided = []
    monkeypatch.setattr("kerastl.workflows.classifier.has_random_backbone", lambda model: False)
    monkeypatch.setattr(
        "kerastl.training.loop.PhaseLoop.run",
        lambda self, **_: decided.append(self.all_phase_data[0].phase.cache),
    )
    phases = [kerastl.Phase("head", epochs=1, batch_norm="frozen")]
    for train, val in ((TRAIN, VAL), (batched(*TRAIN), VAL), (TRAIN, batched(*VAL))):
        kerastl.fit(build(), train, validation_data=val, phases=phases, verbose=False)
    assert decided == ["features", "none", "none"]


def test_an_error_in_a_later_pass_names_its_cause():
    passes = []

    def generate():
        passes.append(1)
        yield TRAIN[0][:8], TRAIN[1][:8]
        if len(passes) == 3:
            raise ValueError("the network share is gone")

    signature = (tf.TensorSpec([None, 16, 16, 3], tf.uint8), tf.TensorSpec([None], tf.int64))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    with pytest.raises(RunFailed, match="ValueError: the network share is gone"):
        trained(dataset)


@pytest.mark.slow
@pytest.mark.parametrize("data", [TRAIN, batched(*TRAIN)], ids=["arrays", "tf_data"])
def test_resumed_training_ends_with_the_same_bytes(data, tmp_path):
    whole, expected = trained(data, augment=darken)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(data, augment=darken, checkpoints=tmp_path, callbacks=[Stop()])
    resumed, history = trained(data, augment=darken, checkpoints=tmp_path, resume=True)
    assert history.rows == expected.rows
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
