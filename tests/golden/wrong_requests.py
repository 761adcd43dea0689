"""Requests that must be refused before anything is loaded: recipes with mistakes, and wrong command lines."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from command_line import call, normalized

RECIPE = """\
format: 1
seed: 7
data:
  reader: {name: folder, path: images}
  split: {val_fraction: 0.2, test_fraction: 0.2}
  image_size_px: 32
  batch_size: 8
augment:
  - {name: random_rotation, max_deg: 10}
backbone: {name: small_cnn, weights: none}
phases:
  - {name: all, epochs: 2, learning_rate: 1e-3, trainable: all}
export: {formats: [saved_model]}
"""

REPLACED: dict[str, tuple[str, str]] = {
    "unknown key": ("seed: 7", "sede: 7"),
    "misspelled key in a block": ("image_size_px: 32", "image_size: 32"),
    "no format": ("format: 1\n", ""),
    "format of the future": ("format: 1", "format: 2"),
    "no reader": ("  reader: {name: folder, path: images}\n", ""),
    "text for a number": ("batch_size: 8", "batch_size: many"),
    "boolean for a number": ("seed: 7", "seed: true"),
    "number out of range": ("image_size_px: 32", "image_size_px: 8"),
    "list for a mapping": ("split: {val_fraction: 0.2, test_fraction: 0.2}", "split: [0.2, 0.2]"),
    "no phases": ("  - {name: all, epochs: 2, learning_rate: 1e-3, trainable: all}\n", "  []\n"),
    "duplicate key": ("seed: 7\n", "seed: 7\nseed: 8\n"),
    "tab": ("data:\n  reader", "data:\n\treader"),
    "open quote": ("seed: 7", "seed: '7"),
    "tag": ("seed: 7", "seed: !!python/name:os.system 7"),
    "unknown backbone": ("small_cnn", "smal_cnn"),
    "unknown reader": ("name: folder", "name: zip"),
    "unknown option of a reader": ("path: images}", "path: images, recursive: true}"),
    "unknown operation": ("random_rotation", "rotation"),
    "unknown option of an operation": ("max_deg: 10", "max_deg: 10, fill: reflect"),
    "missing option of an operation": (", max_deg: 10", ""),
    "option out of range": ("max_deg: 10", "max_deg: 181"),
    "frozen random weights": ("trainable: all", "trainable: none"),
    "fraction of nothing": ("trainable: all", "trainable: {top_fraction: 0}"),
    "target phase without a target": ("trainable: all", "trainable: all, domain: target"),
    "adaptation without a target": ("export: {formats: [saved_model]}", "adaptation: {methods: [adabn]}"),
    "unknown method and validator": (
        "export: {formats: [saved_model]}",
        "target: {reader: {name: folder, path: images}, labels: none}\n"
        "adaptation: {methods: [ada_bn], select_by: [entropi]}",
    ),
    "unknown format of an export": ("[saved_model]", "[save_model]"),
    "source model that does not exist": ("export: ", "source: {model: gone}\nexport: "),
    "several at once": (
        "batch_size: 8\naugment:\n  - {name: random_rotation, max_deg: 10}",
        "batch_size: 0\n  colour: true\naugment:\n  - {name: random_flip, direction: up}",
    ),
}
"""By name: the text of `RECIPE` to replace, and the mistake in its place."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "unknown recipe": ("check", "folder-clasifier"),
    "missing recipe file": ("check", "./gone.yaml"),
    "set without a value": ("check", "good.yaml", "--set", "seed"),
    "set of an unknown key": ("check", "good.yaml", "--set", "data.batchsize=8"),
    "set of a phase that does not exist": ("check", "good.yaml", "--set", "phases[3].epochs=1"),
    "set of a wrong type": ("check", "good.yaml", "--set", "phases[0].epochs=two"),
    "check as JSON": ("check", "good.yaml", "--json", "--set", "data.batch_size=0"),
    "run of a recipe with a mistake": ("run", "good.yaml", "--set", "head.dropout=1"),
    "unknown command": ("trane", "good.yaml"),
    "unknown option": ("run", "good.yaml", "--outt", "x"),
    "missing argument": ("run",),
    "show an unknown recipe": ("show", "quickstrat"),
    "cp onto a file": ("cp", "quickstart", "good.yaml"),
    "predict without images": ("predict", "gone"),
    "predict with a missing run": ("predict", "gone", "images"),
    "report of a missing run": ("report", "gone"),
    "export of a missing run": ("export", "gone"),
    "verify a missing export": ("verify", "gone"),
    "phantom of an unknown hospital": ("data", "phantom", "x", "--hospital", "z"),
    "phantom of a size out of range": (
        "data", "phantom", "x", "--hospital", "a", "--image-size-px", "8",
    ),
    "label curve without a target": ("adapt-curve", "good.yaml"),
    "weights of an unknown backbone": ("weights", "fetch", "resnet51"),
}  # fmt: skip


def write_files(folder: Path) -> None:
    """Write the files that the requests name into a folder."""
    for label, number in product("ab", range(8)):
        image = folder / "images" / label / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(f"\x89PNG\r\n\x1a\n{label}{number}".encode("latin-1"))
    (folder / "good.yaml").write_text(RECIPE)
    for number, (old, new) in enumerate(REPLACED.values(), 1):
        assert old in RECIPE, old
        (folder / f"mistake-{number}.yaml").write_text(RECIPE.replace(old, new))


def answers(folder: Path) -> dict[str, str]:
    """Return the exit code and the texts of each request, by its name."""
    requests = {name: ("check", f"mistake-{number}.yaml") for number, name in enumerate(REPLACED, 1)}
    return {name: _answer(words, folder) for name, words in {**requests, **COMMANDS}.items()}


def _answer(words: tuple[str, ...], folder: Path) -> str:
    answer = call(*words, folder=folder)
    lines = [f"$ kerastl {' '.join(words)}", f"exit code {answer.code}"]
    return "\n".join([*lines, normalized(answer.out + answer.err, folder)])
