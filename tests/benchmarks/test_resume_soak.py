"""Runs that are killed at random moments from the first second on, and resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "resume_soak.py"


@pytest.mark.slow
def test_runs_killed_at_random_moments_resume_to_the_same_bytes(tmp_path):
    words = ("--stops", "3", "--recipes", "short", "--ways", "start;any moment", "--out", tmp_path)
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["unequal"] == []
    assert result["stops"]["start"] + result["stops"].get("any moment", 0) >= 3
