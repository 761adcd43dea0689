"""Run the Keras script or `kerastl run`, exit after the first training step, and print the seconds until then.

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
    """Print the elapsed seconds and exit."""
    print("\n" + json.dumps({"first_step_s": time.perf_counter() - STARTED}), flush=True)
    os._exit(0)


def main() -> None:
    """Replace the callback that both training loops call after a step with `leave`, then train."""
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
