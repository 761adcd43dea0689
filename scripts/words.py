"""Refuse words that mean nothing to a reader of this repository: promises, and places on somebody's machine.

Usage: python scripts/words.py
"""

import re
import subprocess
import sys
from pathlib import Path

UNWANTED = re.compile(
    r"comes? later|\bTODO\b|\bFIXME\b|\bXXX\b|NotImplementedError|type: ignore|pragma: no cover"
    r"|\.\./shared|shared/assets|\bFACTS\b|\bDESIGN\b|\bDECISIONS\b|HOUSE_STYLE|\bissue #?\d+|/work/|/root/|/tmp/"
    r"|\b[Tt]he article\b"
)
LEFT_OUT = ("tests/", ".ci/", "scripts/words.py", "LICENSE")


def main() -> int:
    """Print each finding as file:line and return 1 if there is any."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    found = 0
    for name in listed.split("\n"):
        path = Path(name)
        if not path.is_file() or name.startswith(LEFT_OUT):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if match := UNWANTED.search(line):
                print(f"{name}:{number}: '{match.group()}'")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
