"""What the tables of the backbones and the readers' own rules refuse, found by the check alone."""

import pytest
from inline_snapshot import snapshot

from kerastl import models, registry
from kerastl.errors import Problems, RequestError
from kerastl.recipe import Recipe, check

TEXT = """\
format: 1
data:
  reader: {name: folder, path: nowhere}
  image_size_px: 160
backbone: {name: mobilenet_v2, weights: imagenet}
phases:
  - {name: head, epochs: 2, learning_rate: 1e-3, trainable: none}
"""


def checked(text: str, *sets: str) -> Recipe:
    return check(
        text, name="x.yaml",
        tables=models, sets=sets,
    )  # fmt: skip


def problems_of(text: str, *sets: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        checked(text, *sets)
    return [str(problem) for problem in caught.value.problems]


CHANGES = (
    "phases[0].trainable={from_block: blok_12}",
    "data.image_size_px=16",
    "backbone=small_cnn",
    "backbone.alpha=0.4",
    "data.reader.group_pattern=(",
    "data.reader.group_pattern=p[0-9]+",
    "data.split.group_by=patient",
    "evaluation.subgroups=[sex]",
    "data.reader={name: tfds, dataset: 'bad name!!'}",
    "phases[0].trainable={names: '('}",
    "target={reader: {name: phantom}, labels: all, split: {group_by: p}}",
)


def test_values_that_no_run_accepts_are_one_problem_each():
    problems_by_change = {change: problems_of(TEXT, change) for change in CHANGES}
    assert all(len(problems) == 1 for problems in problems_by_change.values())
    assert {change: problem for change, (problem,) in problems_by_change.items()} == snapshot(
        {
            "phases[0].trainable={from_block: blok_12}": "--set phases[0].trainable.from_block: mobilenet_v2 has no block 'blok_12'. Did you mean 'block_12'? Blocks: Conv1, expanded_conv, block_1, block_2, block_3, block_4, block_5, block_6, block_7, block_8, block_9, block_10, block_11, block_12, block_13, block_14, block_15, block_16, Conv_1.",
            "data.image_size_px=16": "--set data.image_size_px: mobilenet_v2 requires images of at least 32 x 32 pixels. Received 16 x 16 pixels.",
            "backbone=small_cnn": "--set backbone.weights: No weights are published for small_cnn. Use `weights: none`, a file, or a run folder.",
            "backbone.alpha=0.4": "--set backbone.alpha: No ImageNet weights are published for mobilenet_v2 (alpha=0.4). Published: alpha=0.35; alpha=0.5; alpha=0.75; alpha=1.0; alpha=1.3; alpha=1.4. Or use `weights: none`, a file, or a run folder.",
            "data.reader.group_pattern=(": "--set data.reader.group_pattern: is not a valid regular expression: missing ), unterminated subpattern at position 0.",
            "data.reader.group_pattern=p[0-9]+": "--set data.reader.group_pattern: must have exactly one group (...), but has 0.",
            "data.split.group_by=patient": "--set data.split.group_by: the reader folder has no columns. Readers with columns: table. Use one of these, or remove this key.",
            "evaluation.subgroups=[sex]": "--set evaluation.subgroups: the reader folder has no columns. Readers with columns: table. Use one of these, or remove this key.",
            "data.reader={name: tfds, dataset: 'bad name!!'}": "--set data.reader.dataset: must be name, name/config or name/config:1.0.0, got 'bad name!!'.",
            "phases[0].trainable={names: '('}": "--set phases[0].trainable.names: is not a regular expression: missing ), unterminated subpattern at position 0.",
            "target={reader: {name: phantom}, labels: all, split: {group_by: p}}": "--set target.split.group_by: the reader phantom has no columns. Readers with columns: table. Use one of these, or remove this key.",
        }
    )


def test_all_problems_are_reported_in_the_order_of_the_file():
    text = TEXT.replace("160", "16").replace("none}", "{from_block: blok_12}}")
    text = text.replace("path: nowhere", "group_pattern: '('").replace("epochs: 2", "epochs: 0")
    keys = [problem.partition(": ")[0] for problem in problems_of(text)]
    assert keys == [
        "line 3, data.reader",
        "line 3, data.reader.group_pattern",
        "line 4, data.image_size_px",
        "line 7, phases[0].epochs",
        "line 7, phases[0].trainable.from_block",
    ]


@pytest.mark.parametrize("name", registry.names("backbone"))
def test_every_block_and_the_smallest_size_of_every_backbone_are_valid(name):
    smallest = models.get_backbone(name).min_size_px
    sets = [f"backbone={{name: {name}, weights: ./w.h5}}", f"data.image_size_px={max(16, smallest)}"]
    blocks = models.block_names(name)
    phases = [
        f"{{name: p{index}, epochs: 1, trainable: {{from_block: {block}}}}}"
        for index, block in enumerate(blocks)
    ]
    assert len(checked(TEXT, *sets, f"phases=[{', '.join(phases)}]").phases) == len(blocks)
    if smallest > 16:
        assert len(problems_of(TEXT, sets[0], f"data.image_size_px={smallest - 1}")) == 1


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.4, 1.0, 1.2])
def test_the_check_and_the_search_for_weights_agree(alpha):
    try:
        models.locate_weights("mobilenet_v2", image_size_px=160, alpha=alpha)
    except RequestError:
        assert problems_of(TEXT, f"backbone.alpha={alpha}")
    else:
        assert checked(TEXT, f"backbone.alpha={alpha}")


def test_random_weights_do_not_need_published_weights():
    assert checked(
        TEXT, "backbone={name: mobilenet_v2, weights: none, alpha: 0.4}", "phases[0].trainable=all"
    )


def test_check_does_not_look_for_the_images():
    assert checked(TEXT).data.reader.options.path.name == "nowhere"
    assert checked(TEXT, "data.reader={name: table, path: no.csv, root: no}")
