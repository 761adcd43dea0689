"""What is wrong with the request for a curve: told before any image is opened, all of it together."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from curves_drawn import hospitals

from kerastl.cli.adapt_curve import command
from kerastl.errors import Problems, RequestError
from kerastl.recipe import Source
from kerastl.runs import Run
from kerastl.workflows import out_problems, read_labels
from kerastl.workflows.label_budget import RECIPE, REQUEST, recipe_problems

WRONG = ("--labels", "0,-1,x", "--seeds", "-1", "--scratch-epochs", "-3", "--out")
SAID = [
    "--labels: 'x' is no number",
    "--labels: -1 stands behind 0",
    "--labels: each is from 0 to",
    "--seeds: is from 1 to 100, got -1",
    "--scratch-epochs: is from 1 to 100,000, got -3",
    "--out: ",
]
ASKED = {"labels": [0, 2], "seeds": [7, 8], "scratch_epochs": 5}


@pytest.mark.parametrize(
    ("recipe", "kind", "last"),
    [("hospital-adaptation", Problems, "reader.path"), ("nope", RequestError, "no recipe 'nope'")],
)
def test_the_command_line_is_told_whole_beside_the_recipe(tmp_path, recipe, kind, last):
    (tmp_path / "mine.txt").write_text("")
    error = CliRunner().invoke(command, [recipe, *WRONG, str(tmp_path)]).exception
    assert isinstance(error, kind)
    told = [str(one) for one in error.problems]
    for line, said in zip(told, SAID, strict=False):
        assert line.startswith(said)
    assert last in told[-1]


@pytest.mark.parametrize(
    ("text", "numbers", "said"),
    [
        ("0,1,5", (0, 1, 5), []),
        ("5, 2", (5, 2), ["2 stands behind 5"]),
        ("a,b,3", (), ["'a', 'b' are no numbers"]),
        ("0", (0,), ["none is above 0"]),
    ],
)
def test_labels_are_read_to_the_end(text, numbers, said):
    found, problems = read_labels(text)
    assert found == numbers
    assert [len(problems), all(map(str.__contains__, map(str, problems), said))] == [len(said), True]


def begun(folder):
    folder.mkdir()
    run = Run(folder)
    run.write_json(REQUEST, ASKED)
    run.file(RECIPE).write_text("")
    return run


def test_the_folder_of_a_stopped_curve_names_the_command_that_goes_on_with_it(tmp_path):
    out = tmp_path / "my curve"
    begun(out)
    (told,) = map(str, out_problems(out))
    assert told.endswith(
        f"kerastl adapt-curve '{out}/recipe.yaml' --labels 0,2 --seeds 2 --scratch-epochs 5 --out '{out}' --resume"
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": 1, "seeds": 1}', None])
def test_a_folder_that_no_curve_can_go_on_in_is_only_taken(tmp_path, content):
    out = tmp_path / "curve"
    run = begun(out)
    if content is None:
        run.finish()
    else:
        run.file(REQUEST).write_text(content)
    (told,) = map(str, out_problems(out))
    assert told.endswith("is left as it is. Name another.")


def test_a_free_folder_is_no_problem(tmp_path):
    assert not list(out_problems(tmp_path))
    assert not list(out_problems(None))


def test_a_recipe_of_as_model_alone_is_told_which_one_to_take():
    recipe = hospitals().model_copy(update={"source": Source(model=Path("a"))})
    free = recipe.model_copy(update={"phases": recipe.phases[1:]})
    (told,) = map(str, recipe_problems(free))
    assert "needs A's images (data.reader)" in told
    assert "kerastl adapt-curve hospital-adaptation" in told
