"""Runs whose images are augmented: wherever it happens, it happens in training alone."""

import re

import pytest
from tensorflow.core.protobuf import saved_model_pb2

AUGMENT = (
    "augment={policy: light, mixing: [{name: cut_mix}], "
    "operations: [{name: random_cutout, max_fraction: 0.3}]}"
)
# Random numbers of any kind, and what our draws are made of: a hash of the seed, and maps that are float64.
RANDOM = re.compile(r"Random|Rng|Multinomial|Bitwise|RightShift|Shuffle")
COMPARED = ("predictions.csv", "scores.json", "history.jsonl", "freeze.json")


def ops_of(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graphs = [one.graph_def for one in saved.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    inner = [f.node_def for graph in graphs for f in graph.library.function]
    return [node.op for node in (*nodes, *(node for one in inner for node in one))]


@pytest.fixture
def run(kerastl, recipe, tmp_path):
    def call(name, *sets):
        words = [word for one in (AUGMENT, *sets) for word in ("--set", one)]
        answer = kerastl("run", recipe, "--out", tmp_path / name, *words)
        assert answer.code == 0, answer.err
        return tmp_path / name

    return call


@pytest.mark.slow
def test_host_and_device_give_one_run_and_neither_exports_its_augmentation(run):
    host, device = (
        run(one, f"augment.placement={one}", "export.formats=[saved_model]") for one in ("host", "device")
    )
    for file in COMPARED:
        assert (host / file).read_bytes() == (device / file).read_bytes(), file
    for folder in (host, device):
        ops = ops_of(folder / "export" / "saved_model" / "1")
        assert len(ops) > 100
        assert [op for op in ops if RANDOM.search(op)] == []


@pytest.mark.slow
def test_exact_is_another_image_by_rounding_and_repeats(run):
    once, again = (run(name, "augment.exact=true") for name in ("once", "again"))
    compiled = run("compiled")
    for file in COMPARED:
        assert (once / file).read_bytes() == (again / file).read_bytes(), file
    assert (once / "history.jsonl").read_bytes() != (compiled / "history.jsonl").read_bytes()
