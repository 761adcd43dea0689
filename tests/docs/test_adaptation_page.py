"""What docs/adaptation.md says must be what there is."""

from pathlib import Path

from kerastl import adaptation, registry

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adaptation.md").read_text()


def rows_of(part):
    lines = (line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `"))
    return {first.strip(" `"): [cell.strip() for cell in cells] for first, *cells in lines}


def test_the_table_tells_the_facts_of_every_method():
    told = rows_of(PAGE.split("## In a recipe")[0])
    assert set(told) == set(registry.names("adaptation"))
    words = {True: "yes", False: "no"}
    for name, (_, *cells) in told.items():
        method = adaptation.get_method(name)
        assert cells == [
            method.target_labels,
            "optional" if method.source_optional else words[not method.source_free],
            "re-estimated" if method.requires_statistics else "any",
            words[method.assumes_equal_prevalence],
            words[method.learns == "head"],
            words[method.changes_pixels],
        ], name


def test_every_style_is_told_with_its_method():
    told = rows_of(PAGE.split("## Pixels")[1].split("## Training from Python")[0])
    assert set(told) == {"histogram_matching", "reinhard", "fda"}
    assert all(adaptation.get_method(name).changes_pixels for name in told)
    for function, *_ in told.values():
        assert callable(getattr(adaptation, function.strip("`")))


def test_every_validator_is_told():
    told = rows_of(PAGE.split("## Choosing without labels")[1])
    assert set(told) == set(registry.names("validator"))


def test_the_losses_that_the_page_names_are_there():
    line = PAGE.split("## Loss functions")[1].split("```")[2].split("The batches of")[0]
    names = line.split("`")[1::2]
    assert len(names) > 10
    for name in names:
        assert callable(getattr(adaptation, name)), name
