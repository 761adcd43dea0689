"""The freeze report of a phase: counts and changes compared with NumPy and Keras, planted faults, and resuming."""

import keras
import numpy as np
import pytest
from array_dataset import plain_phase
from stopping import snapshots

from kerastl.errors import PermanentFailure
from kerastl.models import get_blocks
from kerastl.recipe import FromBlock
from kerastl.training import batch_norm_layers, fit, unfreeze
from kerastl.training.freeze import build_freeze_report, checksums, is_statistic, read_statistics

HEAD = plain_phase("head", epochs=1, learning_rate=1e-2)
STATISTICS = plain_phase(
    "adapt", epochs=2, learning_rate=1e-2, batch_norm="statistics", keep="last",
    trainable=FromBlock(from_block="block_3"),
)  # fmt: skip


def statistics_of(model):
    return [
        [
            keras.ops.convert_to_numpy(statistic).astype(np.float64)
            for statistic in (layer.moving_mean, layer.moving_variance)
        ]
        for layer in batch_norm_layers(model)
    ]


@pytest.mark.parametrize("rule", ["frozen", "trainable"])
def test_unfreeze_returns_the_layers_that_are_trained(model, rule):
    names = unfreeze(model, FromBlock(from_block="block_2"), batch_norm=rule)
    with_weights = [name for name in names if model.get_layer(name).weights]
    assert with_weights == [layer.name for layer in model.layers if layer.trainable_variables]


def test_changes_and_counts_equal_numpy_and_keras(model, train):
    before = statistics_of(model)
    head, adapt = fit(model, train, phases=[HEAD, STATISTICS]).freeze_reports
    still = head["batch_norm"]
    assert (still["rule"], still["layers"], still["changed"], still["largest"]) == (
        "frozen", 3, 0, None,
    )  # fmt: skip
    assert still["before"] == still["after"] == adapt["batch_norm"]["before"]
    assert adapt["batch_norm"]["after"] != still["after"]

    changes = []
    for layer, old, new in zip(batch_norm_layers(model), before, statistics_of(model), strict=True):
        spread = np.sqrt(old[1] + layer.epsilon)
        for name, change in (
            ("moving_mean", new[0] - old[0]),
            ("moving_variance", np.sqrt(new[1] + layer.epsilon) - spread),
        ):
            sizes = np.abs(change) / spread
            changes.append((sizes.max(), layer.name, name, int(sizes.argmax())))
    size, layer, statistic, channel = max(changes)
    largest = adapt["batch_norm"]["largest"]
    assert adapt["batch_norm"]["changed"] == 3
    assert largest["deviations"] == pytest.approx(size, rel=1e-5)
    assert (largest["layer"], largest["statistic"], largest["channel"]) == (
        layer, statistic, channel,
    )  # fmt: skip

    counted = adapt["parameters"]
    assert counted["total"] == model.count_params()
    assert counted["trained"] == sum(np.prod(variable.shape) for variable in model.trainable_variables)
    assert counted["statistics"] == sum(statistic.size for pair in before for statistic in pair)
    assert counted["frozen"] == counted["total"] - counted["trained"] - counted["statistics"]
    blocks = {row["block"]: row for row in counted["blocks"]}
    assert list(blocks) == [*(block.name for block in get_blocks(model)), "head"]
    assert [name for name, row in blocks.items() if row["trained"]] == ["block_3", "head"]
    assert blocks["head"]["trained"] == model.get_layer("head").count_params()
    assert blocks["block_3"]["total"] == sum(
        model.get_layer(name).count_params() for name in get_blocks(model)[-1].layers
    )
    assert head["parameters"]["statistics"] == 0
    assert "trunk" not in head  # the comparison of a phase with trunk_precision


def test_changed_frozen_statistics_are_a_fault_with_their_size(model, train):
    class Vandal(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            mean = self.model.get_layer("block_2_bn").moving_mean
            mean.assign(mean + np.eye(1, mean.shape[0], 5, dtype=np.float32)[0] * 0.5)

    reports = []
    with pytest.raises(PermanentFailure, match="block_2_bn") as exit_info:
        fit(model, train, phases=[HEAD], callbacks=[Vandal()], on_freeze_report=reports.extend)
    assert "batch_norm: frozen" in str(exit_info.value)
    (report,) = reports
    assert report["batch_norm"]["changed"] == 1
    largest = report["batch_norm"]["largest"]
    layer = model.get_layer("block_2_bn")
    spread = float(np.sqrt(keras.ops.convert_to_numpy(layer.moving_variance)[5] + layer.epsilon))
    assert (largest["layer"], largest["channel"]) == ("block_2_bn", 5)
    assert largest["deviations"] == pytest.approx(0.5 / spread, rel=1e-4)


@pytest.mark.parametrize("is_updated", [True, False])
def test_a_phase_that_only_updates_statistics_must_change_one(model, is_updated):
    before, statistics = checksums(model), read_statistics(model)
    if is_updated:
        model.get_layer("block_3_bn").moving_mean.assign_add(np.ones(128))
    report = build_freeze_report(
        model, STATISTICS, trained=(), before=before, statistics=statistics, may_change=is_statistic
    )
    assert [fault.split(",")[0] for fault in report["faults"]] == (
        [] if is_updated else ["no variable changed"]
    )


@pytest.mark.slow
def test_the_freeze_report_of_a_resumed_phase_covers_the_whole_phase(model, train, tmp_path):
    checkpoints = tmp_path / "whole"
    (expected,) = fit(
        model, train, phases=[STATISTICS], checkpoints=checkpoints, on_epoch=snapshots(checkpoints)
    ).freeze_reports
    (again,) = fit(
        model, train, phases=[STATISTICS], checkpoints=tmp_path / "whole-1", resume=True
    ).freeze_reports
    assert again["batch_norm"]["before"] == expected["batch_norm"]["before"]
    assert again["batch_norm"]["largest"]["deviations"] > 0
