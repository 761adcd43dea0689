"""Requests that are refused before TensorFlow is imported."""

import subprocess
import sys

REQUESTS = """
report gone
export gone
predict gone photos
lr gone
run gone
adapt-curve gone
augment preview gone
run folder-classifier --data gone
lr folder-classifier --data gone
lr folder-classifier --data photos --phase gone
augment audit folder-classifier --data photos --operations gone
adapt-curve folder-classifier --data photos
weights verify gone
weights fetch gone
"""
SCRIPT = """
import sys
from kerastl.cli import main
for request in sys.stdin.read().strip().splitlines():
    try:
        main(request.split())
    except SystemExit as left:
        print(request, left.code, "tensorflow" in sys.modules, sep=": ")
"""


def test_wrong_requests_are_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "photos").mkdir()
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, input=REQUESTS, cwd=tmp_path, capture_output=True, text=True, check=True)
    requests = REQUESTS.strip().splitlines()
    assert done.stdout.splitlines() == [f"{request}: 1: False" for request in requests]
    assert done.stderr.count("Error: ") == len(requests)
