"""Runs with augmentation: wherever it is computed, it happens in training alone."""

import re

import pytest
from make_runs import run, same_bytes
from tensorflow.core.protobuf import saved_model_pb2

AUGMENT = (
    "augment={{policy: light, mixing: [{{name: cut_mix}}], placement: {placement}, "
    "operations: [{{name: random_cutout, max_fraction: 0.3}}]}}"
)
# Random numbers of any kind, and how they are computed: a hash of the seed, and maps in float64.
RANDOM = re.compile(r"Random|Rng|Multinomial|Bitwise|RightShift|Shuffle")
COMPARED = ["predictions.csv", "scores.json", "history.jsonl", "freeze.json"]


def ops_of(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graphs = [meta_graph.graph_def for meta_graph in saved.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    functions = [function.node_def for graph in graphs for function in graph.library.function]
    return [node.op for node in (*nodes, *(node for nodes_of in functions for node in nodes_of))]


@pytest.mark.slow
def test_host_and_device_give_one_run_and_neither_exports_its_augmentation(recipe, tmp_path):
    host, device = (
        run(
            recipe, tmp_path / placement, "--set", AUGMENT.format(placement=placement),
            "--set", "phases[0].epochs=1", "--set", "export.formats=[saved_model]",
        ).path
        for placement in ("host", "device")
    )  # fmt: skip
    same_bytes(host, device, COMPARED)
    for folder in (host, device):
        ops = ops_of(folder / "export" / "saved_model" / "1")
        assert len(ops) > 100
        assert [op for op in ops if RANDOM.search(op)] == []
