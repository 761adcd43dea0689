"""`trainable: {unfreeze: one_block_per_epoch}` is written out as ordinary phases; rates name blocks."""

import pytest

from kerastl import models
from kerastl.errors import Problems
from kerastl.recipe import BlockRate, FromBlock, check, write

TEXT = """\
format: 1
data:
  reader: {name: phantom}
backbone: {name: small_cnn, weights: ./run}
phases:
  - {name: head, epochs: 2, learning_rate: 1e-3, trainable: none}
  - {name: slow, epochs: EPOCHS, learning_rate: 1e-4, trainable: {unfreeze: one_block_per_epoch}, schedule: cosine, warmup_epochs: 1.5}
"""
BLOCKS = models.block_names("small_cnn")


def checked(text, *sets):
    return check(
        text, name="f.yaml",
        tables=models, sets=sets,
    )  # fmt: skip


def test_each_epoch_adds_a_block_and_the_last_phase_gets_the_remaining_epochs():
    epochs = len(BLOCKS) + 2
    head, slow = checked(TEXT.replace("EPOCHS", str(epochs))).phases
    assert head.unfrozen_by_epoch(BLOCKS) == (head,)
    parts = slow.unfrozen_by_epoch(BLOCKS)
    assert [part.trainable for part in parts] == [FromBlock(block) for block in reversed(BLOCKS)]
    assert [part.name for part in parts] == [f"slow_{number + 1}" for number in range(len(BLOCKS))]
    assert [part.epochs for part in parts] == [1] * (len(BLOCKS) - 1) + [3]
    assert [part.schedule_span for part in parts] == [(at, epochs) for at in range(len(BLOCKS))]
    assert [part.optimizer_state for part in parts] == ["reset"] + ["keep"] * (len(BLOCKS) - 1)
    assert [part.keep for part in parts] == ["last"] * (len(BLOCKS) - 1) + ["best"]


def test_fewer_epochs_than_blocks_leave_the_first_blocks_frozen():
    recipe = checked(TEXT.replace("EPOCHS", "2"))
    assert [part.trainable for part in recipe.phases[1].unfrozen_by_epoch(BLOCKS)] == [
        FromBlock(BLOCKS[-1]), FromBlock(BLOCKS[-2]),
    ]  # fmt: skip


def test_the_resolved_recipe_resolves_to_itself():
    recipe = checked(TEXT.replace("EPOCHS", "3"))
    assert checked(write(recipe)) == recipe


def test_learning_rates_name_existing_blocks():
    sets = ["phases[1].trainable=all", f"phases[1].rates=[{{block: {BLOCKS[0]}, factor: 0.1}}]"]
    recipe = checked(TEXT.replace("EPOCHS", "2"), *sets)
    assert recipe.phases[1].rates == (BlockRate(BLOCKS[0], 0.1),)
    with pytest.raises(Problems, match="small_cnn has no block 'blok'"):
        checked(TEXT.replace("EPOCHS", "2"), "phases[1].rates=[{block: blok, factor: 0.1}]")


@pytest.mark.parametrize(
    ("sets", "expected_text"),
    [
        ("phases[1].early_stopping=2", "cannot be combined with gradual unfreezing"),
        ("phases[0].average_last=3", "must be at most epochs"),
        ("phases[0]={name: a, epochs: 2, learning_rate: 1e-3, trainable: none, ema: 0.9, average_last: 1}", "cannot be combined with ema"),
        ("phases[0].stretch={before: 2, epochs: 3}", "was removed"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_combined_are_refused(sets, expected_text):
    with pytest.raises(Problems, match=expected_text):
        checked(TEXT.replace("EPOCHS", "2"), sets)
