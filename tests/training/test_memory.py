"""The memory of a phase: by hand on a small network, and beside what a process takes."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from sources_drawn import plain_phase, stored

from kerastl.backbones import build_backbone
from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.training import (
    FromBlock,
    build_model,
    free_memory,
    largest_batch,
    memory_of,
)  # fmt: skip
from kerastl.training.layer_memory import front_of, inference_bytes, kept_bytes

CLASSES = ("dark", "light")
ALL = "all"


def chain():
    """8x8x3 -> 8x8x4 (convolution, norm, relu) -> with a shortcut, 8x8x4 -> 4 -> 2."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(image)
    x = keras.layers.BatchNormalization()(x)
    first = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(4, 3, padding="same")(first)
    x = keras.layers.Add()([x, first])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


PICTURE, MAP, POOLED = 8 * 8 * 3 * 4, 8 * 8 * 4 * 4, 4 * 4


def test_in_inference_norms_and_relu_write_where_they_read_and_a_shortcut_stays_alive():
    # At the sum: what the relu gave, what the convolution gave, and the sum.
    assert inference_bytes(chain().operations) == 3 * MAP


def test_the_way_back_keeps_what_gradients_are_made_of_once():
    operations = chain().operations
    frozen = (
        PICTURE + MAP + POOLED
    )  # inputs of the convolutions (the second is the relu's output) and of the head
    assert kept_bytes(operations, frozen_norms=True) == (frozen, MAP)
    assert kept_bytes(operations, frozen_norms=False) == (frozen + MAP, MAP)


def test_what_stands_before_a_tensor():
    model = chain()
    relu = next(one for one in model.layers if isinstance(one, keras.layers.ReLU))
    assert len(front_of([relu.output])) == 4
    assert len(front_of([model.outputs[0]])) == len(model.operations)


@pytest.fixture
def train(tmp_path):
    records = stored(tmp_path, 40, CLASSES)
    return ImageDataset(records, class_names=CLASSES, image_size_px=32, batch_size=8)


def network():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=CLASSES, seed=1)


def test_optimizer_averages_and_accumulation_count_by_what_learns(train):
    model = network()
    learns = sum(4 * keras.ops.size(one) for one in model.trainable_weights)
    plain = {"trainable": ALL, "batch_norm": "trainable"}

    def optimizer(**more):
        return memory_of(model, plain_phase("p", 1, **plain, **more), train).parts["optimizer"]

    assert optimizer() == 2 * learns
    assert optimizer(optimizer="sgd") == learns
    assert optimizer(accumulate=4) == optimizer(ema=0.9) == optimizer(l2_sp=0.1) == 3 * learns
    head = memory_of(model, plain_phase("p", 1), train).parts
    dense = sum(4 * keras.ops.size(one) for one in model.get_layer("head").weights)
    frozen = sum(4 * keras.ops.size(one) for one in model.weights) - dense
    assert head["optimizer"] == 2 * dense + frozen  # the front runs as a folded copy


def test_more_that_learns_and_larger_batches_take_more(train):
    model = network()
    norms = {"batch_norm": "trainable"}
    head, last, whole = (
        memory_of(model, plain_phase("p", 1, trainable=one, **more), train).host
        for one, more in (
            ("none", {}),
            (FromBlock(from_block="block_3"), {}),
            (ALL, norms),
        )
    )
    assert head < last < whole
    phase = plain_phase("p", 1, trainable=ALL, **norms)
    sizes = [memory_of(model, phase, train, batch_size=size).parts["step"] for size in (1, 2, 4)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]) > 0
    # There are 40 pictures: no batch is larger.
    assert memory_of(model, phase, train, batch_size=4000) == memory_of(
        model, phase, train, batch_size=40
    )


def test_a_cache_leaves_the_step_only_what_learns(train):
    phase = plain_phase("p", 1, trainable=FromBlock(from_block="block_3"))
    cached = plain_phase("p", 1, trainable=phase.trainable, cache="boundary")
    train.batch_size = 32
    fresh, kept = (memory_of(network(), one, train).parts["step"] for one in (phase, cached))
    assert 0 < kept <= fresh


def test_pictures_kept_decoded_count_and_a_gpu_takes_its_part(train, tmp_path):
    phase, model = plain_phase("p", 1, trainable=ALL, batch_norm="trainable"), network()
    kept = ImageDataset(
        train.records, class_names=CLASSES, image_size_px=32, batch_size=8, cache="memory"
    )
    assert memory_of(model, phase, kept, kept).parts["pictures kept"] == 2 * 40 * 32 * 32 * 3 * 4
    here, there = memory_of(model, phase, train), memory_of(model, phase, train, on_gpu=True)
    assert here.device == 0
    assert there.device == here.parts["optimizer"] + here.parts["step"]
    assert there.host + there.device == here.host


def test_the_largest_batch_that_fits():
    for most in range(20):
        assert largest_batch(lambda size, most=most: size <= most, 16) == min(most, 16)


def machine_of(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


MEMINFO = "MemTotal: 24000000 kB\nMemFree: 100 kB\nMemAvailable: 20000000 kB\n"


def test_what_is_free_is_the_least_of_machine_and_groups(tmp_path, monkeypatch):
    monkeypatch.delenv("KERASTL_MEMORY", raising=False)
    bare = machine_of(tmp_path / "bare", proc__meminfo=MEMINFO)
    assert free_memory(bare) == 20_000_000 * 1024
    group = tmp_path / "group"
    machine_of(group, proc__meminfo=MEMINFO, proc__self__cgroup="0::/jobs/7\n")
    for folder, limit, used in (("jobs/7", "max", 5), ("jobs", "4000000000", 1_500_000_000)):
        place = group / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "memory.max").write_text(f"{limit}\n")
        (place / "memory.current").write_text(f"{used}\n")
        (place / "memory.stat").write_text("anon 7\ninactive_file 500000000\n")
    assert free_memory(group) == 3_000_000_000
    old = tmp_path / "old"
    machine_of(old, proc__meminfo=MEMINFO, proc__self__cgroup="4:memory:/elsewhere\n3:cpu:/\n")
    place = old / "sys/fs/cgroup/memory"
    place.mkdir(parents=True)
    (place / "memory.limit_in_bytes").write_text("2000000000\n")
    (place / "memory.usage_in_bytes").write_text("500000000\n")
    (place / "memory.stat").write_text("total_inactive_file 0\n")
    assert free_memory(old) == 1_500_000_000
    (place / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory(old) == 20_000_000 * 1024


def test_what_is_free_can_be_said(monkeypatch):
    monkeypatch.setenv("KERASTL_MEMORY", "1.5 GB")
    assert free_memory() == 1_500_000_000
    monkeypatch.setenv("KERASTL_MEMORY", "plenty")
    with pytest.raises(RequestError, match="must be a size, as 8GB or 500MB, got 'plenty'"):
        free_memory()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["small_cnn:128:all:64", "mobilenet_v2:96:top:32"])
def test_the_reckoning_is_near_what_a_process_takes(case):
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    told = subprocess.run(
        [sys.executable, script, "--one", case], capture_output=True, text=True, check=True
    )
    row = json.loads(told.stdout.splitlines()[-1])
    assert 0.6 < row["reckoned_mb"] / row["taken_mb"] < 1.7
