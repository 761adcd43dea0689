"""The cached phases: what is learnt is what the images themselves would teach, and what lies on disk is sound."""

import shutil
import subprocess
import sys
from collections import namedtuple

import keras
import numpy as np
import pytest
from sources_drawn import plain_phase, stored

from kerastl.augment import build_mixing, build_policy
from kerastl.data import ImageDataset
from kerastl.errors import Problems
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock, LayerNames, Phase
from kerastl.training import check_phases, checks, feature_cache, fit
from kerastl.training import trunk as learner

CLASSES = ("dark", "light")
TURN = [{"name": "random_rotation", "max_deg": 20.0}, {"name": "random_contrast", "max_fraction": 0.3}]
HEAD = plain_phase("head", epochs=4, learning_rate=1e-2, keep="last")
LAST = FromBlock(from_block="block_3")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("images"), 29, CLASSES)


def source_of(records, *, operations=(), shuffle=True, **more):
    policy = build_policy(operations, image_size_px=32) if operations else None
    values = {"class_names": CLASSES, "image_size_px": 32, "batch_size": 7, "seed": 3, **more}
    return ImageDataset(records, augment=policy, shuffle=shuffle, **values)


def model_of(seed=1):
    keras.utils.clear_session()
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=seed)
    return build_model(backbone, class_names=CLASSES, dropout=0.3, seed=seed)


def learnt(records, phases, cache_dir, *, resume=False, checkpoints=None, seed=1, **more):
    model = model_of(seed)
    history = fit(
        model, source_of(records, **more), val=source_of(records[:9], shuffle=False), phases=phases,
        cache_dir=cache_dir, checkpoints=checkpoints, resume=resume,
    )  # fmt: skip
    return model, history


def weights_of(model):
    return np.concatenate([keras.ops.convert_to_numpy(one).ravel() for one in model.weights])


def with_cache(phase, cache, **more):
    return Phase(**{**vars(phase), "cache": cache, **more})


@pytest.mark.parametrize(
    ("cache", "phase", "more"),
    [
        pytest.param("features", HEAD, {}, marks=pytest.mark.slow),
        ("features", HEAD, {"operations": TURN, "views": 2}),
        pytest.param(
            "boundary", plain_phase("last", epochs=4, trainable=LAST, keep="last"), {}, marks=pytest.mark.slow
        ),
        ("boundary", plain_phase("last", epochs=4, trainable=LAST, keep="last"), {"operations": TURN, "views": 3}),
    ],
)  # fmt: skip
def test_a_cached_phase_teaches_what_the_images_would(records, tmp_path, cache, phase, more):
    plain, expected = learnt(records, [with_cache(phase, "none")], tmp_path, **more)
    assert not (tmp_path / "activations").exists()
    cached, history = learnt(records, [with_cache(phase, cache)], tmp_path, **more)
    moved = np.abs(weights_of(plain) - weights_of(model_of())).max()
    assert moved > 1e-3
    assert np.abs(weights_of(cached) - weights_of(plain)).max() < 1e-3 * moved
    for one, other in zip(history.rows, expected.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    assert history.freeze_reports[0]["cache"]["kind"] == cache
    assert history.freeze_reports[0]["cache"]["views"] == more.get("views", 1)
    assert "cache" not in expected.freeze_reports[0]


def test_the_views_of_a_image_differ_and_come_again(records):
    source = source_of(records, operations=TURN, views=2)
    shown = {
        epoch: np.concatenate([images for images, _, _ in sorted_by_index(source.indexed_batches(epoch))])
        for epoch in range(3)
    }
    assert shown[0].tobytes() == shown[2].tobytes() != shown[1].tobytes()
    fresh = source_of(records, operations=TURN)
    first = np.concatenate([images for images, _, _ in sorted_by_index(fresh.indexed_batches(0))])
    assert first.tobytes() == shown[0].tobytes()


def sorted_by_index(batches):
    rows = [(image, label, index) for batch in batches for image, label, index in zip(*batch, strict=True)]
    return [([image], label, index) for image, label, index in sorted(rows, key=lambda row: int(row[2]))]


def test_a_second_run_finds_what_the_first_kept(records, tmp_path, monkeypatch):
    phase = with_cache(HEAD, "features")
    first, _ = learnt(records, [phase], tmp_path)

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(feature_cache, "_compute", refuse)
    second, _ = learnt(records, [phase], tmp_path, seed=1)
    assert weights_of(first).tobytes() == weights_of(second).tobytes()


def key(records, *, seed=1, **more):
    model = model_of(seed)
    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    return feature_cache._key(feature_cache._layers(trunk, "float32"), source_of(records, **more), "float32")


@pytest.mark.slow
def test_other_weights_images_or_augmentation_are_another_entry(records, tmp_path):
    plain = key(records)
    assert plain == key(records, seed=1) == key(records, batch_size=4)
    other = shutil.copytree(records[0].file.parent, tmp_path / "other")
    changed = [type(one)(one.path, other / one.file.name, one.label) for one in records]
    assert plain == key(changed)
    shutil.copy(records[0].file, changed[1].file)
    turned = {"operations": TURN, "views": 2}
    stronger = [{**TURN[0], "max_deg": 21.0}, TURN[1]]
    keys = [
        plain,
        key(records, seed=2),
        key(changed),
        key(records[1:]),
        key(records, window=(0.0, 100.0)),
        key(records, **turned),
        key(records, operations=TURN, views=3),
        key(records, operations=stronger, views=2),
    ]
    assert len(set(keys)) == len(keys)


def test_the_seed_counts_only_where_images_are_changed(records):
    def of(seed, **more):
        model = model_of()
        trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
        source = ImageDataset(records, class_names=CLASSES, image_size_px=32, batch_size=7, seed=seed, **more)
        return feature_cache._key(feature_cache._layers(trunk, "float32"), source, "float32")

    assert of(1) == of(2)
    policy = build_policy(TURN, image_size_px=32)
    assert of(1, augment=policy, views=2) != of(2, augment=policy, views=2)


def test_a_damaged_entry_is_made_anew(records, tmp_path):
    phase = with_cache(HEAD, "features")
    first, _ = learnt(records, [phase], tmp_path)
    files = sorted(tmp_path.glob("*/tensor0-0.npy"))
    assert len(files) == 2
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-4] + b"\0\0\0\0")
    files[1].write_bytes(files[1].read_bytes()[:200])
    second, _ = learnt(records, [phase], tmp_path)
    assert files[0].read_bytes() == whole
    assert weights_of(first).tobytes() == weights_of(second).tobytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "within"), [("bfloat16", 2**-7), ("uint8", 1 / 255)])
def test_a_smaller_cache_rounds_and_says_what_it_takes(records, tmp_path, precision, within):
    whole, small = tmp_path / "whole", tmp_path / "small"
    phase = plain_phase("last", epochs=3, trainable=LAST, keep="last", cache="boundary")
    _, exact = learnt(records, [phase], whole)
    _, rounded = learnt(records, [with_cache(phase, "boundary", cache_precision=precision)], small)
    assert rounded.freeze_reports[0]["cache"]["precision"] == precision
    assert rounded.freeze_reports[0]["cache"]["bytes"] < 0.6 * exact.freeze_reports[0]["cache"]["bytes"]
    on_disk = sum(file.stat().st_size for file in small.rglob("*.npy"))
    assert rounded.freeze_reports[0]["cache"]["bytes"] <= on_disk < rounded.freeze_reports[0]["cache"]["bytes"] + 2000
    for one, other in zip(rounded.rows, exact.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
    encoding = feature_cache.ENCODINGS[precision]
    values = np.random.default_rng(0).normal(0, 3, (5, 4, 4, 6)).astype(np.float32)
    values[..., 2] = 7.0
    again = encoding.decode(encoding.encode(values))
    span = np.ptp(values, axis=(1, 2), keepdims=True) if precision == "uint8" else np.abs(values)
    assert (np.abs(again - values) <= 0.51 * within * span + 1e-6).all()


REFUSED = [
    ({"cache": "features", "trainable": LAST}, {}, "nothing else may learn"),
    ({"cache": "boundary"}, {}, "behind them blocks that learn"),
    ({"cache": "boundary", "trainable": "all"}, {}, "needs frozen blocks"),
    ({"cache": "boundary", "trainable": LayerNames(names=".*conv.*")}, {}, "from_block: NAME"),
    ({"cache": "features"}, {"operations": TURN}, "augment.views: 4"),
    ({"cache": "features", "batch_norm": "statistics"}, {}, "Write batch_norm: frozen"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "more", "said"), REFUSED)
def test_a_cache_that_would_change_what_is_learnt_is_refused(records, tmp_path, wrong, more, said):
    with pytest.raises(Problems, match=said):
        learnt(records, [Phase(**{**vars(HEAD), **wrong})], tmp_path, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("cache", ["features", "boundary"])
def test_an_augmentation_that_does_not_say_what_it_does_is_refused_before_anything_runs(
    records, tmp_path, cache, views
):
    flip = keras.layers.RandomFlip(seed=1)
    source = ImageDataset(
        records, class_names=CLASSES, image_size_px=32, batch_size=7, views=views,
        augment=lambda images, seeds: flip(images, training=True),
    )  # fmt: skip
    model, seen = model_of(), []
    before = weights_of(model).tobytes()
    phases = [
        plain_phase("first", epochs=1, trainable="all", batch_norm="trainable"),
        plain_phase("second", epochs=1, trainable=LAST if cache == "boundary" else "none", cache=cache),
    ]
    with pytest.raises(Problems, match=r"phase second: .*augment=kerastl\.augment\.build_policy"):
        fit(model, source, phases=phases, cache_dir=tmp_path, on_epoch=lambda *told: seen.append(told))
    assert weights_of(model).tobytes() == before
    assert not seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/activations", "/proc/nope/activations"])
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_runs(records, tmp_path, place):
    (tmp_path / "file").write_text("no folder")
    seen = []
    with pytest.raises(Problems, match=r"Nothing can be kept in .*export KERASTL_CACHE=DIR"):
        fit(
            model_of(), source_of(records), phases=[with_cache(HEAD, "none"), with_cache(HEAD, "features")],
            cache_dir=tmp_path / place, on_epoch=lambda *told: seen.append(told),
        )  # fmt: skip
    assert not seen


def test_mixed_images_are_not_cached(records, tmp_path):
    mix = build_mixing(["mix_up"], image_size_px=32, num_classes=2)
    with pytest.raises(Problems, match=r"Take augment\.mixing out"):
        learnt(records, [with_cache(HEAD, "features")], tmp_path, mix=mix)


@pytest.mark.slow
def test_auto_keeps_features_only_where_that_is_the_same_training(records, tmp_path):
    def kind(more, **phase):
        _, history = learnt(
            records, [Phase(**{**vars(HEAD), "epochs": 1, "cache": "auto", **phase})], tmp_path, **more
        )
        return history.freeze_reports[0].get("cache", {}).get("kind")

    assert kind({}) == "features"
    assert kind({"operations": TURN, "views": 1}) == "features"
    assert kind({"operations": TURN}) is None
    assert kind({}, trainable=LAST) is None
    assert kind({}, batch_norm="statistics") is None


def test_a_disk_without_room_is_told_before_anything_is_computed(records, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(Problems, match=r"takes .* and .* has 1\.0 MB free.*bfloat16"):
        learnt(records, [with_cache(HEAD, "features")], tmp_path)
    assert not list(tmp_path.iterdir())


def needed(records, tmp_path, monkeypatch, phases):
    """Return the bytes that the check wants for some phases, read from the refusal on a full disk."""
    usage = namedtuple("usage", "total used free")
    told = []
    monkeypatch.setattr(checks, "format_bytes", lambda size: told.append(size) or str(size))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 7))
    try:
        check_phases(model_of(), phases, trains={"source": source_of(records)}, vals={}, cache_dir=tmp_path)
    except Problems:
        return told[0]
    return 0


def test_the_room_is_that_of_all_phases_and_what_two_share_counts_once(records, tmp_path, monkeypatch):
    whole = plain_phase("whole", epochs=1, trainable="all", batch_norm="trainable")
    head, last = (
        with_cache(HEAD, "features"),
        plain_phase("last", epochs=1, trainable=LAST, cache="boundary"),
    )

    def room(*phases):
        return needed(records, tmp_path, monkeypatch, phases)

    one, other = 29 * 128 * 4, 29 * 8 * 8 * 64 * 4
    assert (room(head), room(last)) == (one, other)
    assert room(head, with_cache(head, "features", name="again")) == one
    assert room(head, last) == room(last, head) == one + other
    assert room(last, with_cache(last, "boundary", name="again"), head) == other + one
    assert room(head, whole, with_cache(head, "features", name="again")) == 2 * one
    assert room(head, last, with_cache(head, "features", name="again")) == 2 * one + other


def test_what_is_kept_already_needs_no_room(records, tmp_path, monkeypatch):
    """A run that goes on after it has filled the disk with its own cache is not refused."""
    head = with_cache(HEAD, "features", epochs=1)
    fit(model_of(), source_of(records), phases=[head], cache_dir=tmp_path)
    assert needed(records, tmp_path, monkeypatch, [head]) == 0
    again = with_cache(head, "features", cache_precision="uint8")
    assert needed(records, tmp_path, monkeypatch, [again]) == 29 * (128 + 2 * 128 * 4)


FULL = """
import resource, signal, sys
from pathlib import Path
from kerastl.models import build_backbone
from kerastl.data import ImageDataset, Record
from kerastl.errors import RunFailed
from kerastl.training.feature_cache import keep_activations

images, folder, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
records = [Record(file.name, file, "dark") for file in sorted(images.glob("*.png"))]
source = ImageDataset(records, class_names=["dark"], image_size_px=32, batch_size=7)
trunk = build_backbone("small_cnn", weights="none", image_size_px=32)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    keep_activations(trunk, [source], precision="float32", folder=folder)
except RunFailed as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_entry_and_a_clear_error(records, tmp_path):
    def keep(limit):
        images = records[0].file.parent
        words = [sys.executable, "-c", FULL, str(images), str(tmp_path), str(limit)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return done.stdout, [one.name for one in tmp_path.iterdir() if one.suffix != ".lock"]

    told, left = keep(20_000)
    assert "File too large" in told
    assert "export KERASTL_CACHE=DIR" in told
    assert left == []
    told, left = keep(10**9)
    assert told == ""
    assert len(left) == 1


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(HEAD, id="head"),
        pytest.param(
            plain_phase("last", epochs=3, trainable=LAST, keep="last", cache="boundary"),
            id="last", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_cached_phase_that_goes_on_keeps_what_the_weights_before_it_made(records, tmp_path, phase):
    """A phase before it moved the front: a resumed run must not take the front that the model was built with."""
    first = plain_phase("all", epochs=1, trainable="all", batch_norm="trainable", keep="last")
    phases = [first, with_cache(phase, "features" if phase is HEAD else "boundary")]
    whole, expected = learnt(records, phases, tmp_path / "kept", checkpoints=tmp_path / "whole")

    def stop(rows, timing):
        if len(rows) == 3:  # the checkpoint of the second stands in the cached phase
            raise Stop

    with pytest.raises(Stop):
        fit(
            model_of(), source_of(records), val=source_of(records[:9], shuffle=False), phases=phases,
            cache_dir=tmp_path / "a", checkpoints=tmp_path / "stopped", on_epoch=stop,
        )  # fmt: skip
    again, history = learnt(records, phases, tmp_path / "b", checkpoints=tmp_path / "stopped", resume=True)
    assert history.rows == expected.rows
    assert history.freeze_reports == expected.freeze_reports
    assert weights_of(again).tobytes() == weights_of(whole).tobytes()


REAL = {
    "mobilenet_v2": {"weights": "imagenet", "image_size_px": 224, "alpha": 0.35, "block": "block_13"},
    "nasnet_mobile": {"weights": "none", "image_size_px": 32, "block": "normal_11"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_folded_and_a_cached_front_teach_a_real_network_the_same(
    records, keras_home, tmp_path, monkeypatch, name
):
    """NASNet's cells hand on two tensors. Its random weights get the statistics of the images."""
    options = dict(REAL[name])
    block, size = options.pop("block"), options["image_size_px"]
    backbone = build_backbone(name, seed=1, **options)
    source = source_of(records, image_size_px=size)
    if options["weights"] == "none":
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        backbone(np.concatenate([batch[0] for batch in source.batches(0)]), training=True)
    start = build_model(backbone, class_names=CLASSES, dropout=0.0, seed=1)
    # Adam moves a weight whose gradient is nothing but rounding as far as any other.
    phase = plain_phase(
        "last", epochs=2, trainable=FromBlock(from_block=block), keep="last",
        optimizer="sgd", learning_rate=1e-3,
    )  # fmt: skip

    def trained(phase):
        model = keras.models.clone_model(start)
        model.set_weights(start.get_weights())
        return model, fit(model, source, phases=[phase], cache_dir=tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(learner, "foldable", lambda trunk: {})
        plain, _ = trained(phase)
    folded, _ = trained(phase)
    cached, history = trained(with_cache(phase, "boundary"))
    assert bool(list(tmp_path.glob("*/tensor1-0.npy"))) == (name == "nasnet_mobile")
    assert history.freeze_reports[0]["cache"]["boundary"] != "pooled"
    way = np.linalg.norm(weights_of(plain) - weights_of(start))
    assert way > 1e-2
    for other in (folded, cached):
        # Rounding decides at ReLUs' kinks, and how it falls hangs on the CPU: 0.1 to 1.3 % so far.
        assert np.linalg.norm(weights_of(other) - weights_of(plain)) < 0.05 * way
