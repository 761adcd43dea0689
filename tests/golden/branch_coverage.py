"""Compare the branch coverage of each package with `branch_coverage.txt`: `python tests/golden/branch_coverage.py [--write]`.

Runs the default and the slow tests under pytest-cov, including the commands that they start, which takes about twice as long
as without. The exit code is 1 if the coverage of a package is more than half a point lower than in the file. `--report FILE` reads
a JSON report of coverage.py instead of running the tests.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import golden_files

ROOT = Path(__file__).parents[2]
FILE = golden_files.FOLDER / "branch_coverage.txt"
TOLERANCE = 0.5
"""Percentage points. Some branches depend on the order of tests."""
SETTINGS = """
[run]
branch = True
source_pkgs = kerastl
parallel = True
patch = subprocess
data_file = {folder}/.coverage
disable_warnings = no-data-collected, module-not-imported, module-not-measured, already-imported, couldnt-parse
"""


def measure(folder: Path) -> Any:
    """Run all tests, and return the JSON report of coverage.py."""
    settings, report = folder / "coverage.ini", folder / "report.json"
    settings.write_text(SETTINGS.format(folder=folder))
    words = ["--cov=kerastl", "--cov-branch", f"--cov-config={settings}", f"--cov-report=json:{report}"]
    lanes = "not gpu and not docker"
    # On a full disk, coverage.py cannot write its own file, and prints a traceback that the tests of a full disk reject.
    selected = ["-m", lanes, "-k", "not full_disk"]
    subprocess.run([sys.executable, "-m", "pytest", "-q", *selected, *words], cwd=ROOT, check=True)
    return json.loads(report.read_text())


def package_of(path: str) -> str:
    """Return the package of a file of kerastl. Files next to the packages are in `kerastl`."""
    *_, after = path.rpartition("kerastl/")
    return after.split("/")[0] if "/" in after else "kerastl"


def percent_by_package(files: dict[str, Any]) -> dict[str, float]:
    """Return the covered branches of each package, in percent."""
    covered: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for path, report in files.items():
        covered[package_of(path)] += report["summary"]["covered_branches"]
        total[package_of(path)] += report["summary"]["num_branches"]
    return {package: round(100 * covered[package] / total[package], 1) for package in sorted(total)}


def read_golden(lines: Iterable[str]) -> dict[str, float]:
    """Return the percentages of the file by package."""
    return {package: float(percent) for package, percent in map(str.split, lines)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, help="JSON report of coverage.py")
    parser.add_argument("--write", action="store_true", help="replace the golden file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = json.loads(arguments.report.read_text()) if arguments.report else measure(Path(folder))
    now = percent_by_package(report["files"])
    if arguments.write:
        golden_files.write_lines(FILE, (f"{package} {percent}" for package, percent in now.items()))
        return 0
    golden = read_golden(golden_files.read_lines(FILE))
    for package in sorted(golden | now):
        print(f"{package:12} {golden.get(package, 0):6.1f} {now.get(package, 0):6.1f}")
    lower = [package for package in golden if now.get(package, 100) < golden[package] - TOLERANCE]
    if lower:
        print(f"Lower than in {FILE.name}: {', '.join(lower)}.", file=sys.stderr)
    return 1 if lower else 0


if __name__ == "__main__":
    sys.exit(main())
