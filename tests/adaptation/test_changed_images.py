"""Steps that change images: which images, the losses on them, and the rejection of caches."""

import typing

import numpy as np
import pytest
import tensorflow as tf
from make_domains import build_method, make_batches, make_phase, softmax

from kerastl import augment, registry
from kerastl.adaptation import build_step, check_phase, get_method, reinhard_style
from kerastl.adaptation.adaptation_step import step_seeds
from kerastl.adaptation.styles import StyleTransferStep
from kerastl.augment import build_policy
from kerastl.augment.presets import POLICIES
from kerastl.errors import RequestError
from kerastl.training import ClassificationStep

ALL = "all"


def loss_of(model, images, batch):
    plain = ClassificationStep(3).losses(model, {"train": (images, *batch[1:])}, tf.constant(0.5))
    return float(plain["loss"])


@pytest.mark.parametrize(("source", "target"), [(5, 3), (3, 5), (4, 4)])
def test_each_source_image_gets_the_style_of_the_target_image_at_its_position(model, source, target):
    batches = make_batches(source, target)
    images, styles = (batches[name][0].numpy() for name in ("source", "target"))
    paired_styles = np.stack([styles[position % target] for position in range(source)])
    restyled = loss_of(model, reinhard_style(images, paired_styles), batches["source"])
    plain = loss_of(model, images, batches["source"])
    losses = {
        beside: build_method("reinhard", beside=beside).losses(model, batches, tf.constant(0.5))
        for beside in (False, True)
    }
    assert float(losses[False]["loss"]) == pytest.approx(restyled, rel=1e-5)
    assert float(losses[True]["loss"]) == pytest.approx((restyled + plain) / 2, rel=1e-5)
    assert abs(restyled - plain) > 1e-3


def test_share_depends_on_step_and_image_only(model):
    is_restyled = []

    def style(images, styles):
        return tf.zeros_like(images)

    class RecordingStep(StyleTransferStep):
        def classification_losses(self, batch, logits, progress):
            is_restyled.append(tf.reduce_max(batch[0], [1, 2, 3]).numpy() == 0)
            return super().classification_losses(batch, logits, progress)

    arguments = {"num_classes": 3, "num_features": 128, "seed": 4}
    step = RecordingStep(style, share=0.25, beside=False, **arguments)
    for at in (0.0, 0.0, 0.5):
        step.losses(model, make_batches(400), tf.constant(at))
    first, again, later = is_restyled
    assert (first == again).all()
    assert (first != later).any()
    assert 0.17 < first.mean() < 0.33
    # The decision depends on the image, not on its position in the batch.
    images, labels, indices = make_batches(400)["source"]
    reordered = make_batches(400) | {"source": (images[::-1], labels[::-1], indices[::-1])}
    step.losses(model, reordered, tf.constant(0.0))
    assert (is_restyled[-1][::-1] == first).all()


def test_step_seeds_differ_from_those_of_the_dataset_augmentation():
    from kerastl.data import seeds_for

    indices = tf.range(50, dtype=tf.int64)
    steps = [step_seeds(4, tf.constant(at), indices).numpy() for at in (0.0, 1 / 3, 0.5)]
    epochs = [seeds_for(4, tf.constant(epoch, tf.int64), indices).numpy() for epoch in range(3)]
    rows = {tuple(row) for seeds in (*steps, *epochs) for row in seeds.tolist()}
    assert len(rows) == 6 * 50


@pytest.fixture
def exact_policies(monkeypatch):
    monkeypatch.setattr(
        augment, "build_policy", lambda *args, **kwargs: build_policy(*args, exact=True, **kwargs)
    )


def augment_lightly(batch):
    """Return the images of a step with seed 4 and policy `light` at progress 0.5."""
    images, _, indices = batch
    seeds = step_seeds(4, tf.constant(0.5), indices)
    return build_policy(POLICIES["light"], image_size_px=16, exact=True)(images, seeds)


@pytest.mark.usefixtures("exact_policies")
def test_strong_augmentation_trains_on_augmented_images(model):
    images, labels, indices = make_batches(6)["source"]
    step = build_method("strong_augmentation", policy="light")
    changed = augment_lightly((images, labels, indices))
    losses = step.losses(model, {"source": (images, labels, indices)}, tf.constant(0.5))
    source = (images, labels, indices)
    assert float(losses["loss"]) == pytest.approx(loss_of(model, changed, source), rel=1e-5)
    assert abs(float(losses["loss"]) - loss_of(model, images, source)) > 1e-3


def test_strong_augmentation_uses_the_target_only_for_statistics():
    assert build_method("strong_augmentation").stream_names == ("source",)
    arguments = {"num_classes": 3, "num_features": 128, "update_statistics": True}
    assert build_step("strong_augmentation", **arguments).stream_names == ("source", "target")


def predict(model, images):
    return softmax(np.asarray(model(images, training=True)))


@pytest.mark.usefixtures("exact_policies")
def test_fixmatch_loss_equals_numpy(model):
    batches = make_batches(5, 12)
    weak, strong = (
        predict(model, images) for images in (batches["target"][0], augment_lightly(batches["target"]))
    )
    assert not np.allclose(weak, strong, atol=1e-3)
    threshold = float(np.median(weak.max(axis=1)))
    is_confident = weak.max(axis=1) >= threshold
    expected = np.where(is_confident, -np.log(strong[np.arange(12), weak.argmax(axis=1)]), 0).mean()
    losses = build_method("fixmatch", policy="light", threshold=threshold, weight=3.0).losses(
        model, batches, tf.constant(0.5)
    )
    assert float(losses["pseudo_label_loss"]) == pytest.approx(3 * expected, rel=1e-4)
    assert float(losses["confident"]) == pytest.approx(is_confident.mean())
    plain = loss_of(model, batches["source"][0], batches["source"])
    assert float(losses["loss"]) == pytest.approx(plain, rel=1e-5)
    none_confident = build_method("fixmatch", policy="light", threshold=1.0).losses(
        model, batches, tf.constant(0.5)
    )
    assert float(none_confident["pseudo_label_loss"]) == 0


@pytest.mark.parametrize("name", ["strong_augmentation", "fixmatch"])
def test_all_policies_except_none_are_allowed(name):
    options = registry.options_of("adaptation", name)
    known = typing.get_args(typing.get_type_hints(options)["policy"])
    assert set(known) == set(POLICIES) - {"none"}


@pytest.mark.parametrize(
    "name", [name for name in registry.names("adaptation") if get_method(name).changes_pixels]
)
def test_methods_that_change_images_accept_a_frozen_backbone_but_no_cache(unchanged_model, name):
    method = get_method(name)
    check_phase(name, method, unchanged_model, make_phase("one", 1))
    with pytest.raises(RequestError, match=f"phase one: .*{name}.*cache='features'"):
        check_phase(name, method, unchanged_model, make_phase("one", 1, cache="features"))
