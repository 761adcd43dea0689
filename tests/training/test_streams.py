"""Steps that read target images in addition to source images."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from array_dataset import ArrayDataset, make_images, plain_phase, write_images
from memory_dataset import MemoryDataset
from stopping import Stop, snapshots

from kerastl.augment import build_mixing, build_policy
from kerastl.errors import RequestError, RunFailed
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock, Phase
from kerastl.tasks import SINGLE_LABEL
from kerastl.training import fit
from kerastl.training.freeze import is_statistic
from kerastl.training.loop import classification_step, validate

CLASSES = ("dark", "light")
HEAD = plain_phase("head", epochs=2, learning_rate=1e-2, keep="last")
CONTRAST = [{"name": "random_contrast", "max_fraction": 0.3}]
LAST = plain_phase("last", epochs=3, trainable=FromBlock(from_block="block_3"), keep="last")


class Aligned:
    """Cross-entropy on the source plus the gap between the mean logits of both domains; records its batches."""

    variables = ()
    metric_names = ("mean_index", "other_mean_index")
    stream_names = ("source", "target")
    uses_target_labels = False

    def __init__(self, *, spy=False):
        self.saw = {"source": [], "target": []}
        self._spy = spy

    def losses(self, model, batches, progress):
        images, labels, indices = batches["source"]
        others, other_labels, other_indices = batches["target"]
        if self._spy:
            seen = {"source": (labels, indices), "target": (other_labels, other_indices)}
            for name, values in seen.items():
                tf.numpy_function(lambda *values, at=name: self._note(at, *values), values, [])
        logits, other_logits = model(images, training=True), model(others, training=True)
        gap = tf.reduce_mean(logits, 0) - tf.reduce_mean(other_logits, 0)
        return {
            "loss": tf.reduce_mean(SINGLE_LABEL.loss(labels, logits)),
            "gap": tf.reduce_sum(gap**2),
            "mean_index": tf.reduce_mean(tf.cast(indices, tf.float32)),
            "other_mean_index": tf.reduce_mean(tf.cast(other_indices, tf.float32)),
        }

    def _note(self, name, labels, indices):
        self.saw[name].append((np.array(labels), np.array(indices)))

    def batch_indices(self, name):
        return [indices.tolist() for _, indices in self.saw[name]]

    def on_epoch(self, model, sources):
        self.sources = sources

    def state(self):
        return {}

    def restore(self, state):
        pass

    def may_change(self, variable):
        return False


def model_of(seed=3):
    keras.utils.clear_session()
    return network(seed)


def network(seed=3, dropout=0.2):
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=CLASSES, dropout=dropout, seed=seed)


def target_of(count=11, batch_size=4, **more):
    images, labels = make_images(count, seed=5)
    return ArrayDataset(images * 0.5, labels, batch_size=batch_size, **more)


def flat(lists):
    return [index for indices in lists for index in indices]


def bytes_of(model):
    return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]


class Watched:
    """A finished run with two streams, and the batches of its step."""

    def __init__(self, target, *, asks=False):
        self.step, self.target, self.model = Aligned(spy=True), target, model_of()
        self.step.uses_target_labels = asks
        train = ArrayDataset(*make_images(40))
        fit(self.model, train, target=target, phases=[HEAD], step_for=lambda *_: self.step)


@pytest.fixture(scope="module")
def watched():
    """The target has 11 images in batches of 4, the source 40 in batches of 8."""
    return Watched(target_of())


@pytest.fixture(scope="module")
def labeled():
    """Both have 40 images, and the step reads the target's labels."""
    return Watched(target_of(40), asks=True)


def test_the_shorter_stream_repeats_in_a_new_order_each_time(watched):
    step = watched.step
    assert [len(indices) for indices in step.batch_indices("source")] == 2 * [8] * 5
    for epoch in (step.batch_indices("source")[:5], step.batch_indices("source")[5:]):
        assert sorted(flat(epoch)) == list(range(40))
    batches = step.batch_indices("target")
    assert [len(indices) for indices in batches] == [4, 4, 3] * 3 + [4]
    rounds = [flat(batches[start : start + 3]) for start in (0, 3, 6)]
    assert all(sorted(indices) == list(range(11)) for indices in rounds)
    assert len({tuple(indices) for indices in rounds}) == 3


def test_a_longer_stream_is_read_whole_over_several_epochs(labeled):
    assert len(labeled.step.batch_indices("source")) == 10
    assert sorted(flat(labeled.step.batch_indices("target"))) == list(range(40))


@pytest.mark.slow
def test_phase_of_gradual_unfreezing_continues_the_streams(watched, train):
    first, second = Aligned(spy=True), Aligned(spy=True)
    parts = [
        plain_phase(name, epochs=1, learning_rate=1e-2, keep="last").with_schedule_span(before, 2)
        for before, name in enumerate(("a", "b"))
    ]
    steps = {"a": first, "b": second}
    fit(
        model_of(), train, target=target_of(), phases=parts, step_for=lambda phase, _: steps[phase.name]
    )  # fmt: skip
    assert first.batch_indices("target") + second.batch_indices("target") == watched.step.batch_indices(
        "target"
    )


def test_target_labels_are_passed_only_to_a_step_that_reads_them(watched, labeled):
    for run, asks in ((watched, False), (labeled, True)):
        for labels, indices in run.step.saw["target"]:
            assert labels.dtype == np.int32
            np.testing.assert_array_equal(labels, run.target.labels[indices] if asks else -1)
        assert (run.step.sources["target"].labels >= 0).all() == asks
        assert all((labels >= 0).all() for labels, _ in run.step.saw["source"])


@pytest.mark.slow
def test_other_target_labels_give_the_same_bytes(watched):
    target = target_of()
    target.labels = 1 - target.labels
    assert bytes_of(Watched(target).model) == bytes_of(watched.model) != bytes_of(model_of())


@pytest.mark.slow
def test_two_datasets_with_equal_seed_and_size_are_not_paired(tmp_path):
    """With equal orders, batches of two datasets sorted by class would contain the same classes."""
    records = write_images(tmp_path, 12, CLASSES)
    images = MemoryDataset(records, class_names=CLASSES, image_size_px=32, batch_size=4)
    step = Aligned(spy=True)
    fit(model_of(), images, target=images, phases=[HEAD], step_for=lambda *_: step)
    assert step.batch_indices("source") != step.batch_indices("target")
    assert sorted(flat(step.batch_indices("target")[:3])) == list(range(12))


@pytest.mark.slow
def test_history_weighs_each_step_by_the_images_of_its_first_stream():
    source, target = ArrayDataset(*make_images(20)), target_of(12, batch_size=8)
    history = fit(model_of(), source, target=target, phases=[HEAD], step_for=lambda *_: Aligned())
    steps = [(8, 8), (8, 4), (4, 8)], [(8, 4), (8, 8), (4, 4)]  # images of both, in each epoch
    orders = [target.with_own_order(labeled=False).indexed_batches(epoch) for epoch in range(3)]
    means = [float(np.mean(indices)) for order in orders for _, _, indices in order]
    for row, epoch in zip(history.rows, steps, strict=True):
        assert row["mean_index"] == pytest.approx(19 / 2)
        own = [mean * count for mean, (count, _) in zip(means, epoch, strict=False)]
        assert row["other_mean_index"] == pytest.approx(sum(own) / 20)
        means = means[3:]


@pytest.mark.slow
def test_an_epoch_is_as_long_as_the_stream_that_is_read_first(train):
    class Alone(Aligned):
        stream_names = ("target",)
        metric_names = ("mean_index",)

        def losses(self, model, batches, progress):
            assert set(batches) == {"target"}
            images, _, indices = batches["target"]
            shares = tf.nn.softmax(model(images, training=True))
            entropy = -tf.reduce_sum(shares * tf.math.log(shares + 1e-6), -1)
            return {
                "entropy": tf.reduce_mean(entropy),
                "mean_index": tf.reduce_mean(tf.cast(indices, tf.float32)),
            }

    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    history = fit(
        model_of(), train, target=target_of(), phases=[HEAD], step_for=lambda *_: Alone(),
        callbacks=[count],
    )  # fmt: skip
    assert steps == [0, 1, 2] * 2
    assert [row["mean_index"] for row in history.rows] == [pytest.approx(5.0)] * 2


class Scaled(Aligned):
    """Trains a scale of the gap in addition to the model, and counts its epochs."""

    def __init__(self, start):
        super().__init__()
        self.scale = keras.Variable(start, name="scale", dtype="float32")
        self.variables = (self.scale,)
        self.epochs = 0

    def losses(self, model, batches, progress):
        losses = super().losses(model, batches, progress)
        return {**losses, "gap": losses["gap"] * self.scale + (self.scale - 2.0) ** 2}

    def on_epoch(self, model, sources):
        self.epochs += 1

    def state(self):
        return {"epochs": np.array(self.epochs)}

    def restore(self, state):
        self.epochs = int(state["epochs"])


@pytest.mark.slow
def test_a_resumed_run_of_two_streams_ends_with_equal_bytes(train, val, tmp_path):
    """Resumes after five steps, in the middle of a pass over the three target batches."""
    phase = plain_phase("last", epochs=2, trainable=LAST.trainable, learning_rate=1e-3)
    whole, step, checkpoints = model_of(), Scaled(1.0), tmp_path / "whole"
    given = {"val": val, "target": target_of(), "phases": [phase]}
    expected = fit(
        whole, train, step_for=lambda *_: step, checkpoints=checkpoints,
        on_epoch=snapshots(checkpoints), **given,
    )  # fmt: skip
    assert step.epochs == 2
    resumed, after = model_of(seed=9), Scaled(7.0)
    history = fit(
        resumed, train, step_for=lambda *_: after, checkpoints=tmp_path / "whole-1", resume=True,
        **given,
    )  # fmt: skip
    assert history == expected
    assert bytes_of(resumed) == bytes_of(whole)
    assert after.scale.numpy().tobytes() == step.scale.numpy().tobytes()
    assert after.epochs == 2


class Copies(Aligned):
    """Copies the initial weights of its phase."""

    def __init__(self):
        super().__init__()
        self.copies = []

    def on_phase_begin(self, model, sources):
        assert set(sources) == {"source", "target"}
        self.copies.append(bytes_of(model))


@pytest.mark.slow
def test_on_phase_begin_gets_the_initial_weights_of_the_phase(train, tmp_path):
    model, first, second = model_of(), Copies(), Copies()
    ends, steps = [], {"one": first, "two": second}
    phases = [plain_phase(name, epochs=2, learning_rate=1e-2, keep="last") for name in steps]
    initial = bytes_of(model)
    losses = {"target": target_of(), "phases": phases, "checkpoints": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        fit(
            model, train, step_for=lambda phase, _: steps[phase.name], callbacks=[Stop(3)],
            on_phase_end=lambda *_: ends.append(bytes_of(model)), **losses,
        )  # fmt: skip
    assert first.copies == [initial]
    assert second.copies == ends != [initial]
    resumed = Copies()
    fit(model, train, step_for=lambda *_: resumed, resume=True, **losses)
    assert resumed.copies == []


class Follows(Aligned):
    """Sets the mean of the first BatchNorm to the mean brightness of the target images."""

    def __init__(self, *, says=True):
        super().__init__()
        self._says = says

    def on_epoch(self, model, sources):
        norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
        means = [np.mean(images) for images, _, _ in sources["target"].indexed_batches(0)]
        norm.moving_mean.assign(np.full(norm.moving_mean.shape, np.mean(means) / 100, np.float32))

    def may_change(self, variable):
        return self._says and is_statistic(variable)


@pytest.mark.slow
def test_statistics_that_may_change_are_no_fault_and_are_validated(train, val):
    model = model_of()
    history = fit(model, train, val=val, target=target_of(), phases=[HEAD], step_for=lambda *_: Follows())
    (report,) = history.freeze_reports
    assert report["faults"] == []
    assert {row["layer"] for row in report["layers"] if row["changed"]} == {"head"}
    assert sum(row["statistics_changed"] for row in report["layers"]) == 1
    (metrics,) = validate([lambda images: model(images, training=False)], val)
    assert history.rows[-1]["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_statistics_that_may_not_change_stop_the_run(train):
    with pytest.raises(RunFailed, match="block_1_bn"):
        fit(
            model_of(), train, target=target_of(), phases=[HEAD],
            step_for=lambda *_: Follows(says=False),
        )  # fmt: skip


def images_of(records, *, operations=(), **more):
    policy = build_policy(operations, image_size_px=32) if operations else None
    values = {"class_names": CLASSES, "image_size_px": 32, "batch_size": 7, "seed": 3, **more}
    return MemoryDataset(records, augment=policy, **values)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 43, CLASSES)


@pytest.mark.parametrize(
    ("phase", "cache", "more"),
    [
        pytest.param(HEAD, "features", {}),
        pytest.param(LAST, "boundary", {"operations": CONTRAST, "views": 2}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_training_on_cached_streams_equals_training_on_images(records, tmp_path, phase, cache, more):
    ends, histories = [], []
    for kind in ("none", cache):
        model = model_of()
        history = fit(
            model, images_of(records[:29], **more),
            val=images_of(records[:9], shuffle=False),
            target=images_of(records[29:], **{**more, "batch_size": 5}),
            phases=[Phase(**{**vars(phase), "cache": kind})], step_for=lambda *_: Aligned(),
            cache_dir=tmp_path,
        )  # fmt: skip
        ends.append(np.concatenate([weight.numpy().ravel() for weight in model.weights]))
        histories.append(history.rows)
    start = np.concatenate([weight.numpy().ravel() for weight in model_of().weights])
    moved = np.abs(ends[0] - start).max()
    assert moved > 1e-3
    assert np.abs(ends[1] - ends[0]).max() < 1e-3 * moved
    assert len(list(tmp_path.glob("*/about.json"))) == 3  # source, target, validation
    for row, other_row in zip(*histories, strict=True):
        assert row["gap"] == pytest.approx(other_row["gap"], rel=1e-3, abs=1e-6)
        assert row["mean_index"] == other_row["mean_index"]


@pytest.mark.slow
def test_augmentation_in_the_step_equals_augmentation_in_the_pipeline(records):
    """The streams are in different epochs of their datasets, and each is augmented for its own epoch."""
    ends = []
    for placement in ("host", "device"):
        more = {"operations": [{"name": "random_contrast", "max_fraction": 0.5}], "placement": placement}
        model = model_of()
        fit(
            model, images_of(records[:29], **more), target=images_of(records[29:], **more),
            phases=[HEAD], step_for=lambda *_: Aligned(),
        )  # fmt: skip
        ends.append(bytes_of(model))
    assert ends[0] == ends[1]


def asking(**attributes):
    step = Aligned()
    for name, value in attributes.items():
        setattr(step, name, value)
    return step


@pytest.fixture(scope="module")
def unchanged():
    """A model for tests that only read it."""
    return network()


def mixed(records):
    mixing = build_mixing([{"name": "cut_mix"}], image_size_px=32, num_classes=2)
    return images_of(records, mix=mixing)


@pytest.mark.parametrize(
    ("target", "step", "words"),
    [
        (lambda _: None, asking(), "target="),
        (lambda _: images_of([]), asking(), "0.*batch.*7"),
        (lambda records: images_of(records, batch_size=50, drop_remainder=True), asking(), "14.*batch.*50"),
        (lambda records: images_of(records, image_size_px=16), asking(), "image_size_px.*16.*32"),
        (lambda records: images_of(records, placement="device"), asking(), "placement.*device.*host"),
        (mixed, asking(), "mix="),
        (
            lambda records: images_of(records, class_names=("light", "dark")),
            asking(uses_target_labels=True),
            "light, dark",
        ),
        (images_of, asking(stream_names=("train", "targets")), "train, targets"),
        (images_of, asking(stream_names=()), "reads"),
    ],
    ids=["missing", "empty", "no batch", "size", "placement", "mixed", "classes", "unknown", "none"],
)
def test_incompatible_target_data_is_refused_before_the_first_phase(unchanged, records, target, step, words):
    model, train = unchanged, images_of(records[:29])
    before = bytes_of(model)
    first = plain_phase("first", epochs=1, learning_rate=1e-2)
    with pytest.raises(RequestError, match=f"phase head: .*{words}"):
        fit(
            model, train, target=target(records[29:]), phases=[first, HEAD],
            step_for=lambda phase, source: step if phase is HEAD else classification_step(phase, source),
        )  # fmt: skip
    assert bytes_of(model) == before


def test_step_that_changes_the_trunk_has_no_cache_and_unique_variable_names(unchanged, train):
    cached = plain_phase("head", epochs=1, cache="features", trunk_precision="bfloat16")
    with pytest.raises(RequestError, match=r"cache='features'.*trunk_precision='bfloat16'"):
        fit(unchanged, train, target=target_of(), phases=[cached], step_for=lambda *_: Follows())
    with keras.name_scope("head"):
        step = asking(variables=(keras.Variable([0.0], name="bias"),))
    with pytest.raises(RequestError, match="head/bias"):
        fit(unchanged, train, target=target_of(), phases=[HEAD], step_for=lambda *_: step)


@pytest.mark.slow
def test_augmentation_of_the_target_disables_an_automatic_cache(records, tmp_path):
    phase = plain_phase("head", epochs=1, learning_rate=1e-2, cache="auto")
    for operations, kept in ((CONTRAST, 0), ((), 2)):
        fit(
            model_of(), images_of(records[:29]),
            target=images_of(records[29:], operations=operations),
            phases=[phase], step_for=lambda *_: Aligned(), cache_dir=tmp_path,
        )  # fmt: skip
        assert len(list(tmp_path.glob("*/about.json"))) == kept


TWO_REPLICAS = """
import sys; sys.path[:0] = sys.argv[1:]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from array_dataset import ArrayDataset, make_images
from test_streams import Scaled, network, target_of
from kerastl.errors import RequestError
from kerastl.recipe import Phase
from kerastl.training import fit
ends, phase = [], Phase("head", epochs=2, learning_rate=1e-2, batch_norm="frozen", cache="none")
class Small(Scaled):
    # A mean over images is the mean over two parts; a gap between means is not.
    def losses(self, model, batches, progress):
        losses = super().losses(model, batches, progress)
        logits = model(batches["target"][0], training=True)
        return {**losses, "gap": self.scale * tf.reduce_mean(logits ** 2) + (self.scale - 2.0) ** 2}
# Two replicas have equal parts of each batch: 8 or 4 source images, 6 target images.
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    steps = []
    with strategy.scope():
        model = network(dropout=0.0)
    source, target = ArrayDataset(*make_images(20)), target_of(12, batch_size=6)
    def step_for(*_):
        steps.append(Small(1.0))
        return steps[0]
    history = fit(model, source, target=target, phases=[phase], strategy=strategy, step_for=step_for)
    ends.append((model.get_layer("head").get_weights()[0], steps[0].scale.numpy(),
                 *([row[name] for row in history.rows] for name in ("loss", "gap", "other_mean_index"))))
for one, other in zip(*ends, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
assert ends[0][1] > 1.01
# One target image is left for two replicas: the step is skipped.
target = target_of(7, batch_size=3)
fit(model, source, target=target, phases=[phase], strategy=strategy, step_for=lambda *_: Small(1.0))
assert all(np.isfinite(w.numpy()).all() for w in model.weights)
try:
    fit(model, source, target=target_of(7, batch_size=1), phases=[phase], strategy=strategy,
        step_for=lambda *_: Small(1.0))
except RequestError as error:
    assert "fewer than one batch of 1 for 2 devices" in str(error), error
    print("equal")
"""


@pytest.mark.slow
def test_two_replicas_train_on_two_streams_as_one_device_does(tmp_path):
    """Runs in a separate process, because logical devices must be configured before TensorFlow starts."""
    script = tmp_path / "two.py"
    script.write_text(TWO_REPLICAS)
    done = subprocess.run(
        [sys.executable, script, *map(str, Path(__file__).parents[:2])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "equal" in done.stdout, done.stderr[-2000:]
