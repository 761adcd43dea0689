"""Problems of the request for a curve are reported together, before any image is opened."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from make_curves import hospitals

from kerastl.cli.adapt_curve import command
from kerastl.errors import Problems, RequestError
from kerastl.recipe import Source
from kerastl.runs import Run
from kerastl.workflows import out_problems, read_labels
from kerastl.workflows.curve_plan import RECIPE, REQUEST, recipe_problems

WRONG = ("--labels", "0,-1,x", "--seeds", "-1", "--scratch-epochs", "-3", "--out")
KEYS = ["--labels", "--labels", "--labels", "--seeds", "--scratch-epochs", "--out"]
ASKED = {"labels": [0, 2], "seeds": [7, 8], "scratch_epochs": 5}


@pytest.mark.parametrize(
    ("recipe", "kind", "last"),
    [("hospital-adaptation", Problems, "target.reader"), ("nope", RequestError, "'nope'")],
)
def test_all_options_are_checked_together_with_the_recipe(tmp_path, recipe, kind, last):
    (tmp_path / "mine.txt").write_text("")
    error = CliRunner().invoke(command, [recipe, *WRONG, str(tmp_path)]).exception
    assert isinstance(error, kind)
    lines = [str(problem) for problem in error.problems]
    assert [line.partition(":")[0] for line in lines[: len(KEYS)]] == KEYS
    assert last in lines[-1]


@pytest.mark.parametrize(
    ("text", "numbers", "count"),
    [
        ("0,1,5", (0, 1, 5), 0), ("5, 2", (5, 2), 1), ("a,b,3", (), 1), ("0", (0,), 1), ("", (), 1),
        ("0,-1", (0, -1), 3), ("1.5", (), 1), ("²", (), 1), ("1;2", (), 1), ("99999999999", (), 1),
    ],
)  # fmt: skip
def test_labels_are_increasing_integers(text, numbers, count):
    labels, problems = read_labels(text.split(","))
    assert labels == numbers
    assert len(problems) == count
    assert all(str(problem).startswith("--labels: ") for problem in problems)


def start_curve(folder):
    folder.mkdir()
    run = Run(folder)
    run.write_json(REQUEST, ASKED)
    run.file(RECIPE).write_text("")
    return run


def test_the_folder_of_a_stopped_curve_names_the_command_that_resumes_it(tmp_path):
    out = tmp_path / "my curve"
    start_curve(out)
    (problem,) = map(str, out_problems(out))
    assert problem.endswith(
        f"kerastl adapt-curve '{out}/recipe.yaml' --labels 0,2 --seeds 2 --scratch-epochs 5 --out '{out}' --resume"
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": 1, "seeds": 1}', None])
def test_another_folder_cannot_be_resumed(tmp_path, content):
    out = tmp_path / "curve"
    run = start_curve(out)
    if content is None:
        run.finish()
    else:
        run.file(REQUEST).write_text(content)
    (problem,) = map(str, out_problems(out))
    assert "--resume" not in problem


def test_a_new_folder_is_accepted(tmp_path):
    assert not list(out_problems(tmp_path))
    assert not list(out_problems(None))


def test_a_source_free_recipe_is_refused_with_a_suggestion():
    recipe = hospitals().model_copy(update={"source": Source(model=Path("a"))})
    free = recipe.model_copy(update={"phases": recipe.phases[1:]})
    (problem,) = map(str, recipe_problems(free, 1))
    assert "data.reader" in problem
    assert "kerastl adapt-curve hospital-adaptation" in problem
