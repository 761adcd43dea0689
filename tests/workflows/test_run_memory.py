"""A run estimates its memory, refuses what does not fit before anything is written, and decides `auto` once."""

import re

import pytest
import yaml

from kerastl.errors import Problems
from kerastl.recipe import Phase
from kerastl.training import MemoryEstimate
from kerastl.workflows.resolve import AvailableMemory, _smaller_batch, auto_batch_size, check_fits


@pytest.mark.xdist_group("plain")
def test_a_run_prints_its_estimated_memory(plain):
    line = r"^Estimated peak memory: \d+\.\d [MG]B at batch size 8 \(\d+\.\d [MG]B available\)$"
    assert re.search(line, plain.answer.err, re.M)


def test_what_does_not_fit_is_refused_before_anything_is_written(kerastl, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_MEMORY", "100MB")
    run = kerastl("run", recipe, "--out", tmp_path / "run")
    assert run.code == 1
    assert "The training has 2 problems." in run.err
    assert "phase head: needs about" in run.err
    assert "No batch size fits" in run.err
    assert "--set data.cache=none" in run.err
    assert "KERASTL_MEMORY" in run.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_is_decided_once_and_kept_by_a_resumed_run(kerastl, recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    sets = ["--set", "data.batch_size=auto", "--set", "phases[0].epochs=1"]
    monkeypatch.setenv("KERASTL_MEMORY", "8GB")
    assert "data.batch_size: auto is 32" in kerastl("run", recipe, "--out", out, *sets).err
    resolved = yaml.safe_load((out / "recipe.resolved.yaml").read_text())
    assert resolved["data"]["batch_size"] == 32
    history = (out / "history.jsonl").read_bytes()
    (out / "finished.json").unlink()
    monkeypatch.setenv("KERASTL_MEMORY", "1MB")
    again = kerastl("run", recipe, "--out", out, "--resume", *sets)
    assert again.code == 0, again.err
    assert "at batch size 32 (1.0 MB available)" in again.err
    assert (out / "history.jsonl").read_bytes() == history


def estimates_of(per_image: int) -> list[MemoryEstimate]:
    return [MemoryEstimate(100, 0, 0, 0, 10**6), MemoryEstimate(100, per_image, 0, 0, 10**6)]


PHASES = [Phase("head", 1), Phase("tune", 1, accumulate=2)]


def test_the_refusal_names_the_largest_batch_and_what_to_type():
    with pytest.raises(Problems) as refused:
        check_fits(PHASES, estimates_of(10), 64, AvailableMemory(300, None), is_cached=False)
    text = str(refused.value)
    assert "The training has 1 problem." in text
    assert "phase tune: needs about 740 bytes at batch size 64 (300 bytes available)." in text
    assert "The largest batch size that fits is 20." in text
    # A quarter of 64 fits into 20: the same number of images per update.
    assert "--set data.batch_size=16 --set 'phases[0].accumulate=4' --set 'phases[1].accumulate=8'" in text


def test_what_fits_or_is_unknown_is_not_refused():
    for available in (AvailableMemory(740, None), AvailableMemory(None, None)):
        check_fits(PHASES, estimates_of(10), 64, available, is_cached=False)


def test_parts_of_a_phase_have_other_indices_than_in_the_file():
    part = [Phase("part", 1).with_schedule_span(0, 3)]
    assert _smaller_batch(part, 64, 20).startswith("--set data.batch_size=16, and accumulate: 4 in each")


@pytest.mark.parametrize(
    ("available", "batch_size"), [(10_000, 32), (1000, 32), (839, 16), (400, 8), (230, 1), (50, 1)]
)
def test_auto_is_the_largest_power_of_two_within_half_of_the_available_memory(available, batch_size):
    memory = AvailableMemory(available, None)
    assert auto_batch_size(estimates_of(10), memory, 32, 1) == batch_size
    # Mixing needs two images.
    assert auto_batch_size(estimates_of(10), memory, 32, 2) == max(2, batch_size)


def test_a_gpu_that_is_too_small_is_named():
    estimates = [MemoryEstimate(100, 0, 0, 10, 10**6)]
    with pytest.raises(Problems) as refused:
        check_fits(PHASES[:1], estimates, 64, AvailableMemory(1000, 300), is_cached=False)
    assert "100 bytes and 640 bytes on the GPU at batch size 64 (1.0 kB and 300 bytes available)" in str(
        refused.value
    )
    assert "fits is 30" in str(refused.value)
