"""One table with two sites: `target: {domains: [b]}`."""

from pathlib import Path

import pytest

from kerastl import registry
from kerastl.errors import Problems
from kerastl.recipe import Recipe, check, write

TEXT = """\
format: 1
data:
  reader: {name: table, path: all.csv}
  split: {group_by: who}
backbone: {name: small_cnn, weights: none}
phases:
  - {name: all, epochs: 2, learning_rate: 1e-3, trainable: all}
target: {domains: [b], labels: few}
"""


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """all.csv: sites a, b and c with two images of each of two classes."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,label,who,site"]
    for site in "abc":
        for label in ("cat", "dog"):
            for number in (1, 2):
                name = f"{site}_{label}_{number}.png"
                (tmp_path / name).write_bytes(b"never opened by the check")
                lines.append(f"{name},{label},{site}{number},{site}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "all.csv"


def checked(text: str, *sets: str) -> Recipe:
    return check(text, name="x.yaml", sets=sets)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_table_is_one_problem(table, content):
    table.write_text(content)
    with pytest.raises(Problems) as caught:
        checked(TEXT.replace("target: {domains: [b], labels: few}", ""), "evaluation.subgroups=[sex]")
    assert [str(problem) for problem in caught.value.problems] == [
        "line 3, data.reader.path: the table is empty. Expected a header, such as path,label, and one row per image."
    ]


def test_columns_of_subgroups_are_looked_up_in_the_table(table):
    def problems(*sets):
        with pytest.raises(Problems) as caught:
            checked(TEXT, *sets)
        return [str(problem) for problem in caught.value.problems]

    (absent,) = problems("evaluation.subgroups=[whom, site]")
    assert "the table of data.reader has no column 'whom'. Did you mean 'who'?" in absent
    assert "Columns: path, label, who, site." in absent
    (twice,) = problems("evaluation.subgroups=[who, who]")
    assert "evaluation.subgroups[1]: 'who' is already in the list." in twice
    good = checked(TEXT, "evaluation.subgroups=[who, site]")
    assert good.evaluation.subgroups == ("who", "site")
    # A missing table is reported by the run.
    gone = ["data.reader.path=gone.csv", "evaluation.subgroups=[x]", "data.reader.domains=[a, b]"]
    assert checked(TEXT, *gone)


def problem_of(*sets: str) -> str:
    with pytest.raises(Problems) as caught:
        checked(TEXT, *sets)
    (problem,) = caught.value.problems
    return str(problem)


def paths(reader) -> set[str]:
    return {record.path for record in registry.module("reader", "table").read(reader.options).records}


def test_source_and_target_split_the_table_by_domain(table):
    recipe = checked(TEXT)
    source, target = paths(recipe.data.reader), paths(recipe.target.reader)
    assert not source & target
    assert source | target == {line.split(",")[0] for line in table.read_text().split()[1:]}
    assert {path[0] for path in target} == {"b"}


def test_the_written_recipe_contains_both_domains_and_does_not_read_the_table_again(table):
    recipe = checked(TEXT)
    text = write(recipe)
    assert "- a\n" in text
    table.unlink()
    assert checked(text) == recipe


def test_the_target_is_also_split_by_patient():
    assert checked(TEXT).target.split.group_by == "who"
    assert checked(TEXT, "target.split.group_by=site").target.split.group_by == "site"


def test_the_table_is_not_read_if_the_source_names_its_domains(table):
    table.unlink()
    recipe = checked(TEXT, "data.reader.domains=[a, b]")
    assert recipe.data.reader.options.domains == ("a",)
    assert recipe.target.reader.options.domains == ("b",)


def test_domains_that_cannot_be_separated_are_refused_with_a_fix(table):
    assert problem_of("target.domains=[bb]").endswith("'bb'. Did you mean 'b'?")
    assert "none is left for the source" in problem_of("target.domains=[a, b, c]")
    assert "has no column 'sight'" in problem_of("data.reader.columns.domain=sight")
    assert "1 of 12 images have no domain" in _without_one_site(table)
    table.unlink()
    assert "does not exist" in problem_of()


def _without_one_site(table: Path) -> str:
    table.write_text(table.read_text().replace("a1,a\n", "a1,\n", 1))
    return problem_of()


def test_a_reader_next_to_the_domains_is_refused():
    assert "target.reader.domains" in problem_of("target.reader={name: table, path: all.csv}")


def test_a_problem_of_the_table_is_reported_once_with_its_line():
    with pytest.raises(Problems) as caught:
        checked(TEXT.replace("path: all.csv", "paht: all.csv"))
    (problem,) = caught.value.problems
    assert str(problem) == "line 3, data.reader.paht: unknown key. Did you mean 'path'?"
