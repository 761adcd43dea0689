"""Gain of unsupervised domain adaptation: per method, for the method selected without labels, and for the best method.

    python benchmarks/adaptation.py [--tasks "a to b,a to c"] [--methods adabn,coral] [--seeds 5] [--quick] [--mnist mnist.npz]
                                    [--peers skada,pytorch_adapt] [--keep DIR] [--hurts]

Each task and seed is one `kerastl run --oracle`; `--recipe` prints its recipe. A small network is trained on the source from
random weights, each method continues from it with unlabeled target images, one method is selected without labels, and all
are evaluated on the target test images. The metric is the AUC by patient for phantom hospitals, and the balanced accuracy for digits.

- `a to b`: another scanner. `a to c`: the same scanner, another prevalence. `a to a`: no difference.
- `mnist to digits`, `digits to mnist`: MNIST and the 1,797 digits of scikit-learn (Alpaydin & Kaynak 1998), with different
  images for each seed. These tasks need MNIST in the format of Keras, `--mnist ~/.keras/datasets/mnist.npz`. The digits of
  scikit-learn fill the image and those of MNIST have a margin of 4 pixels. MNIST is cropped to its central 20 x 20 pixels before
  both are resized to 32 x 32, so that the domains do not differ in size.

Peers use the images of each finished run with its splits, size and range of values, the same network in PyTorch, as many
epochs as source training and adaptation together, and the same batch size. `_adaptation_peers/` documents the other
differences. A peer that cannot be installed or fails is reported.

`--hurts` runs tasks without any gain from adaptation, made of scikit-learn's digits: another prevalence, the same population, and
a class missing from the source. It reports how often the run keeps the source model.

`--keep` keeps all runs and continues from those that are finished. The tables show medians over seeds, with minimum and maximum in
parentheses. `gap closed` is the fraction of the gap between source only and the best method that the selected method closes, if
the gap is at least 0.01. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from adaptation_figures import SOURCE_ONLY, best_single, choices_table, methods_table, summarize
from adaptation_runs import PEERS, Plan, run_case
from adaptation_tasks import UNNEEDED, Sizes

METHODS = "adabn,coral,mmd,jan,dann,cdan,mcc,mdd,pseudo_labels,tent,shot"
UNNEEDED_METHODS = "adabn,coral,dann,mcc,shot"
Case = dict[str, dict[str, Any]]


def run_cases(name: str, arguments: argparse.Namespace, plan: Plan) -> list[Case]:
    """Run a task with every seed. Return the results of each tool by seed."""
    root_context = nullcontext(arguments.keep) if arguments.keep else tempfile.TemporaryDirectory()
    cases = []
    with root_context as root:
        for seed in range(1, 2 if arguments.quick else arguments.seeds + 1):
            folder = Path(root).absolute() / name.replace(" ", "_") / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            cases.append(run_case(name, seed, folder, plan))
            if arguments.recipe:
                print((folder / "recipe.yaml").read_text())
    return cases


def group_by_tool(cases: Sequence[Case]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of each tool that has values in every case."""
    answers = {tool: [case[tool] for case in cases if tool in case] for tool in cases[0]}
    return {
        tool: results
        for tool, results in answers.items()
        if len(results) == len(cases) and all(result.get("values") for result in results)
    }


def format_seeds(cases: Sequence[Case]) -> str:
    """Return the number of seeds as text."""
    return f"{len(cases)} seed" + ("" if len(cases) == 1 else "s")


def run_comparison(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Run all tasks. Print and return the summaries."""
    totals: dict[str, Any] = {"tasks": {}, "missing": {}}
    every: list[Case] = []
    for name in arguments.tasks.split(","):
        cases = run_cases(name, arguments, plan)
        every += cases
        tools = group_by_tool(cases)
        print("\n" + "\n".join(methods_table(f"{name}, {format_seeds(cases)}", tools)))
        print("\n" + "\n".join(choices_table(name, tools)))
        summaries = {tool: summarize(answers) for tool, answers in tools.items()}
        ours = summaries["kerastl"]
        print(f"\nkerastl: verdicts {ours['verdicts']}; guards {ours['guards']}", flush=True)
        totals["tasks"][name] = summaries
    for case in every:
        totals["missing"] |= {tool: result["missing"] for tool, result in case.items() if "missing" in result}
    tools = group_by_tool(every)
    totals["all"] = {tool: summarize(answers) for tool, answers in tools.items()}
    print("\n" + "\n".join(choices_table("all tasks", tools)))
    best, closed = best_single(tools["kerastl"])
    totals["best_single"] = {"method": best, "closed": closed}
    ours = totals["all"]["kerastl"]
    part = "no gap" if closed is None else f"closes {closed:.2f} of the gap"
    print(
        f"\nkerastl: worse than source only beyond its interval in {ours['worse']} of {ours['cases']} cases "
        f"({ours['worse'] / ours['cases']:.0%}); the best single method for all cases, {best}: {part}"
    )
    for tool, reason in totals["missing"].items():
        print(f"{tool}: not run: {reason}")
    return totals


def run_unneeded_adaptation(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Run the tasks without any gain from adaptation. Print and return how often the source model is kept."""
    totals: dict[str, Any] = {}
    print(
        "\n| task | source model kept | verdicts | selected | guards | outcomes by labels |\n|---|---|---|---|---|---|"
    )
    for name in UNNEEDED:
        answers = [case["kerastl"] for case in run_cases(name, arguments, plan)]
        kept = [answer["verdict"] != "adapt" or answer["chosen"] == SOURCE_ONLY for answer in answers]
        columns = {
            key: [answer[key] or "no labels" for answer in answers]
            for key in ("verdict", "chosen", "outcome")
        }
        guards = [" + ".join(answer["guards"]) or "none" for answer in answers]
        totals[name] = {"kept": sum(kept), "cases": len(kept), **columns, "guards": guards}
        cells = (columns["verdict"], columns["chosen"], guards, columns["outcome"])
        print(
            f"| {name} | {sum(kept)} of {len(kept)} | " + " | ".join(map(", ".join, cells)) + " |", flush=True
        )
    return totals


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="a to b,a to c,a to a")
    parser.add_argument("--methods", help=f"methods of kerastl (default: {METHODS})")
    parser.add_argument("--peers", default="", help=f"any of {', '.join(PEERS)} (default: none)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mnist", type=Path, help="MNIST in the format of Keras (.npz)")
    parser.add_argument("--images", type=int, default=1000, help="images per domain of digits")
    parser.add_argument("--patients", default="120,100", help="number of patients of source and target")
    parser.add_argument("--epochs", type=int, default=20, help="epochs on the source; 0: random weights")
    parser.add_argument("--adapt-epochs", type=int, default=5, help="epochs of each method")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all runs, and continue from them")
    parser.add_argument("--hurts", action="store_true", help="run the tasks without any gain from adaptation")
    parser.add_argument("--recipe", action="store_true", help="print each recipe")
    parser.add_argument("--quick", action="store_true", help="one seed, few images and epochs")
    arguments = parser.parse_args()
    peers = tuple(filter(None, arguments.peers.split(",")))
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peer: {', '.join(sorted(unknown))}. Allowed: {', '.join(PEERS)}")
    try:
        first, second = (int(count) for count in arguments.patients.split(","))
    except ValueError:
        parser.error(f"--patients must be two integers such as 120,100. Got: {arguments.patients}")
    patients = first, second
    quick = arguments.quick
    plan = Plan(
        methods=arguments.methods or (UNNEEDED_METHODS if arguments.hurts else METHODS),
        epochs=3 if quick else arguments.epochs,
        adapt_epochs=1 if quick else arguments.adapt_epochs,
        batch_size=32,
        sizes=Sizes(300 if quick else arguments.images, (40, 20) if quick else patients, arguments.mnist),
        peers=peers,
    )
    print(
        json.dumps(
            run_unneeded_adaptation(arguments, plan) if arguments.hurts else run_comparison(arguments, plan)
        )
    )


if __name__ == "__main__":
    main()
