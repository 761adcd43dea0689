import shlex
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from annotated_types import Ge, Le
from plug_ins_drawn import GOOD, checked, names_of, options_of

from kerastl.errors import Problems
from kerastl.recipe import FromBlock, LayerNames, Reader, TopFraction, Window
from kerastl.recipe.read import read
from kerastl.recipe.rules import calibrating_needs_files
from kerastl.recipe.schema import Count
from kerastl.recipe.walk import Walker


def problems_of(text: str, *sets: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        checked(text, *sets)
    return [str(problem) for problem in caught.value.problems]


def test_the_letter_names_every_problem_with_line_path_and_remedy():
    text = """\
format: 1
data: {reader: {name: folder, path: flowers}}
backbone: mobilenet_v2
phases:
  -
    name: head
    epoch: 5
    learning_rate: 1e-3
    trainable: all
augment:
  - {name: random_flip}
  - {name: cutout, area: 30}
"""
    with pytest.raises(Problems) as caught:
        checked(text)
    assert f"Error: {caught.value}" == (
        "Error: flowers.yaml has 2 problems.\n"
        "  line 7, phases[0].epoch: unknown key. Did you mean 'epochs'?\n"
        "  line 12, augment[1].area: must be a fraction from 0 to 1, got 30. For 30 % write 0.3.\n"
        "Nothing was run. Check again: kerastl check flowers.yaml"
    )


def test_the_command_that_checks_again_has_every_change_in_it():
    sets = ("seed=7", "phases=[{name: it's, epoch: 5}]")
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    command = str(caught.value).partition("Check again: ")[2]
    words = ["kerastl", "check", "flowers.yaml", "--set", sets[0], "--set", sets[1]]
    assert shlex.split(command) == words


def test_the_letter_of_the_house_style_comes_out_word_for_word():
    @dataclass(frozen=True)
    class Training:
        epochs: Count

    @dataclass(frozen=True)
    class Operation:
        area: Annotated[float, Ge(0), Le(1)] = 0.5

    @dataclass(frozen=True)
    class Flowers:
        training: Training
        augment: tuple[Operation, ...]

    # Local classes: their annotations cannot be looked up by name.
    Training.__annotations__["epochs"] = Count
    Operation.__annotations__["area"] = Annotated[float, Ge(0), Le(1)]
    Flowers.__annotations__.update(training=Training, augment=tuple[Operation, ...])
    text = "\n\n\n\n\ntraining:\n  epoch: 5\naugment: [{},\n  {area: 30}]\n"
    tree, found = read(text, subject="flowers.yaml")
    Walker(found, options_of=options_of, names_of=names_of, rules={}).value(Flowers, tree, "")
    footer = "Nothing was run. Check again: kerastl check flowers.yaml"
    assert f"Error: {Problems('flowers.yaml', found.problems, footer)}" == (
        "Error: flowers.yaml has 2 problems.\n"
        "  line 7, training.epoch: unknown key. Did you mean 'epochs'?\n"
        "  line 9, augment[1].area: must be a fraction from 0 to 1, got 30. For 30 % write 0.3.\n"
        "Nothing was run. Check again: kerastl check flowers.yaml"
    )


def test_a_good_recipe_has_every_default_filled_in():
    recipe = checked(GOOD)
    assert recipe.data.split.val_fraction == 0.15
    assert recipe.phases[0].batch_norm == "frozen"
    assert recipe.backbone.options.alpha == 0.35
    assert recipe.export.formats == ("saved_model",)


def test_a_relative_path_is_made_absolute_and_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert checked(GOOD).data.reader.options.path == tmp_path / "flowers"
    recipe = checked(GOOD, "data.reader.path=~/pictures")
    assert recipe.data.reader.options.path == Path("/home/ada/pictures")


@pytest.mark.parametrize("folder", ["2024", "no", "1e-3", "true", "007", "0x1F"])
def test_a_folder_whose_name_looks_like_something_else_is_a_folder(folder):
    assert checked(GOOD, f"data.reader.path={folder}").data.reader.options.path.name == folder


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
def test_nothing_is_meant_by_none_where_nothing_is_allowed(word):
    assert checked(GOOD, f"phases[0].early_stopping={word}").phases[0].early_stopping is None


def test_quoted_none_is_the_text_none():
    table = "data.reader.name=table"  # a folder has no columns to group by
    assert checked(GOOD, table, "data.split.group_by='none'").data.split.group_by == "none"
    assert checked(GOOD, table, "data.split.group_by=none").data.split.group_by is None


def test_trainable_is_a_word_or_one_of_three_shapes():
    def trainable(value):
        return checked(GOOD, f"phases[0].trainable={value}").phases[0].trainable

    assert trainable("all") == "all"
    assert trainable("{top_fraction: 0.3}") == TopFraction(0.3)
    assert trainable("{from_block: block_12}") == FromBlock("block_12")
    assert trainable("{names: 'block_1.*'}") == LayerNames("block_1.*")


def test_window_is_a_word_or_a_center_and_a_width():
    assert checked(GOOD, "data.window=full").data.window == "full"
    recipe = checked(GOOD, "data.window={center: 424, width: 1500}")
    assert recipe.data.window == Window(424.0, 1500.0)


def test_short_forms_mean_the_long_ones():
    long = checked(
        GOOD, "augment={operations: [{name: random_flip}]}", "backbone={name: small_cnn}"
    )
    assert checked(GOOD, "augment=[random_flip]", "backbone=small_cnn") == long
    assert checked(GOOD, "augment=none") == checked(GOOD)


WRONG = {
    "data.batch_size=true": "must be a whole number from 1 to 65536, got true.",
    "data.batch_size=0": "must be a whole number from 1 to 65536, got 0.",
    "data.batch_size=32.0": "must be a whole number from 1 to 65536, got 32.0. Write 32.",
    "data.batch_size=1_0": "must be a whole number from 1 to 65536, got '1_0'. Write 10.",
    "data.max_unreadable_fraction=5%": "must be a fraction from 0 to 1, got '5%'. For 5 % write 0.05.",
    'phases[0].learning_rate="1e-3"': "got '1e-3'. Take the quotes off: 1e-3",
    "phases[0].learning_rate=.nan": "got .nan.",
    "phases[0].learning_rate=.inf": "got .inf.",
    "phases[0].name=a b": "must be text of up to 40 letters",
    "phases[0].name=../../etc": "must be text of up to 40 letters",
    "phases[0].optimizer=adamm": "must be adam, adamw or sgd, got 'adamm'. Did you mean 'adam'?",
    "phases[0].trainable=null": "got null. Write none.",
    "phases[0].trainable={top_fraction: 0.3, names: x}": "not several.",
    "phases=[]": "must have at least 1.",
    "backbone.name=mobilenet": "there is no backbone 'mobilenet'. Did you mean 'mobilenet_v2'?",
    "backbone.weights=imagnet": "Did you mean 'imagenet'?",
    "backbone.alpha=9": "must be a number from 0.1 to 2, got 9.",
    "backbone.aplha=1": "unknown key. Did you mean 'alpha'?",
    "data.reader.path=": "must be a path, got nothing.",
    "data.reader.labelled=maybe": "must be true or false, got 'maybe'.",
    "data.reader={name: table, path: a, domains: b}": "must be a list, got 'b'. Write [b].",
    "data.reader={name: table, path: a, columns: {lable: x}}": "Did you mean 'label'?",
    "augment=[{name: cutout, range_deg: [1]}]": "must be a list of 2: a number, a number, got 1.",
    "lr=1": "unknown key.",
    "model=x": "unknown key. Did you mean 'backbone'?",
    "format=2": "must be 1, got 2.",
    "format=true": "must be 1, got true.",
    "format=1.0": "must be 1, got 1.0.",
    "seed=-1": "must be a whole number from 0 to 2147483647, got -1.",
    "export.formats=[onx]": "there is no format 'onx'. Did you mean 'onnx'?",
}


@pytest.mark.parametrize(("change", "message"), WRONG.items(), ids=list(WRONG))
def test_a_wrong_value_is_one_problem_that_says_what_is_allowed(change, message):
    (problem,) = problems_of(GOOD, change)
    assert problem.startswith("--set ")
    assert message in problem


REFUSED = {
    "data.split={val_fraction: 0.5, test_fraction: 0.5}": "nothing is left for training",
    "backbone.weights=none": "random features that never train",
    "phases[0].domain=target": "has no target",
    "phases[0].weight_decay=0.1": "only adamw",
    "phases[0].warmup_epochs=2": "must be below epochs (2)",
    "phases[0].trainable={names: '('}": "is not a regular expression",
}


@pytest.mark.parametrize(("change", "message"), REFUSED.items(), ids=list(REFUSED))
def test_values_that_contradict_one_another_are_refused(change, message):
    (problem,) = problems_of(GOOD, change)
    assert message in problem


def test_random_weights_may_freeze_after_a_phase_that_trained_everything():
    phases = (
        "phases=[{name: a, epochs: 1, learning_rate: 1e-3, trainable: all},"
        "{name: b, epochs: 1, learning_rate: 1e-3, trainable: none}]"
    )
    recipe = checked(GOOD, "backbone.weights=none", phases)
    assert [phase.batch_norm for phase in recipe.phases] == ["trainable", "trainable"]
    assert problems_of(GOOD, "backbone.weights=none", phases, "phases[0].batch_norm=frozen")


def test_a_phase_at_a_target_needs_its_labels_but_a_target_without_phases_does_not():
    target = "target={reader: {name: phantom}, labels: none}"
    assert checked(GOOD, target).target is not None
    assert "labels: few" in problems_of(GOOD, target, "phases[0].domain=target")[0]


def test_two_phases_of_one_name_are_told_apart_or_refused_beside_another_problem():
    text = GOOD + "  - {name: head, epochs: 1, learning_rate: 1e-3, trainable: none}\n"
    assert problems_of(text, "seed=x")[0].startswith("line 8, phases[1].name: 'head' is the name")
    assert len(problems_of(text, "seed=x")) == 2


def test_a_missing_path_says_what_to_type():
    text = GOOD.replace(", path: flowers", "")
    assert problems_of(text) == ["line 4, data.reader.path: is needed: --set data.reader.path=DIR"]


def test_problems_come_in_the_order_of_the_file_and_sets_last():
    text = GOOD.replace("seed: 7", "sed: 7").replace("epochs: 2", "epochs: no")
    found = problems_of(text, "head.dropout=2")
    assert [problem.split(",")[0].split(":")[0] for problem in found] == [
        "line 2",
        "line 7",
        "--set head.dropout",
    ]


def test_a_format_twice_is_one_too_many():
    (problem,) = problems_of(GOOD, "export.formats=[saved_model, saved_model]")
    assert "formats[1]: 'saved_model' stands in the list already" in problem


def test_what_is_quantized_is_written_and_can_be_calibrated():
    recipe = checked(GOOD, "export={formats: [litert, onnx], quantize: int8}")
    assert recipe.export.quantize == "int8"
    (problem,) = problems_of(GOOD, "export={formats: [onnx], quantize: int8}")
    assert "int8 is for the format litert, which formats does not name" in problem
    without_files = SimpleNamespace(reader=SimpleNamespace(name="tfds"))
    ((where, problem),) = calibrating_needs_files(without_files, None, recipe.export)
    assert where == "export.quantize"
    assert "the reader tfds has none. Write float16" in problem
    assert not [*calibrating_needs_files(without_files, recipe.data, recipe.export)]


def test_text_of_a_stranger_cannot_write_to_the_terminal():
    (problem,) = problems_of(GOOD, 'data.cache="\\e[31mred"')
    assert "\x1b" not in problem
    assert "red" in problem


def test_a_plug_in_may_not_call_an_option_as_the_recipe_calls_the_plug_in():
    @dataclass(frozen=True)
    class Clash:
        name: str = "x"

    Clash.__annotations__["name"] = str
    tree, found = read("{name: folder}", subject="x.yaml")
    walker = Walker(found, options_of=lambda kind, name: Clash, names_of=names_of, rules={})
    with pytest.raises(TypeError, match="may not call an option name"):
        walker.value(Reader, tree, "data.reader")
