"""How long the commands that only ask take to answer.

    python benchmarks/startup.py [--quick]

Each command runs in a process of its own; the median of several runs is told, beside the time Python itself takes to
start. Aim: under half a second each. The last line is one JSON object of seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = (["--help"], ["ls"], ["check", "quickstart"], ["weights", "ls"], ["cache", "ls"])


def seconds_of(words: list[str], runs: int) -> float:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three runs instead of eleven")
    runs = 3 if parser.parse_args().quick else 11
    told = {"python": seconds_of([sys.executable, "-c", ""], runs)}
    for words in COMMANDS:
        told[" ".join(words)] = seconds_of([sys.executable, "-m", "kerastl", *words], runs)
    for name, seconds in told.items():
        print(f"{name:<20} {seconds:.3f} s")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
