"""Cached activations: training on them equals training on images, and a damaged cache is rebuilt."""

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import keras
import numpy as np
import pytest
from array_dataset import phase_with, plain_phase, write_images
from memory_dataset import MemoryDataset
from stopping import snapshots

from kerastl import models
from kerastl.augment import build_mixing, build_policy
from kerastl.data import ImageDataset
from kerastl.errors import Problems
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock, LayerNames
from kerastl.training import checks, decide_phases, feature_cache, fit

CLASSES = ("dark", "light")
TESTS = Path(__file__).parents[1]
TURN = [{"name": "random_rotation", "max_deg": 20.0}, {"name": "random_contrast", "max_fraction": 0.3}]
HEAD = plain_phase("head", epochs=2, learning_rate=1e-2, keep="last")
LAST = FromBlock(from_block="block_3")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 29, CLASSES)


def dataset(records, *, operations=(), shuffle=True, **more):
    policy = build_policy(operations, image_size_px=32) if operations else None
    values = {"class_names": CLASSES, "image_size_px": 32, "batch_size": 7, "seed": 3, **more}
    return MemoryDataset(records, augment=policy, shuffle=shuffle, **values)


def model_of(seed=1):
    keras.utils.clear_session()
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=CLASSES, dropout=0.3, seed=seed)


@pytest.fixture(scope="module")
def unchanged():
    """A model for tests that only read it."""
    return model_of()


def trained(records, phases, cache_dir, *, resume=False, checkpoints=None, on_epoch=None, seed=1, **more):
    model = model_of(seed)
    history = fit(
        model, dataset(records, **more), val=dataset(records[:9], shuffle=False), phases=phases,
        cache_dir=cache_dir, checkpoints=checkpoints, on_epoch=on_epoch, resume=resume,
    )  # fmt: skip
    return model, history


def weights_of(model):
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])


def with_cache(phase, cache, **more):
    return phase_with(phase, cache=cache, **more)


@pytest.fixture(scope="module")
def cached(records, tmp_path_factory):
    """A model that was trained on cached features, its history, and the folder of the cache."""
    folder = tmp_path_factory.mktemp("cached")
    return *trained(records, [with_cache(HEAD, "features")], folder), folder


def test_training_on_cached_features_equals_training_on_images(records, cached, tmp_path):
    assert_equal_training(trained(records, [HEAD], tmp_path), cached[:2], cache="features", views=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"operations": TURN, "views": 3}], ids=["plain", "augmented"])
def test_training_on_cached_activations_equals_training_on_images(records, tmp_path, more):
    phase = phase_with(HEAD, name="last", trainable=LAST)
    plain = trained(records, [phase], tmp_path, **more)
    boundary = trained(records, [with_cache(phase, "boundary")], tmp_path, **more)
    assert_equal_training(plain, boundary, cache="boundary", views=more.get("views", 1))


def assert_equal_training(plain, cached, *, cache, views):
    """Check that two pairs of a model and a history are equal except for rounding."""
    moved = np.abs(weights_of(plain[0]) - weights_of(model_of())).max()
    assert moved > 1e-3
    assert np.abs(weights_of(cached[0]) - weights_of(plain[0])).max() < 1e-3 * moved
    for row, expected_row in zip(cached[1].rows, plain[1].rows, strict=True):
        assert row["loss"] == pytest.approx(expected_row["loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(expected_row["val_loss"], rel=1e-4)
    report = cached[1].freeze_reports[0]["cache"]
    assert (report["kind"], report["views"]) == (cache, views)
    assert "cache" not in plain[1].freeze_reports[0]


@pytest.mark.slow
def test_the_views_of_an_image_differ_and_repeat(records):
    source = dataset(records, operations=TURN[1:], views=2)
    shown = {
        epoch: np.concatenate([images for images, _, _ in sorted_by_index(source.indexed_batches(epoch))])
        for epoch in range(3)
    }
    assert shown[0].tobytes() == shown[2].tobytes() != shown[1].tobytes()
    fresh = dataset(records, operations=TURN[1:])
    first = np.concatenate([images for images, _, _ in sorted_by_index(fresh.indexed_batches(0))])
    assert first.tobytes() == shown[0].tobytes()


def sorted_by_index(batches):
    rows = [(image, label, index) for batch in batches for image, label, index in zip(*batch, strict=True)]
    return [([image], label, index) for image, label, index in sorted(rows, key=lambda row: int(row[2]))]


def test_a_second_run_reads_the_cache_of_the_first(records, cached, monkeypatch):
    first, _, folder = cached

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(feature_cache, "_compute", refuse)
    second, _ = trained(records, [with_cache(HEAD, "features")], folder)
    assert weights_of(first).tobytes() == weights_of(second).tobytes()


def key(model, records, **more):
    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output, name="trunk")
    layers = feature_cache._describe_trunk(trunk, "float32")
    return feature_cache._key(layers, dataset(records, **more), "float32")


def test_other_weights_images_or_augmentation_get_another_cache_entry(unchanged, records, tmp_path):
    plain = key(unchanged, records)
    assert plain == key(unchanged, records, batch_size=4) == key(unchanged, records, seed=8)
    other = shutil.copytree(records[0].file.parent, tmp_path / "other")
    changed = [type(record)(record.path, other / record.file.name, record.label) for record in records]
    assert plain == key(unchanged, changed)
    shutil.copy(records[0].file, changed[1].file)
    turned = {"operations": TURN, "views": 2}
    stronger = [{**TURN[0], "max_deg": 21.0}, TURN[1]]
    keys = [
        plain,
        key(model_of(seed=2), records),
        key(unchanged, changed),
        key(unchanged, records[1:]),
        key(unchanged, records, window=(0.0, 100.0)),
        key(unchanged, records, **turned),
        key(unchanged, records, **turned, seed=8),
        key(unchanged, records, operations=TURN, views=3),
        key(unchanged, records, operations=stronger, views=2),
    ]
    assert len(set(keys)) == len(keys)


def test_a_damaged_entry_is_rebuilt(records, cached, tmp_path):
    first, _, folder = cached
    copy = shutil.copytree(folder, tmp_path / "copy")
    files = sorted(copy.glob("*/tensor0.bin"))
    assert len(files) == 2
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-4] + b"\0\0\0\0")
    files[1].write_bytes(files[1].read_bytes()[:200])
    second, _ = trained(records, [with_cache(HEAD, "features")], copy)
    assert files[0].read_bytes() == whole
    assert weights_of(first).tobytes() == weights_of(second).tobytes()
    assert not list(copy.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "within"), [("bfloat16", 2**-7), ("uint8", 1 / 255)])
def test_a_smaller_precision_rounds_and_reports_its_size(records, tmp_path, precision, within):
    whole, small = tmp_path / "whole", tmp_path / "small"
    phase = plain_phase("last", epochs=3, trainable=LAST, keep="last", cache="boundary")
    _, exact = trained(records, [phase], whole)
    _, rounded = trained(records, [with_cache(phase, "boundary", cache_precision=precision)], small)
    assert rounded.freeze_reports[0]["cache"]["precision"] == precision
    assert rounded.freeze_reports[0]["cache"]["bytes"] < 0.6 * exact.freeze_reports[0]["cache"]["bytes"]
    on_disk = sum(file.stat().st_size for file in small.rglob("*.bin"))
    assert rounded.freeze_reports[0]["cache"]["bytes"] == on_disk
    for row, exact_row in zip(rounded.rows, exact.rows, strict=True):
        assert row["loss"] == pytest.approx(exact_row["loss"], rel=0.05)
    values = np.random.default_rng(0).normal(0, 3, (5, 4, 4, 6)).astype(np.float32)
    values[..., 2] = 7.0
    again = feature_cache.decode(feature_cache.encode(values, precision), precision)
    span = np.ptp(values, axis=(1, 2), keepdims=True) if precision == "uint8" else np.abs(values)
    assert (np.abs(again - values) <= 0.51 * within * span + 1e-6).all()


REFUSED = [
    ({"cache": "features", "trainable": LAST}, {}, "cache='features'.*trainable"),
    ({"cache": "boundary"}, {}, "cache='boundary'"),
    ({"cache": "boundary", "trainable": "all"}, {}, "cache='boundary'"),
    ({"cache": "boundary", "trainable": LayerNames(names=".*conv.*")}, {}, "cache='boundary'.*from_block"),
    ({"cache": "features"}, {"operations": TURN}, "views"),
    ({"cache": "features", "batch_norm": "statistics"}, {}, "batch_norm='frozen'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "more", "words"), REFUSED)
def test_a_cache_that_would_change_the_training_is_refused(unchanged, records, tmp_path, wrong, more, words):
    with pytest.raises(Problems, match=f"phase head.*{words}"):
        fit(
            unchanged, dataset(records, **more), phases=[phase_with(HEAD, **wrong)],
            cache_dir=tmp_path,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_an_unknown_block_of_a_cached_phase_is_reported_once(unchanged, records, tmp_path):
    phase = phase_with(HEAD, cache="boundary", trainable=FromBlock(from_block="blok_3"))
    with pytest.raises(Problems) as error:
        fit(unchanged, dataset(records), phases=[phase], cache_dir=tmp_path)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("cache", ["features", "boundary"])
def test_caching_an_augmentation_without_a_fingerprint_is_refused_before_training(
    unchanged, records, tmp_path, cache, views
):
    flip = keras.layers.RandomFlip(seed=1)
    source = MemoryDataset(
        records, class_names=CLASSES, image_size_px=32, batch_size=7, views=views,
        augment=lambda images, seeds: flip(images, training=True),
    )  # fmt: skip
    seen, before = [], weights_of(unchanged).tobytes()
    phases = [
        plain_phase("first", epochs=1, trainable="all", batch_norm="trainable"),
        plain_phase("second", epochs=1, trainable=LAST if cache == "boundary" else "none", cache=cache),
    ]
    with pytest.raises(Problems, match=r"phase second: .*build_policy"):
        fit(unchanged, source, phases=phases, cache_dir=tmp_path, on_epoch=lambda *given: seen.append(given))
    assert weights_of(unchanged).tobytes() == before
    assert not seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["file/activations", "/proc/nope/activations"])
def test_a_cache_folder_that_is_not_writable_is_refused_before_training(unchanged, records, tmp_path, folder):
    (tmp_path / "file").write_text("no folder")
    seen = []
    with pytest.raises(Problems, match=r"activations.*KERASTL_CACHE"):
        fit(
            unchanged, dataset(records), phases=[with_cache(HEAD, "none"), with_cache(HEAD, "features")],
            cache_dir=tmp_path / folder, on_epoch=lambda *given: seen.append(given),
        )  # fmt: skip
    assert not seen


def test_mixed_images_are_not_cached(unchanged, records, tmp_path):
    source = dataset(records, mix=build_mixing(["mix_up"], image_size_px=32, num_classes=2))
    with pytest.raises(Problems, match="mixing"):
        fit(unchanged, source, phases=[with_cache(HEAD, "features")], cache_dir=tmp_path)


def test_auto_caches_features_only_where_the_training_stays_the_same(unchanged, records):
    def kind(more, **phase):
        source = dataset(records, **more)
        return checks.choose_cache(unchanged, phase_with(HEAD, cache="auto", **phase), [source]).cache

    assert kind({}) == "features"
    assert kind({"operations": TURN, "views": 1}) == "features"
    assert kind({"operations": TURN}) == "none"
    assert kind({}, trainable=LAST) == "none"
    assert kind({}, batch_norm="statistics") == "none"


def test_too_little_disk_space_is_reported_before_anything_is_computed(
    unchanged, records, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(Problems, match=r"1\.0 MB.*bfloat16"):
        fit(
            unchanged, dataset(records), phases=[with_cache(HEAD, "features")],
            cache_dir=tmp_path,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def needed(model, records, tmp_path, monkeypatch, phases):
    """Return the bytes that the check requires for some phases, from the refusal on a full disk."""
    usage = namedtuple("usage", "total used free")
    sizes = []
    monkeypatch.setattr(checks, "format_bytes", lambda size: sizes.append(size) or str(size))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 7))
    try:
        decide_phases(model, phases, [[dataset(records)]] * len(phases), vals={}, cache_dir=tmp_path)
    except Problems:
        return sizes[0]
    return 0


def test_phases_that_share_a_cache_entry_need_its_space_once(unchanged, records, tmp_path, monkeypatch):
    whole = plain_phase("whole", epochs=1, trainable="all", batch_norm="trainable")
    head, last = (
        with_cache(HEAD, "features"),
        plain_phase("last", epochs=1, trainable=LAST, cache="boundary"),
    )

    def room(*phases):
        return needed(unchanged, records, tmp_path, monkeypatch, phases)

    head_bytes, boundary_bytes = 29 * 128 * 4, 29 * 8 * 8 * 64 * 4
    assert (room(head), room(last)) == (head_bytes, boundary_bytes)
    assert room(head, with_cache(head, "features", name="again")) == head_bytes
    assert room(head, last) == room(last, head) == head_bytes + boundary_bytes
    assert room(last, with_cache(last, "boundary", name="again"), head) == boundary_bytes + head_bytes
    assert room(head, whole, with_cache(head, "features", name="again")) == 2 * head_bytes
    assert room(head, last, with_cache(head, "features", name="again")) == 2 * head_bytes + boundary_bytes


def test_an_existing_cache_entry_needs_no_space(unchanged, cached, records, monkeypatch):
    """A resumed run that has filled the disk with its own cache is not refused."""
    *_, folder = cached
    head = with_cache(HEAD, "features")
    assert needed(unchanged, records, folder, monkeypatch, [head]) == 0
    again = with_cache(head, "features", cache_precision="uint8")
    assert needed(unchanged, records, folder, monkeypatch, [again]) == 29 * (128 + 2 * 128 * 4)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from memory_dataset import MemoryDataset
from kerastl.models import build_backbone
from kerastl.data import Record
from kerastl.errors import RunFailed
from kerastl.training.feature_cache import cache_activations

records = [Record(file.name, file, "dark") for file in sorted(Path(sys.argv[2]).glob("*.png"))]
source = MemoryDataset(records, class_names=["dark"], image_size_px=32, batch_size=7)
trunk = build_backbone("small_cnn", weights="none", image_size_px=32)
folder = Path(sys.argv[3])

def keep():
    cache_activations(trunk, [source], precision="float32", folder=folder)
    return [one.name for one in folder.iterdir() if one.suffix != ".lock"]

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    keep()
except RunFailed as error:
    print(error)
print("left:", [one.name for one in folder.iterdir() if one.suffix != ".lock"])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("entries:", len(keep()))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_no_partial_entry_and_a_clear_error(records, tmp_path):
    words = [sys.executable, "-c", FULL, str(TESTS), str(records[0].file.parent), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert "KERASTL_CACHE" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["left: []", "entries: 1"]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(phase_with(HEAD, cache="features"), id="head"),
        pytest.param(
            phase_with(HEAD, name="last", trainable=LAST, cache="boundary"), id="last",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_resumed_cached_phase_uses_the_weights_of_the_phase_before(records, tmp_path, phase):
    """The previous phase changed the trunk: a resumed run must not cache the trunk of the initial model."""
    first = plain_phase("all", epochs=1, trainable="all", batch_norm="trainable", keep="last")
    phases, checkpoints = [first, phase], tmp_path / "whole"
    whole, expected = trained(
        records, phases, tmp_path / "a", checkpoints=checkpoints, on_epoch=snapshots(checkpoints)
    )
    again, history = trained(records, phases, tmp_path / "b", checkpoints=tmp_path / "whole-2", resume=True)
    assert history.rows == expected.rows
    assert history.freeze_reports == expected.freeze_reports
    assert weights_of(again).tobytes() == weights_of(whole).tobytes()


REAL = {
    "mobilenet_v2": {"weights": "imagenet", "image_size_px": 224, "alpha": 0.35, "block": "block_13"},
    "nasnet_mobile": {"weights": "none", "image_size_px": 32, "block": "normal_11"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_network_trains_the_same_with_a_folded_or_a_cached_trunk(
    records, keras_home, tmp_path, monkeypatch, name
):
    """The cells of NASNet have two outputs. BatchNorm gets the statistics of the images."""
    options = dict(REAL[name])
    block, size = options.pop("block"), options["image_size_px"]
    backbone = build_backbone(name, seed=1, **options)
    # Images as training decodes them. Resized by Pillow, they are closer to the kinks of ReLU, and differences grow.
    source = ImageDataset(
        records, class_names=CLASSES, image_size_px=size, batch_size=7, seed=3, cache="memory"
    )
    if options["weights"] == "none":
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        backbone(np.concatenate([batch[0] for batch in source.batches(0)]), training=True)
    model = build_model(backbone, class_names=CLASSES, dropout=0.0, seed=1)
    initial, start = model.get_weights(), weights_of(model)
    # Adam also updates weights with a gradient that is only a rounding error.
    phase = plain_phase(
        "last", epochs=2, trainable=FromBlock(from_block=block), keep="last",
        optimizer="sgd", learning_rate=1e-3,
    )  # fmt: skip

    def trained(phase):
        model.set_weights(initial)
        history = fit(model, source, phases=[phase], cache_dir=tmp_path)
        return weights_of(model), history

    folded, _ = trained(phase)
    cached, history = trained(with_cache(phase, "boundary"))
    others = [cached]
    if name == "mobilenet_v2":  # for NASNet, tracing the plain network takes too long
        monkeypatch.setattr(models, "find_foldable", lambda trunk: {})
        others.append(trained(phase)[0])
    assert bool(list(tmp_path.glob("*/tensor1.bin"))) == (name == "nasnet_mobile")
    assert history.freeze_reports[0]["cache"]["boundary"] != "pooled"
    distance = np.linalg.norm(folded - start)
    assert distance > 1e-2
    for other in others:
        # At kinks of ReLU, rounding errors decide. Measured on several CPUs: 0.1 to 1.3%.
        assert np.linalg.norm(other - folded) < 0.05 * distance
