"""The steps that change images: which, what is learnt from it, and what may not be cached."""

import typing

import numpy as np
import pytest
import tensorflow as tf
from domains_drawn import built, plain_phase, softmax, two_batches

from kerastl import registry
from kerastl.adaptation import adaptation_step as step_policy
from kerastl.adaptation import build_step, check_phase, method_named, reinhard_style
from kerastl.adaptation.adaptation_step import step_seeds
from kerastl.adaptation.styles import Restyled
from kerastl.augment import build_policy
from kerastl.augment.presets import POLICIES
from kerastl.errors import RequestError
from kerastl.training import ClassificationStep

ALL = "all"


def loss_of(model, images, batch):
    plain = ClassificationStep(3).losses(model, {"train": (images, *batch[1:])}, tf.constant(0.5))
    return float(plain["loss"])


@pytest.mark.parametrize(("source", "target"), [(5, 3), (3, 5), (4, 4)])
def test_each_source_image_meets_one_target_image_counted_round(model, source, target):
    batches = two_batches(source, target)
    images, styles = (batches[name][0].numpy() for name in ("source", "target"))
    met = np.stack([styles[place % target] for place in range(source)])
    restyled = loss_of(model, reinhard_style(images, met), batches["source"])
    plain = loss_of(model, images, batches["source"])
    told = {
        beside: built("reinhard", beside=beside).losses(model, batches, tf.constant(0.5))
        for beside in (False, True)
    }
    assert float(told[False]["loss"]) == pytest.approx(restyled, rel=1e-5)
    assert float(told[True]["loss"]) == pytest.approx((restyled + plain) / 2, rel=1e-5)
    assert abs(restyled - plain) > 1e-3


def test_the_share_that_is_restyled_is_drawn_by_step_and_image(model):
    seen = []

    def style(images, styles):
        return tf.zeros_like(images)

    class Watching(Restyled):
        def classified(self, batch, logits, progress):
            seen.append(tf.reduce_max(batch[0], [1, 2, 3]).numpy() == 0)
            return super().classified(batch, logits, progress)

    given = {"num_classes": 3, "num_features": 128, "seed": 4}
    step = Watching(style, share=0.25, beside=False, **given)
    for at in (0.0, 0.0, 0.5):
        step.losses(model, two_batches(400), tf.constant(at))
    first, again, later = seen
    assert (first == again).all()
    assert (first != later).any()
    assert 0.17 < first.mean() < 0.33
    # The same images in another order of the batch: chance belongs to the image.
    images, labels, indices = two_batches(400)["source"]
    turned = two_batches(400) | {"source": (images[::-1], labels[::-1], indices[::-1])}
    step.losses(model, turned, tf.constant(0.0))
    assert (seen[-1][::-1] == first).all()


def test_the_seeds_of_a_step_are_not_those_of_the_images_own_augmentation():
    from kerastl.data import seeds_for

    indices = tf.range(50, dtype=tf.int64)
    steps = [step_seeds(4, tf.constant(at), indices).numpy() for at in (0.0, 1 / 3, 0.5)]
    epochs = [seeds_for(4, tf.constant(epoch, tf.int64), indices).numpy() for epoch in range(3)]
    rows = {tuple(row) for seeds in (*steps, *epochs) for row in seeds.tolist()}
    assert len(rows) == 6 * 50


@pytest.fixture
def nothing_compiled(monkeypatch):
    monkeypatch.setattr(
        step_policy, "build_policy", lambda *given, **how: build_policy(*given, exact=True, **how)
    )


def lightly(batch):
    """What the step of seed 4 makes half way of a batch, by the policy light."""
    images, _, indices = batch
    seeds = step_seeds(4, tf.constant(0.5), indices)
    return build_policy(POLICIES["light"], image_size_px=16, exact=True)(images, seeds)


@pytest.mark.usefixtures("nothing_compiled")
def test_strong_augmentation_learns_what_its_policy_makes(model):
    images, labels, indices = two_batches(6)["source"]
    step = built("strong_augmentation", policy="light")
    changed = lightly((images, labels, indices))
    told = step.losses(model, {"source": (images, labels, indices)}, tf.constant(0.5))
    own = (images, labels, indices)
    assert float(told["loss"]) == pytest.approx(loss_of(model, changed, own), rel=1e-5)
    assert abs(float(told["loss"]) - loss_of(model, images, own)) > 1e-3


def test_strong_augmentation_asks_for_the_target_only_where_statistics_follow_it():
    assert built("strong_augmentation").stream_names == ("source",)
    given = {"num_classes": 3, "num_features": 128, "follow_statistics": True}
    assert build_step("strong_augmentation", **given).stream_names == ("source", "target")


def answers(model, images):
    read = np.asarray(model(images, training=True))
    return softmax(read)


@pytest.mark.usefixtures("nothing_compiled")
def test_fixmatch_learns_the_strong_view_under_the_sure_answer_to_the_weak_one(model):
    batches = two_batches(5, 12)
    weak, strong = (answers(model, images) for images in (batches["target"][0], lightly(batches["target"])))
    assert not np.allclose(weak, strong, atol=1e-3)
    threshold = float(np.median(weak.max(axis=1)))
    sure = weak.max(axis=1) >= threshold
    by_hand = np.where(sure, -np.log(strong[np.arange(12), weak.argmax(axis=1)]), 0).mean()
    told = built("fixmatch", policy="light", threshold=threshold, weight=3.0).losses(
        model, batches, tf.constant(0.5)
    )
    assert float(told["pseudo_label_loss"]) == pytest.approx(3 * by_hand, rel=1e-4)
    assert float(told["confident"]) == pytest.approx(sure.mean())
    plain = loss_of(model, batches["source"][0], batches["source"])
    assert float(told["loss"]) == pytest.approx(plain, rel=1e-5)
    nobody = built("fixmatch", policy="light", threshold=1.0).losses(model, batches, tf.constant(0.5))
    assert float(nobody["pseudo_label_loss"]) == 0


@pytest.mark.parametrize("name", ["strong_augmentation", "fixmatch"])
def test_every_policy_that_changes_something_may_be_named(name):
    kind = registry.options_of("adaptation", name)
    known = typing.get_args(typing.get_type_hints(kind)["policy"])
    assert set(known) == set(POLICIES) - {"none"}


@pytest.mark.parametrize(
    "name", [one for one in registry.names("adaptation") if method_named(one).changes_pixels]
)
def test_methods_that_change_images_train_the_head_alone_but_refuse_a_cache(unchanged_model, name):
    method = method_named(name)
    check_phase(name, method, unchanged_model, plain_phase("one", 1))
    with pytest.raises(RequestError, match=f"phase one: .*{name}.*cache: features"):
        check_phase(name, method, unchanged_model, plain_phase("one", 1, cache="features"))
