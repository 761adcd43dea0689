"""What must stay the same while the package is moved and reworded: README.md of this folder explains the files."""

from __future__ import annotations

import json
from pathlib import Path

import golden_files
import pytest
import recipe_keys
import tiny_runs
import wrong_requests
from command_line import help_texts

FAST = "feature-extraction"
TOLERANCE = 1e-3
"""Of a probability: processors round differently, and training carries that on."""


@pytest.fixture(scope="module")
def help_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return help_texts(tmp_path_factory.mktemp("help"))


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("requests")
    wrong_requests.write_files(folder)
    return wrong_requests.answers(folder)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all runs of this process."""
    return tmp_path_factory.mktemp("golden")


def test_every_help_text_is_the_golden_one(help_pages: dict[str, str]) -> None:
    assert help_pages == golden_files.read_sections(golden_files.HELP)


def test_recipe_keys_types_and_defaults_are_the_golden_ones() -> None:
    assert recipe_keys.recipe_keys() == golden_files.read_lines(golden_files.RECIPE_KEYS)


def test_the_golden_file_contains_every_request() -> None:
    requests = [*wrong_requests.REPLACED, *wrong_requests.COMMANDS]
    assert list(golden_files.read_sections(golden_files.REQUESTS)) == requests


@pytest.mark.parametrize("name", [*wrong_requests.REPLACED, *wrong_requests.COMMANDS])
def test_a_wrong_request_is_refused_as_before(name: str, refusals: dict[str, str]) -> None:
    assert refusals[name] == golden_files.read_sections(golden_files.REQUESTS)[name]


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=() if name == FAST else pytest.mark.slow) for name in tiny_runs.SETTINGS],
)
def test_a_tiny_run_decides_and_predicts_as_before(recipe: str, work: Path) -> None:
    run = tiny_runs.run_recipe(recipe, work)
    results, golden = tiny_runs.results_of(run), json.loads(golden_files.run_file(recipe).read_text())
    probabilities, expected = results.pop("probabilities"), golden.pop("probabilities")
    assert results == golden
    assert list(probabilities) == list(expected)
    for image, by_class in expected.items():
        assert probabilities[image] == pytest.approx(by_class, abs=TOLERANCE), image
    assert tiny_runs.json_keys(run) == golden_files.read_json_keys()[recipe]


def test_the_golden_files_are_small() -> None:
    files = [path for path in golden_files.FOLDER.rglob("*") if path.suffix in (".txt", ".json")]
    assert sum(path.stat().st_size for path in files) < 200_000
