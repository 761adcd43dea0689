"""Compare the branch coverage of each package with `branch_coverage.json`.

    coverage run --branch --source=kerastl -m pytest -n 0
    coverage json -o coverage.json
    python tests/golden/branch_coverage.py coverage.json

Exit code 1: a package is below the golden file. A package is a folder of `kerastl`; modules outside of a folder count together as `kerastl`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

GOLDEN = Path(__file__).parent / "branch_coverage.json"


def by_package(files: Iterable[tuple[str, int, int]]) -> dict[str, list[int]]:
    """Return covered and all branches of each package.

    Args:
        files: path, covered branches and all branches of each file; the path contains `kerastl/`.
    """
    packages: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, covered, branches in files:
        inside = path[path.rindex("kerastl/") :].split("/")[1:]
        total = packages[inside[0] if len(inside) > 1 else "kerastl"]
        total[0] += covered
        total[1] += branches
    return {name: packages[name] for name in sorted(packages)}


def measured(file: Path) -> dict[str, list[int]]:
    """Return covered and all branches of each package from the output of `coverage json`."""
    files = json.loads(file.read_text())["files"]
    return by_package(
        (path, one["summary"]["covered_branches"], one["summary"]["num_branches"])
        for path, one in files.items()
    )


def main() -> None:
    """Print a line for each package, and exit with 1 if one is below the golden file."""
    found, below = measured(Path(sys.argv[1])), False
    for name, (covered, branches) in json.loads(GOLDEN.read_text()).items():
        golden = covered / max(branches, 1)
        now = found[name][0] / max(found[name][1], 1) if name in found else 0.0
        below |= now < golden
        print(f"{'BELOW ' if now < golden else ''}{name}: {now:.1%}, golden {golden:.1%}")
    sys.exit(below)


if __name__ == "__main__":
    main()
