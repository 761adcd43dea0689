import shlex
from pathlib import Path

import pytest
from example_plug_ins import GOOD, checked
from inline_snapshot import snapshot

from kerastl import registry
from kerastl.errors import Problems, quote
from kerastl.options import StrictModel
from kerastl.recipe import Backbone, FromBlock, LayerNames, Operation, TopFraction, Window

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")


def problems_of(text: str, *sets: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        checked(text, *sets)
    return [str(problem) for problem in caught.value.problems]


def test_the_message_names_every_problem_with_line_path_and_fix():
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
        "  line 12, augment[1].area: must be a fraction from 0 to 1, got 30. For 30%, use 0.3.\n"
        "Nothing was run. Check again: kerastl check flowers.yaml"
    )


def test_the_command_that_checks_again_contains_every_set_option():
    sets = ("seed=7", "phases=[{name: it's, epoch: 5}]")
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    command = str(caught.value).partition("Check again: ")[2]
    words = ["kerastl", "check", "flowers.yaml", "--set", sets[0], "--set", sets[1]]
    assert shlex.split(command) == words


def test_a_valid_recipe_has_every_default_filled_in():
    recipe = checked(GOOD)
    assert recipe.data.split.val_fraction == 0.15
    assert recipe.phases[0].batch_norm == "frozen"
    assert recipe.backbone.options.alpha == 0.35
    assert recipe.export.formats == ("saved_model",)


def test_a_relative_path_is_made_absolute_and_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert checked(GOOD).data.reader.options.path == tmp_path / "flowers"
    recipe = checked(GOOD, "data.reader.path=~/images")
    assert recipe.data.reader.options.path == Path("/home/ada/images")


@pytest.mark.parametrize("folder", ["2024", "no", "1e-3", "true", "007", "0x1F"])
def test_a_folder_name_that_looks_like_another_yaml_type_stays_a_string(folder):
    assert checked(GOOD, f"data.reader.path={folder}").data.reader.options.path.name == folder


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
def test_optional_keys_accept_none_in_every_spelling(word):
    assert checked(GOOD, f"phases[0].early_stopping={word}").phases[0].early_stopping is None


def test_quoted_none_is_the_text_none():
    table = "data.reader.name=table"  # a folder has no columns to group by
    assert checked(GOOD, table, "data.split.group_by='none'").data.split.group_by == "none"
    assert checked(GOOD, table, "data.split.group_by=none").data.split.group_by is None


def test_trainable_is_a_keyword_or_one_of_three_mappings():
    def trainable(value):
        return checked(GOOD, f"phases[0].trainable={value}").phases[0].trainable

    assert trainable("all") == "all"
    assert trainable("{top_fraction: 0.3}") == TopFraction(0.3)
    assert trainable("{from_block: block_12}") == FromBlock("block_12")
    assert trainable("{names: 'block_1.*'}") == LayerNames("block_1.*")


def test_window_is_a_keyword_or_a_center_and_a_width():
    assert checked(GOOD, "data.window=full").data.window == "full"
    recipe = checked(GOOD, "data.window={center: 424, width: 1500}")
    assert recipe.data.window == Window(424.0, 1500.0)


def test_short_forms_equal_the_long_forms():
    long = checked(GOOD, "augment={operations: [{name: random_flip}]}", "backbone={name: small_cnn}")
    assert checked(GOOD, "augment=[random_flip]", "backbone=small_cnn") == long
    assert checked(GOOD, "augment=none") == checked(GOOD)


CHANGES = (
    "data.batch_size=true",
    "data.batch_size=0",
    "data.batch_size=32.0",
    "data.batch_size=1_0",
    "data.max_unreadable_fraction=5%",
    'phases[0].learning_rate="1e-3"',
    "phases[0].learning_rate=.nan",
    "phases[0].learning_rate=.inf",
    "phases[0].name=a b",
    "phases[0].name=../../etc",
    "phases[0].optimizer=adamm",
    "phases[0].trainable=null",
    "phases[0].trainable={top_fraction: 0.3, names: x}",
    "phases=[]",
    "backbone.name=mobilenet",
    "backbone.weights=imagnet",
    "backbone.alpha=9",
    "backbone.aplha=1",
    "data.reader.path=",
    "data.reader.labelled=maybe",
    "data.reader={name: table, path: a, domains: b}",
    "data.reader={name: table, path: a, columns: {lable: x}}",
    "augment=[{name: cutout, range_deg: [1]}]",
    "lr=1",
    "model=x",
    "format=2",
    "format=true",
    "format=1.0",
    "seed=-1",
    "export.formats=[onx]",
    "data.split={val_fraction: 0.5, test_fraction: 0.5}",
    "backbone.weights=none",
    "phases[0].domain=target",
    "phases[0].weight_decay=0.1",
    "phases[0].warmup_epochs=2",
    "phases[0].trainable={names: '('}",
)


def test_each_invalid_value_is_one_problem_that_states_what_is_allowed():
    problems_by_change = {change: problems_of(GOOD, change) for change in CHANGES}
    assert all(len(problems) == 1 for problems in problems_by_change.values())
    assert {change: problem for change, (problem,) in problems_by_change.items()} == snapshot(
        {
            "data.batch_size=true": "--set data.batch_size: must be auto or an integer from 1 to 65536, got true.",
            "data.batch_size=0": "--set data.batch_size: must be auto or an integer from 1 to 65536, got 0.",
            "data.batch_size=32.0": "--set data.batch_size: must be auto or an integer from 1 to 65536, got 32.0. Use 32.",
            "data.batch_size=1_0": "--set data.batch_size: must be auto or an integer from 1 to 65536, got '1_0'. Use 10.",
            "data.max_unreadable_fraction=5%": "--set data.max_unreadable_fraction: must be a fraction from 0 to 1, got '5%'. For 5%, use 0.05.",
            'phases[0].learning_rate="1e-3"': "--set phases[0].learning_rate: must be a number greater than 0 and at most 10, got '1e-3'. Remove the quotes: 1e-3",
            "phases[0].learning_rate=.nan": "--set phases[0].learning_rate: must be a number greater than 0 and at most 10, got .nan.",
            "phases[0].learning_rate=.inf": "--set phases[0].learning_rate: must be a number greater than 0 and at most 10, got .inf.",
            "phases[0].name=a b": "--set phases[0].name: must be text of up to 40 letters, digits, '_' and '-' without spaces, got 'a b'.",
            "phases[0].name=../../etc": "--set phases[0].name: must be text of up to 40 letters, digits, '_' and '-' without spaces, got '../../etc'.",
            "phases[0].optimizer=adamm": "--set phases[0].optimizer: must be adam, adamw or sgd, got 'adamm'. Did you mean 'adam'?",
            "phases[0].trainable=null": "--set phases[0].trainable: must be all, none, {top_fraction: a number greater than 0 and at most 1}, {from_block: a string}, {names: a string} or {unfreeze: one_block_per_epoch}, got null. Use none.",
            "phases[0].trainable={top_fraction: 0.3, names: x}": "--set phases[0].trainable: accepts only one of top_fraction or names.",
            "phases=[]": "--set phases: must contain at least 1 item.",
            "backbone.name=mobilenet": "--set backbone.name: unknown backbone 'mobilenet'. Did you mean 'mobilenet_v2'?",
            "backbone.weights=imagnet": "--set backbone.weights: must be imagenet, preset, none or a path, got 'imagnet'. Did you mean 'imagenet'?",
            "backbone.alpha=9": "--set backbone.alpha: must be a number from 0.1 to 2, got 9.",
            "backbone.aplha=1": "--set backbone.aplha: unknown key. Did you mean 'alpha'?",
            "data.reader.path=": "--set data.reader.path: must be a path, got nothing.",
            "data.reader.labelled=maybe": "--set data.reader.labelled: must be true or false, got 'maybe'.",
            "data.reader={name: table, path: a, domains: b}": "--set data.reader.domains: must be a list, got 'b'. Use [b].",
            "data.reader={name: table, path: a, columns: {lable: x}}": "--set data.reader.columns.lable: unknown key. Did you mean 'label'?",
            "augment=[{name: cutout, range_deg: [1]}]": "--set augment[0].range_deg: must be a list of 2: a number, a number, got a list of 1.",
            "lr=1": "--set lr: unknown key. Did you mean 'phases[0].learning_rate'?",
            "model=x": "--set model: unknown key. Did you mean 'backbone'?",
            "format=2": "--set format: must be 1, got 2.",
            "format=true": "--set format: must be 1, got true.",
            "format=1.0": "--set format: must be 1, got 1.0. Use 1.",
            "seed=-1": "--set seed: must be an integer from 0 to 2147483647, got -1.",
            "export.formats=[onx]": "--set export.formats[0]: unknown export format 'onx'. Did you mean 'onnx'?",
            "data.split={val_fraction: 0.5, test_fraction: 0.5}": "--set data.split.test_fraction: val_fraction and test_fraction together must be below 1, got 1: no images are left for training.",
            "backbone.weights=none": "line 7, phases[0].trainable: must be 'all' with backbone.weights: none, because otherwise random features would be frozen. Use trainable: all, or weights: imagenet.",
            "phases[0].domain=target": "--set phases[0].domain: 'target' is not allowed, because the recipe has no target. Add target, or use domain: source.",
            "phases[0].weight_decay=0.1": "--set phases[0].weight_decay: must be 0 with optimizer adam. Set optimizer: adamw to use weight decay.",
            "phases[0].warmup_epochs=2": "--set phases[0].warmup_epochs: must be below epochs (2), got 2.",
            "phases[0].trainable={names: '('}": "--set phases[0].trainable.names: is not a regular expression: missing ), unterminated subpattern at position 0.",
        }
    )


RENAMED = (
    "phases[0].momenta=keep",
    "phases[0].stretch={before: 1, epochs: 3}",
    "adaptation={methods: [adabn], select_by: [proven_information]}",
)


def test_problems_of_renamed_keys_and_values_name_the_new_ones():
    assert {change: problems_of(GOOD, change)[0] for change in RENAMED} == snapshot(
        {
            "phases[0].momenta=keep": "--set phases[0].momenta: was renamed to 'optimizer_state' (renew is now reset).",
            "phases[0].stretch={before: 1, epochs: 3}": "--set phases[0].stretch: was removed. Use trainable: {unfreeze: one_block_per_epoch} in one phase.",
            "adaptation={methods: [adabn], select_by: [proven_information]}": "--set adaptation.select_by[0].name: 'proven_information' was renamed to 'bounded_information'.",
        }
    )


SHAPES = ("- a\n", "seed: 3\n", GOOD + "head: null\n", GOOD + "augment: [{options: {area: 1}}]\n")


def test_values_of_another_shape_are_reported_with_what_is_allowed():
    assert {text.splitlines()[-1]: problems_of(text) for text in SHAPES} == snapshot(
        {
            "- a": [
                "line 1: must be a mapping with the keys format, data, backbone, phases, seed, task, augment, head, source, target, adaptation, export, evaluation and budget, got a list."
            ],
            "seed: 3": [
                "line 1: Missing required key 'format'. Add: format: 1",
                "line 1: Missing required key 'data', which must be a mapping.",
                "line 1: Missing required key 'backbone', which must be {name: the name of a backbone, weights: imagenet, preset, none or a path}.",
                "line 1: Missing required key 'phases'. Add: phases: [{name: ..., epochs: ...}]",
            ],
            "head: null": [
                "line 8, head: must be a mapping with the keys dropout, pooling and binary, got null."
            ],
            "augment: [{options: {area: 1}}]": [
                "line 8, augment[0]: Missing required key 'name', which must be cutout, holder or random_flip."
            ],
        }
    )


def test_python_callers_get_the_same_messages_in_python_syntax():
    with pytest.raises(Problems) as caught:
        Operation("cutout", area=30, direction="left")
    assert str(caught.value) == snapshot(
        "Operation 'cutout' has 2 problems.\n  area: must be a fraction from 0 to 1, got 30. For 30%, use 0.3.\n  direction: must be 'horizontal', 'vertical' or 'both', got 'left'."
    )
    assert Operation("cutout", area=0.5).options.area == 0.5
    assert checked(GOOD, "augment=[{name: cutout, area: 0.5}]").augment.operations == (
        Operation("cutout", area=0.5),
    )


def test_random_weights_may_freeze_after_a_phase_that_trained_everything():
    phases = (
        "phases=[{name: a, epochs: 1, learning_rate: 1e-3, trainable: all},"
        "{name: b, epochs: 1, learning_rate: 1e-3, trainable: none}]"
    )
    recipe = checked(GOOD, "backbone.weights=none", phases)
    assert [phase.batch_norm for phase in recipe.phases] == ["trainable", "trainable"]
    assert problems_of(GOOD, "backbone.weights=none", phases, "phases[0].batch_norm=frozen")


def test_a_target_needs_labels_only_with_target_phases():
    target = "target={reader: {name: phantom}, labels: none}"
    assert checked(GOOD, target).target is not None
    assert "labels: few" in problems_of(GOOD, target, "phases[0].domain=target")[0]


def test_a_repeated_phase_name_is_reported_together_with_other_problems():
    text = GOOD + "  - {name: head, epochs: 1, learning_rate: 1e-3, trainable: none}\n"
    assert problems_of(text, "seed=x")[0].startswith("line 8, phases[1].name: 'head' is already the name")
    assert len(problems_of(text, "seed=x")) == 2


def test_a_missing_path_states_what_to_type():
    text = GOOD.replace(", path: flowers", "")
    assert problems_of(text) == [
        "line 4, data.reader: Missing required key 'path'. Add: path: DIR, or use --data DIR"
    ]


def test_problems_are_in_the_order_of_the_file_with_set_options_last():
    text = GOOD.replace("seed: 7", "sed: 7").replace("epochs: 2", "epochs: no")
    problems = problems_of(text, "head.dropout=2")
    assert [problem.split(",")[0].split(":")[0] for problem in problems] == [
        "line 2",
        "line 7",
        "--set head.dropout",
    ]


def test_a_repeated_format_is_refused():
    (problem,) = problems_of(GOOD, "export.formats=[saved_model, saved_model]")
    assert "formats[1]: 'saved_model' is already in the list" in problem


def test_quantized_formats_must_be_exported_and_need_calibration_images():
    recipe = checked(GOOD, "export={formats: [litert, onnx], quantize: int8}")
    assert recipe.export.quantize == "int8"
    (problem,) = problems_of(GOOD, "export={formats: [onnx], quantize: int8}")
    assert "int8 applies to the format litert, which is not in formats" in problem


def test_formats_that_resize_must_be_exported_and_not_compute_in_8_bits():
    recipe = checked(GOOD, "export={formats: [saved_model, onnx], with_resize: true}")
    assert recipe.export.with_resize
    (problem,) = problems_of(GOOD, "export={formats: [saved_model], with_resize: true}")
    assert "true requires the format litert or onnx in formats. Add one, or use false" in problem
    (problem,) = problems_of(GOOD, "export={formats: [onnx, litert], with_resize: true, quantize: int8}")
    assert "true is not allowed with quantize: int8" in problem
    assert checked(
        GOOD, "export={formats: [litert], with_resize: true, quantize: float16}"
    ).export.with_resize


def test_control_characters_in_a_recipe_are_not_printed():
    (problem,) = problems_of(GOOD, 'data.cache="\\e[31mred"')
    assert "\x1b" not in problem
    assert "red" in problem


def test_a_plug_in_option_cannot_have_the_name_of_a_key(monkeypatch):
    class Clash(StrictModel):
        weights: str = "x"

    monkeypatch.setattr(registry, "options_of", lambda kind, name: Clash)
    with pytest.raises(TypeError, match="may not be called"):
        Backbone("small_cnn")


@pytest.mark.parametrize(
    ("content", "given", "hint"),
    [
        ("config.json", "lite", "Did you mean 'keras_hub/./lite'?"),
        ("config.json", "./lite", "Did you mean 'keras_hub/./lite'?"),
        ("config.json", "~/lite", "Did you mean 'keras_hub/~/lite'?"),
        ("model.keras", "./lite", "It contains weights. Use weights='./lite', and the name of its backbone."),
        ("notes.txt", "lite", "Known: "),
        ("config.json", "lite\0" * 2000, "Known: "),
    ],
)
def test_the_path_of_a_preset_or_of_a_run_is_recognized(content, given, hint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lite").mkdir()
    (tmp_path / "lite" / content).write_text("{}")
    _, errors = Backbone.read({"name": given})
    assert errors[0][1].startswith(f"unknown backbone {quote(given)}. {hint}")
