"""Importing TensorFlow does not pay for garbage collections, and leaves the garbage of a user's program collectable."""

import subprocess
import sys
import textwrap

import pytest

TENSORFLOW = """
import gc

assert not gc.isenabled(), "collections run during the import"
objects = [[] for _ in range(10_000)]


class config:
    list_physical_devices = staticmethod(lambda: [])


class Logger:
    addFilter = staticmethod(lambda function: None)


get_logger = Logger
"""
PROGRAM = """
import gc
import weakref

from kerastl.console import load_tensorflow


class Cycle:
    def __init__(self):
        self.itself = self


cycle = Cycle()
reference = weakref.ref(cycle)
{load}
del cycle
gc.collect()
print(gc.isenabled(), gc.get_freeze_count() >= 10_000, reference() is None)
"""


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("load_tensorflow()", "True True False"),
        ("load_tensorflow(freeze=False)", "True False True"),
        ("gc.disable(); load_tensorflow(freeze=False)", "False False True"),
        ("gc.freeze(); load_tensorflow(freeze=False)", "True True False"),
    ],
    ids=["command", "program", "disabled-by-the-program", "frozen-by-the-program"],
)
def test_garbage_collection_after_the_import(tmp_path, load, expected):
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    (tmp_path / "keras.py").write_text("")
    program = textwrap.dedent(PROGRAM).format(load=load)
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}", "TF_CPP_MIN_LOG_LEVEL": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == expected, result.stderr
