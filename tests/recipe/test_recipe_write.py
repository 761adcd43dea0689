from pathlib import Path

import pytest
import yaml
from example_plug_ins import GOOD, checked
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastl.recipe import read_plain, write

NAMES = st.text(min_size=1, max_size=30).filter(
    lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text)
)

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")
PATHS = NAMES.filter(lambda text: text.strip() and "\0" not in text)


def test_the_written_recipe_contains_every_default_and_absolute_paths():
    plain = yaml.safe_load(write(checked(GOOD)))
    assert plain["data"]["split"]["test_fraction"] == 0.15
    assert Path(plain["data"]["reader"]["path"]).is_absolute()
    assert plain["backbone"] == {"name": "mobilenet_v2", "weights": "imagenet", "alpha": 0.35}
    assert plain["phases"][0]["batch_norm"] == "frozen"


@pytest.mark.parametrize(
    "change",
    [
        "target={reader: {name: table, path: a, domains: [b, no, '1e-3']}, labels: few}",
        "phases[0].trainable={names: '^block_[0-9]+: #'}",
        "data.window={center: 1e-7, width: 1e+20}",
        "backbone.weights=runs/a/model.keras",
        "augment=[{name: cutout, area: 0.1, range_deg: [-1, 1e3]}, random_flip]",
        "data={reader: {name: table, path: a}, split: {group_by: 'none'}}",
        "export.formats=[]",
    ],
)
def test_a_written_recipe_reads_back_equal(change):
    recipe = checked(GOOD, change)
    assert checked(write(recipe)) == recipe


def test_programs_that_read_yaml_1_1_get_the_same_values():
    text = write(
        checked(
            GOOD,
            "phases[0].learning_rate=1e-5",
            "data.reader={name: table, path: a, domains: ['no', '1:30']}",
        )
    )
    plain = yaml.safe_load(text)
    assert plain["phases"][0]["learning_rate"] == 1e-5
    assert plain["data"]["reader"]["domains"] == ["no", "1:30"]
    assert read_plain(text) == plain


def test_writing_twice_gives_the_same_text():
    text = write(checked(GOOD))
    assert write(checked(text)) == text


@settings(max_examples=40, deadline=None)
@given(path=PATHS, group=NAMES, rate=st.floats(1e-12, 10), seed=st.integers(0, 2**31 - 1))
def test_any_text_and_number_survives(path, group, rate, seed):
    recipe = checked(GOOD, "data.reader.name=table")
    options = recipe.data.reader.options.model_copy(update={"path": Path("/") / path, "domains": (group,)})
    reader = recipe.data.reader.model_copy(update={"options": options})
    split = recipe.data.split.model_copy(update={"group_by": group})
    data = recipe.data.model_copy(update={"reader": reader, "split": split})
    phases = (recipe.phases[0].model_copy(update={"learning_rate": rate}),)
    recipe = recipe.model_copy(update={"data": data, "phases": phases, "seed": seed})
    assert checked(write(recipe)) == recipe
