"""A run says what it takes, refuses what does not fit before anything is written, and decides `auto` once."""

import re

import pytest
import yaml

from kerastl.errors import Problems
from kerastl.stages.memory import Free, _decided, _smaller, _too_much
from kerastl.training import Need, Phase


def test_a_run_says_what_each_phase_takes(kerastl, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_MEMORY", "8GB")
    told = kerastl("run", recipe, "--out", tmp_path / "run", "--set", "phases[0].epochs=1")
    assert told.code == 0
    lines = [line for line in told.err.splitlines() if " at batch size " in line]
    assert [line.split(":")[0] for line in lines] == ["phase all", "phase head"]
    assert all(
        re.search(r": about \d+\.\d [MG]B at batch size 8 \(of 8\.0 GB free\)$", line)
        for line in lines
    )


def test_what_does_not_fit_is_refused_before_anything_is_written(
    kerastl, recipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERASTL_MEMORY", "100MB")
    told = kerastl("run", recipe, "--out", tmp_path / "run")
    assert told.code == 1
    assert "The training has 2 problems." in told.err
    assert "phase head: takes about" in told.err
    assert "Even one picture a step takes" in told.err
    assert "--set data.cache=none" in told.err
    assert "KERASTL_MEMORY" in told.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_is_decided_once_and_a_run_that_goes_on_keeps_it(
    kerastl, recipe, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    sets = ["--set", "data.batch_size=auto", "--set", "phases[0].epochs=1"]
    monkeypatch.setenv("KERASTL_MEMORY", "8GB")
    assert "data.batch_size: auto is 32 here" in kerastl("run", recipe, "--out", out, *sets).err
    began = yaml.safe_load((out / "recipe.resolved.yaml").read_text())
    assert began["data"]["batch_size"] == 32
    history = (out / "history.jsonl").read_bytes()
    (out / "finished.json").unlink()
    monkeypatch.setenv("KERASTL_MEMORY", "1MB")
    again = kerastl("run", recipe, "--out", out, "--resume", *sets)
    assert again.code == 0, again.err
    assert "at batch size 32 (of 1.0 MB free)" in again.err
    assert (out / "history.jsonl").read_bytes() == history


def needs_of(each: int):
    return lambda batch: [
        Need(100, 0, {"pictures kept": 0}),
        Need(100 + each * batch, 0, {"pictures kept": 0}),
    ]


PHASES = [Phase("head", 1), Phase("tune", 1, accumulate=2)]


def test_the_refusal_says_what_fits_and_what_to_type():
    told = str(_too_much(PHASES, needs_of(10), 64, Free(300, None)))
    assert "The training has 1 problem." in told
    assert "phase tune: takes about 740 bytes at batch size 64 (of 300 bytes free)." in told
    assert "The largest batch size that fits is 20." in told
    # A quarter of 64 fits into 20: as many pictures an update, exactly.
    assert (
        "--set data.batch_size=16 --set phases[0].accumulate=4 --set phases[1].accumulate=8" in told
    )


def test_parts_of_a_phase_have_other_places_than_in_the_file():
    part = [Phase("part", 1).with_schedule_span(0, 3)]
    assert _smaller(part, 64, 20).startswith("--set data.batch_size=16, and accumulate: 4 in each")


@pytest.mark.parametrize(
    ("free", "batch"), [(10_000, 32), (1000, 32), (839, 16), (400, 8), (230, 1), (50, 1)]
)
def test_auto_is_the_largest_power_of_two_within_half_of_what_is_free(free, batch):
    from types import SimpleNamespace as Some

    data = Some(batch_size="auto", known_batch_size=32)
    recipe = Some(data=data, augment=Some(mixing=()))
    found = _decided(recipe, needs_of(10), Free(free, None), None)
    assert found == batch
    recipe.augment.mixing = ("mix_up",)
    assert _decided(recipe, needs_of(10), Free(free, None), None) == max(2, batch)


def test_a_gpu_that_is_too_small_is_named():
    needs = lambda batch: [Need(100, 10 * batch, {"pictures kept": 0})]  # noqa: E731
    told = _too_much(PHASES[:1], needs, 64, Free(1000, 300))
    assert isinstance(told, Problems)
    assert (
        "100 bytes and 640 bytes of the GPU's at batch size 64 (of 1.0 kB and 300 bytes free)"
        in str(told)
    )
    assert "fits is 30" in str(told)
