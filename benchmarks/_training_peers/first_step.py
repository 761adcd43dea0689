"""Run Keras's script or `kerastl run`, leave after the first step of training, and print the seconds it took to get there.

python first_step.py keras TASK | python first_step.py kerastl run RECIPE --set ...
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def leave(*_: object, **__: object) -> None:
    """End the process; the first step has been taken."""
    print("\n" + json.dumps({"first_step_s": time.perf_counter() - STARTED}), flush=True)
    os._exit(0)


def main() -> None:
    """Put `leave` where both loops, Keras's and kerastl's, tell their callbacks of a step; then train."""
    import keras

    keras.callbacks.CallbackList.on_train_batch_end = leave
    which, *words = sys.argv[1:]
    if which == "keras":
        script = Path(__file__).with_name("with_keras.py")
        sys.argv = [str(script), *words]
        runpy.run_path(str(script), run_name="__main__")
    else:
        from kerastl.cli import main as kerastl

        kerastl(words)


main()
