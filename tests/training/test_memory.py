"""The memory estimate of a phase and the available memory."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest
from array_dataset import plain_phase, write_images

from kerastl.data import ImageDataset
from kerastl.errors import RequestError
from kerastl.models import build_backbone, build_model
from kerastl.recipe import FromBlock
from kerastl.training import available_memory, estimate_memory

CLASSES = ("dark", "light")
ALL = "all"


@pytest.fixture
def train(tmp_path):
    records = write_images(tmp_path, 40, CLASSES)
    return ImageDataset(records, class_names=CLASSES, image_size_px=32, batch_size=8)


@pytest.fixture(scope="module")
def model():
    backbone = build_backbone("small_cnn", weights="none", image_size_px=32, seed=1)
    return build_model(backbone, class_names=CLASSES, seed=1)


def all_trainable(**options):
    return plain_phase("p", 1, trainable=ALL, batch_norm="trainable", **options)


def test_optimizer_state_and_averages_count_per_trained_weight(model, train):
    trained = sum(4 * int(keras.ops.size(weight)) for weight in model.trainable_weights)

    def step(**options):
        return estimate_memory(model, all_trainable(**options), train, on_gpu=True).gpu_fixed

    assert step() - step(optimizer="sgd") == trained
    assert {step(accumulate=4), step(ema=0.9), step(l2_sp=0.1)} == {step() + trained}


def test_more_trainable_layers_larger_batches_and_two_streams_need_more(model, train):
    phases = [
        plain_phase("p", 1),
        plain_phase("p", 1, trainable=FromBlock(from_block="block_3")),
        all_trainable(),
    ]
    head, last, whole = (estimate_memory(model, phase, train) for phase in phases)
    assert head.host(8) < last.host(8) < whole.host(8)
    assert whole.host(4) - whole.host(2) == 2 * (whole.host(2) - whole.host(1)) > 0
    both = estimate_memory(model, phases[2], train, target=train)
    assert both.host_per_image == 2 * whole.host_per_image
    changed = estimate_memory(model, phases[2], train, target=train, changes_pixels=True)
    assert changed.host_per_image > both.host_per_image
    # No batch is larger than the 40 images.
    assert whole.host(4000) == whole.host(40)


def test_images_in_memory_are_counted(model, train):
    cached = ImageDataset(train.records, class_names=CLASSES, image_size_px=32, batch_size=8, cache="memory")
    plain = estimate_memory(model, plain_phase("p", 1), train, train)
    kept = estimate_memory(model, plain_phase("p", 1), cached, cached)
    assert kept.host_fixed - plain.host_fixed == 2 * 40 * 32 * 32 * 3 * 4


def test_memory_on_a_gpu_is_subtracted_from_the_host(model, train):
    host, gpu = (estimate_memory(model, all_trainable(), train, on_gpu=on_gpu) for on_gpu in (False, True))
    assert host.gpu(8) == 0 < gpu.gpu(8)
    assert gpu.host(8) + gpu.gpu(8) == host.host(8)


def write_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


AVAILABLE = 20_000_000_000


def test_available_memory_respects_the_limits_of_control_groups(tmp_path, monkeypatch):
    monkeypatch.delenv("KERASTL_MEMORY", raising=False)
    memory = SimpleNamespace(available=AVAILABLE)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert available_memory(tmp_path / "without groups") == AVAILABLE
    group = tmp_path / "group"
    write_files(group, proc__self__cgroup="0::/jobs/7\n")
    for folder, limit, used in (("jobs/7", "max", 5), ("jobs", "4000000000", 1_500_000_000)):
        cgroup = group / "sys/fs/cgroup" / folder
        cgroup.mkdir(parents=True, exist_ok=True)
        (cgroup / "memory.max").write_text(f"{limit}\n")
        (cgroup / "memory.current").write_text(f"{used}\n")
        (cgroup / "memory.stat").write_text("anon 7\ninactive_file 500000000\n")
    assert available_memory(group) == 3_000_000_000
    old = tmp_path / "old"
    write_files(old, proc__self__cgroup="4:memory:/elsewhere\n3:cpu:/\n")
    cgroup = old / "sys/fs/cgroup/memory"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.limit_in_bytes").write_text("2000000000\n")
    (cgroup / "memory.usage_in_bytes").write_text("500000000\n")
    (cgroup / "memory.stat").write_text("total_inactive_file 0\n")
    assert available_memory(old) == 1_500_000_000
    (cgroup / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_memory(old) == AVAILABLE


def test_available_memory_can_be_overridden(monkeypatch):
    monkeypatch.setenv("KERASTL_MEMORY", "1.5 GB")
    assert available_memory() == 1_500_000_000
    monkeypatch.setenv("KERASTL_MEMORY", "plenty")
    with pytest.raises(RequestError, match="must be a size such as 8GB or 500MB, got 'plenty'"):
        available_memory()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["small_cnn:128:all:64", "mobilenet_v2:96:top:32"])
def test_the_estimate_is_near_the_measured_memory(case):
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    done = subprocess.run([sys.executable, script, "--one", case], capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    assert 0.6 < row["estimated_mb"] / row["measured_mb"] < 1.7
