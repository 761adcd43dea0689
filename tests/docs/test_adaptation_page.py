"""The tables and names in docs/adaptation.md."""

from pathlib import Path

from kerastl import adaptation, registry

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adaptation.md").read_text()


def rows_of(part):
    lines = (line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `"))
    return {first.strip(" `"): [cell.strip() for cell in cells] for first, *cells in lines}


def test_the_table_lists_the_properties_of_each_method():
    rows = rows_of(PAGE.split("## In a recipe")[0])
    assert set(rows) == set(registry.names("adaptation"))
    words = {True: "yes", False: "no"}
    for name, (_, *cells) in rows.items():
        method = adaptation.get_method(name)
        assert cells == [
            method.target_labels,
            "optional" if method.source_optional else words[not method.source_free],
            "re-estimated" if method.requires_statistics else "any",
            words[method.assumes_equal_prevalence],
            words[method.learns == "head"],
            words[method.changes_pixels],
        ], name


def test_each_style_function_is_listed_with_its_method():
    rows = rows_of(PAGE.split("## Pixels")[1].split("## Training from Python")[0])
    assert set(rows) == {"histogram_matching", "reinhard", "fda"}
    assert all(adaptation.get_method(name).changes_pixels for name in rows)
    for function, *_ in rows.values():
        assert callable(getattr(adaptation, function.strip("`")))


def test_each_validator_is_listed():
    rows = rows_of(PAGE.split("## Choosing without labels")[1])
    assert set(rows) == set(registry.names("validator"))


def test_each_listed_loss_function_exists():
    line = PAGE.split("## Loss functions")[1].split("```")[2].split("The batches of")[0]
    names = line.split("`")[1::2]
    assert len(names) > 10
    for name in names:
        assert callable(getattr(adaptation, name)), name
