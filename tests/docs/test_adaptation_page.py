"""What docs/adaptation.md says must be what there is."""

from pathlib import Path

from kerastl import adaptation, registry

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adaptation.md").read_text()


def test_the_table_tells_the_facts_of_every_method():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `")
    ]
    told = {row[0].strip("`"): row[2:] for row in rows}
    assert set(told) == set(registry.names("adaptation"))
    words = {True: "yes", False: "no"}
    for name, cells in told.items():
        method = adaptation.method_named(name)
        assert cells == [
            method.target_labels,
            words[not method.source_free],
            "must follow" if method.moves_statistics else "as the phase says",
            words[method.assumes_equal_prevalence],
            words[method.learns == "head"],
        ], name


def test_the_losses_that_the_page_names_are_there():
    line = PAGE.split("```")[4].split("The batches of")[0]
    names = line.split("`")[1::2]
    assert len(names) > 10
    for name in names:
        assert callable(getattr(adaptation, name)), name
