"""One case of the adaptation benchmark: a task, a seed, `kerastl run --oracle`, and the peers on the same images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation_tasks import Sizes, Task, make_task
from peer_environments import Unavailable, last_line, python_of

HERE = Path(__file__).parent
SCRIPTS = HERE / "_adaptation_peers"
PEERS = ("skada", "pytorch_adapt")
SCRIPT_PATHS = (str(SCRIPTS), str(HERE / "_augmentation_peers"))
"""Folders with modules that the scripts of the peers import."""
RECIPE = """\
format: 1
seed: {seed}
data:
  reader: {source}
  split: {{val_fraction: 0.2, test_fraction: 0.1}}
  image_size_px: {size}
  batch_size: {batch}
backbone: {{name: small_cnn, weights: none}}
phases:{first}
  - {{name: adapt, domain: target, epochs: {adapt_epochs}, learning_rate: {rate}, trainable: all, batch_norm: statistics, keep: last}}
target:
  reader: {target}
  labels: none
  split: {{val_fraction: 0.0, test_fraction: 0.5}}
adaptation: {{methods: [{methods}]}}
export: {{formats: []}}
"""
FIRST = "\n  - {{name: source, epochs: {epochs}, learning_rate: 1e-3, trainable: all}}"


@dataclass(frozen=True)
class Plan:
    """The settings shared by all cases.

    Args:
        methods: Methods of kerastl, separated by commas.
        epochs: Epochs on the source. 0: methods start from random weights. Peers run `epochs + adapt_epochs`.
        adapt_epochs: Epochs of each method.
        batch_size: Images of each domain per step.
        sizes: Sizes of the tasks.
        peers: Names from `PEERS`.
    """

    methods: str
    epochs: int
    adapt_epochs: int
    batch_size: int
    sizes: Sizes
    peers: tuple[str, ...]


def format_recipe(task: Task, seed: int, plan: Plan) -> str:
    """Return the recipe of a case."""
    return RECIPE.format(
        seed=seed, source=task.source, target=task.target, size=task.size_px, methods=plan.methods,
        first=FIRST.format(epochs=plan.epochs) if plan.epochs else "", rate="3e-4" if plan.epochs else "1e-3",
        adapt_epochs=plan.adapt_epochs, batch=plan.batch_size,
    )  # fmt: skip


def run_case(name: str, seed: int, folder: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Run one task with one seed. Finished runs in `folder` are reused.

    Returns:
        By tool: `values` on the target by method and `chosen` without labels; for kerastl also `verdict`, `guards` and `outcome`.
        A peer that failed has only `missing`.

    Raises:
        SystemExit: kerastl failed, or the folder contains a run of another recipe.
    """
    task = make_task(name, folder / "images", plan.sizes, seed)
    recipe, out = folder / "recipe.yaml", folder / "run"
    text = format_recipe(task, seed, plan)
    if recipe.is_file() and recipe.read_text() != text:
        raise SystemExit(f"{folder} contains a run of another recipe. Use --keep with another folder.")
    recipe.write_text(text)
    if not (out / "finished.json").is_file():
        run_kerastl(recipe, out)
    results = {"kerastl": read_result(out, task.metric)}
    for peer in plan.peers if results["kerastl"]["values"] else ():
        results[peer] = run_peer(peer, folder, task, seed, plan)
    return results


def run_kerastl(recipe: Path, out: Path) -> None:
    """Run or resume a recipe."""
    resume = (out / "recipe.resolved.yaml").is_file()
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
    words = [sys.executable, "-m", "kerastl", "run", recipe, "--out", out, "--oracle"]
    done = subprocess.run([*words, "--resume"] if resume else words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{recipe}:\n{done.stderr[-2000:]}")


def read_result(out: Path, metric: str) -> dict[str, Any]:
    """Return the result of a finished run. `values` is empty if the target has no labels."""
    adaptation = json.loads((out / "adaptation.json").read_text())
    opened = adaptation["target_test"]
    return {
        "values": {name: scores[metric]["value"] for name, scores in (adaptation["oracle"] or {}).items()},
        "chosen": adaptation["chosen"],
        "verdict": adaptation["verdict"],
        "guards": [name for name, guard in adaptation["guards"].items() if guard["fired"]],
        "outcome": opened["difference"]["outcome"] if opened else None,
    }


def run_peer(peer: str, folder: Path, task: Task, seed: int, plan: Plan) -> dict[str, Any]:
    """Run a peer on the images of the finished run, in its own environment and process."""
    kept, images = folder / f"{peer}.json", folder / "images.npz"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text())
        return result
    settings = {
        "images": str(images), "seed": seed, "epochs": plan.epochs + plan.adapt_epochs,
        "source_epochs": plan.epochs, "batch_size": plan.batch_size, "metric": task.metric,
    }  # fmt: skip
    try:
        if not images.is_file():
            run_script(sys.executable, "images.py", str(folder / "run"), str(images))
        result = json.loads(run_script(python_of(peer), f"with_{peer}.py", json.dumps(settings)))
    except (Unavailable, OSError) as error:
        print(f"{peer}: {error}", file=sys.stderr, flush=True)
        return {"missing": str(error)}
    kept.write_text(json.dumps(result))
    return result


def run_script(python: str, script: str, *words: str) -> str:
    """Run a script of the peers and return the last line of its output.

    Raises:
        Unavailable: The script failed.
    """
    done = subprocess.run(
        [python, SCRIPTS / script, *words], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((*SCRIPT_PATHS, os.environ.get("PYTHONPATH", "")))},
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{script} ended with {done.returncode}: {last_line(done.stderr)}")
    return last_line(done.stdout)
