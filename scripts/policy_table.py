"""Write the tables of the named policies into docs/augmentation.md, so that they cannot drift.

`python scripts/policy_table.py` writes them; a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerastl.augment.presets import POLICIES

DOCS = Path(__file__).parent.parent / "docs" / "augmentation.md"
BEGIN, END = "<!-- policies: begin -->\n", "<!-- policies: end -->\n"


def told(operation: dict[str, Any]) -> str:
    """Return the options of an operation as a recipe has them: `max_deg: 5`."""
    return ", ".join(f"{key}: {value}" for key, value in operation.items() if key != "name")


def table() -> str:
    """Return a row an operation, a column a policy."""
    policies = {name: operations for name, operations in POLICIES.items() if operations}
    operations = dict.fromkeys(one["name"] for rows in policies.values() for one in rows)
    lines = [f"| operation | {' | '.join(policies)} |", f"|---|{'---|' * len(policies)}"]
    for operation in operations:
        cells = [
            next((told(dict(one)) for one in rows if one["name"] == operation), "")
            for rows in policies.values()
        ]
        lines.append(f"| `{operation}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))
