"""Every operation can be had where a run has made all operations deterministic."""

import subprocess
import sys

SCRIPT = """
from kerastl import registry
from kerastl.augment.operation import BuiltOperation
from kerastl.workflows.run_writer import set_determinism

set_determinism(7)
for name in registry.names("operation"):
    options = registry.module("operation", name).at_strength(1.0)
    BuiltOperation(0, name, options, 32)
    print(name)
"""


def test_operations_can_be_built_with_op_determinism():
    from kerastl import registry

    # In a new process, because other tests may have changed the state of TensorFlow.
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.split() == list(registry.names("operation")), done.stderr[-2000:]
