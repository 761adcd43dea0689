import pytest
from example_plug_ins import GOOD, checked

from kerastl.errors import Problems

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")


def refusal(*sets: str) -> str:
    with pytest.raises(Problems) as caught:
        checked(GOOD, *sets)
    return str(caught.value)


def test_set_overrides_the_file():
    edited = GOOD.replace("epochs: 2", "epochs: 9").replace("seed: 7", "seed: 8")
    assert checked(GOOD, "phases[0].epochs=9", "seed=8") == checked(edited)


def test_set_creates_missing_sections():
    assert checked(GOOD, "head.dropout=0.5").head.dropout == 0.5
    assert checked(GOOD, "data.split.val_fraction=0.3").data.split.val_fraction == 0.3


def test_the_last_set_of_a_path_wins():
    assert checked(GOOD, "seed=8", "seed=9").seed == 9


def test_set_reaches_into_short_forms():
    assert checked(GOOD, "backbone=mobilenet_v2", "backbone.alpha=0.5").backbone.options.alpha == 0.5


def test_a_longer_path_replaces_a_keyword_that_is_not_a_plug_in():
    recipe = checked(GOOD, "phases[0].trainable.top_fraction=0.3")
    assert recipe == checked(GOOD, "phases[0].trainable={top_fraction: 0.3}")
    window = checked(GOOD, "data.window=full", "data.window.center=9", "data.window.width=4")
    assert window == checked(GOOD, "data.window={center: 9, width: 4}")
    augment = checked(GOOD, "augment=none", "augment.operations=[cutout]")
    assert augment == checked(GOOD, "augment=[cutout]")


def test_set_adds_an_option_to_the_bare_name_of_an_operation():
    for path in ("augment[1]", "augment.operations[1]"):
        operations = "augment={operations: [random_flip, cutout]}"
        sets = ["augment=[random_flip, cutout]"] if path == "augment[1]" else [operations]
        assert checked(GOOD, *sets, f"{path}.area=0.1") == checked(
            GOOD, "augment=[random_flip, {name: cutout, area: 0.1}]"
        )


def test_set_null_removes_a_section():
    text = GOOD + "target: {reader: {name: phantom}, labels: none}\n"
    assert checked(text).target is not None
    assert checked(text, "target=null").target is None


def test_set_reads_numbers_as_the_file_does():
    assert checked(GOOD, "phases[0].learning_rate=1e-5").phases[0].learning_rate == 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "must be PATH=VALUE"),
        ("=3", "must be PATH=VALUE"),
        ("phases[0]epochs=3", "must be PATH=VALUE"),
        ("phases[x].epochs=3", "must be PATH=VALUE"),
        ("phases.0.epochs=3", "--set phases.0.epochs=3: an index is written in brackets: phases[0].epochs."),
        (
            "phases[7].epochs=3",
            "--set phases[7]: index 7 is out of range: phases has 1 entry, and indices start at 0.",
        ),
        ("phases.epochs=3", "phases is a list: write phases[0]."),
        ("seed[0]=3", "seed is not a list."),
        ("seed=[1", "--set seed: invalid YAML"),
        ("seed=!!int 3", "--set seed: tags are not allowed"),
    ],
)
def test_a_set_that_cannot_be_applied_states_the_reason(change, message):
    assert message in refusal(change)


def test_all_invalid_sets_are_reported_together():
    assert "has 3 problems" in refusal("seed", "sed=1", "phases[7]=x")
