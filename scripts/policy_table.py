"""Write the table of the named policies to docs/augmentation.md.

Usage: python scripts/policy_table.py. A test checks that the page is up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.augment.presets import POLICIES

DOCS = Path(__file__).parent.parent / "docs" / "augmentation.md"
BEGIN, END = "<!-- policies: begin -->\n", "<!-- policies: end -->\n"


def format_options(operation: dict[str, Any]) -> str:
    """Return the options of an operation in recipe syntax, such as `max_deg: 5`."""
    return ", ".join(f"{key}: {value}" for key, value in operation.items() if key != "name")


def table() -> str:
    """Return the table with one row per operation and one column per policy."""
    policies = {name: operations for name, operations in POLICIES.items() if operations}
    operations = dict.fromkeys(operation["name"] for rows in policies.values() for operation in rows)
    lines = [f"| operation | {' | '.join(policies)} |", f"|---|{'---|' * len(policies)}"]
    for operation in operations:
        cells = [
            next((format_options(dict(options)) for options in rows if options["name"] == operation), "")
            for rows in policies.values()
        ]
        lines.append(f"| `{operation}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the page with an updated table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))
