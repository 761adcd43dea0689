"""How much adapting without labels gains, by method, by the choice among them, and by a choice that knew the labels.

    python benchmarks/adaptation.py [--tasks "a to b,a to c"] [--methods adabn,coral] [--seeds 5] [--quick] [--mnist mnist.npz]
                                    [--peers skada,pytorch_adapt] [--keep DIR] [--hurts]

Each task and seed is one `kerastl run --oracle` of a recipe that is printed with `--recipe`: a small network from random weights
learns at the source, each method goes on from it with unlabelled images of the target, one is chosen without labels, and then all are
judged on the target's test images. Phantom hospitals are told by the AUC of patients, digits by balanced accuracy.

- `a to b`: another scanner. `a to c`: the same scanner, another prevalence. `a to a`: nothing differs.
- `mnist to digits`, `digits to mnist`: MNIST and the 1,797 digits of scikit-learn (Alpaydin & Kaynak 1998), other images with each
  seed; for these name MNIST's file as Keras keeps it, `--mnist ~/.keras/datasets/mnist.npz`. The digits of scikit-learn fill their
  frame and MNIST's have a margin of 4 pixels: MNIST is cropped to its middle 20 x 20 before both are resized to 32 x 32, so that
  size is not what differs, as between MNIST and USPS.

Peers run on the very images of each finished run, in its splits, size and range of values, with the same network in PyTorch, as many
epochs as ours have at source and target together, and batches of the same size; what each does beside is told in
`_adaptation_peers/`. A peer that cannot be installed or fails is reported, not replaced.

`--hurts` runs instead tasks in which adapting has nothing to win, made of scikit-learn's digits: another prevalence, the same
population, and a class that the source lacks; told is how often the run keeps the model that was not adapted.

`--keep` keeps every run, and what is finished there is not run again. Told are medians over seeds, least and greatest in brackets;
`gap closed` is the part of the gap between source only and the best method that the choice closes, where there is a gap of a point at
least. The last line is one JSON object.
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
    """Run a task with every seed; return by seed what each tool answered."""
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
    """Return the answers of each tool that gave one in every case."""
    answers = {tool: [case[tool] for case in cases if tool in case] for tool in cases[0]}
    return {
        tool: results
        for tool, results in answers.items()
        if len(results) == len(cases) and all(result.get("values") for result in results)
    }


def format_seeds(cases: Sequence[Case]) -> str:
    """Return how many seeds there are, in words."""
    return f"{len(cases)} seed" + ("" if len(cases) == 1 else "s")


def run_comparison(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Run all tasks; print and return what they came to."""
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
        f"({ours['worse'] / ours['cases']:.0%}); the best single method, {best} in all, {part}"
    )
    for tool, reason in totals["missing"].items():
        print(f"{tool}: not run: {reason}")
    return totals


def run_unneeded_adaptation(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """Run the tasks in which adapting has nothing to win; print and return how often the source's model is kept."""
    totals: dict[str, Any] = {}
    print("\n| task | kept | verdicts | chosen | guards | outcomes by labels |\n|---|---|---|---|---|---|")
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
    parser.add_argument("--methods", help=f"ours; {METHODS}")
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)}; none")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mnist", type=Path, help="MNIST, as Keras keeps it (.npz)")
    parser.add_argument("--images", type=int, default=1000, help="of each domain of digits")
    parser.add_argument("--patients", default="120,100", help="of the source and of the target")
    parser.add_argument("--epochs", type=int, default=20, help="at the source; 0: random weights")
    parser.add_argument("--adapt-epochs", type=int, default=5, help="of each method after it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all runs, go on with them")
    parser.add_argument("--hurts", action="store_true", help="instead: where adapting cannot help")
    parser.add_argument("--recipe", action="store_true", help="print each recipe")
    parser.add_argument("--quick", action="store_true", help="one seed, few images and epochs")
    arguments = parser.parse_args()
    peers = tuple(filter(None, arguments.peers.split(",")))
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; of {', '.join(PEERS)}")
    try:
        first, second = (int(count) for count in arguments.patients.split(","))
    except ValueError:
        parser.error(f"--patients: two whole numbers, as 120,100; got {arguments.patients}")
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
