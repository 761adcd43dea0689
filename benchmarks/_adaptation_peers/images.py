"""Write the images of a finished run, as its model receives them, for the peers: `images.py RUN OUT.npz`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

SPLITS = ("train", "val", "target_unlabelled", "target_test")


def main() -> None:
    """Write images `[n, size, size, 3]` (float32 in [0, 255]), labels `[n]` (-1 if unlabeled) and groups of each split.

    Raises:
        SystemExit: The split of the images differs from `split.csv`.
    """
    from kerastl import recipe as recipes
    from kerastl.runs import Run, read_csv
    from kerastl.workflows import load_datasets
    from kerastl.workflows.check_recipe import check_recipe

    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    recipe = check_recipe(recipes.find(str(run / "recipe.resolved.yaml")), ())
    with tempfile.TemporaryDirectory() as scratch:
        datasets = load_datasets(recipe, Run(Path(scratch)))
        written = [(row["path"], row["split"], row["domain"]) for row in read_csv(run / "split.csv")]
        if written != [(record.path, record.split, record.domain) for record in datasets.records]:
            raise SystemExit(
                f"{run}: The split of the images differs from split.csv. Use the unchanged data of the run."
            )
        arrays = {}
        for split in SPLITS:
            records = datasets.in_split(split)
            batches = list(datasets.dataset(records).batches(0))
            arrays[f"{split}_images"] = np.concatenate([images.numpy() for images, _ in batches])
            arrays[f"{split}_labels"] = np.concatenate([labels.numpy() for _, labels in batches])
            names = [record.group or record.path for record in records]
            arrays[f"{split}_groups"] = np.unique(names, return_inverse=True)[1]
    np.savez_compressed(out, classes=len(datasets.class_names), **arrays)


main()
