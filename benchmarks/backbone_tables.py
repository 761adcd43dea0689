"""Build every backbone and print its build time, parameters, output shape and blocks.

    python benchmarks/backbone_tables.py [--quick]

`--quick` skips networks of more than 50 million parameters. The exit code is 1 if a backbone cannot be built, or if its number of
parameters differs from its table.
"""

import argparse
import gc
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

QUICK_PARAMETERS = 50_000_000


def main() -> int:
    import keras

    from kerastl.models import build_backbone, get_blocks, list_backbones

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only networks of up to 50 million parameters")
    quick = parser.parse_args().quick
    seconds, faults = {}, []
    print(f"{'name':<22}{'input px':>9}{'output':>16}{'parameters':>13}{'blocks':>8}{'s':>7}")
    for name, backbone in list_backbones().items():
        if quick and backbone.parameters > QUICK_PARAMETERS:
            continue
        started = time.perf_counter()
        try:
            model = build_backbone(name, weights="none")
            blocks = len(get_blocks(model))
        except Exception as error:
            faults.append(name)
            print(f"{name:<22}failed: {error}")
            continue
        seconds[name] = round(time.perf_counter() - started, 2)
        shape = "x".join(str(side) for side in model.output.shape[1:])
        count = model.count_params()
        wrong = "" if count == backbone.parameters else f"  table says {backbone.parameters:,}"
        faults += [name] if wrong else []
        print(
            f"{name:<22}{backbone.image_size_px:>9}{shape:>16}{count:>13,}{blocks:>8}"
            f"{seconds[name]:>7.1f}{wrong}",
            flush=True,
        )
        del model
        keras.backend.clear_session()
        gc.collect()
    print(json.dumps({"built": len(seconds), "faults": faults, "seconds": seconds}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
