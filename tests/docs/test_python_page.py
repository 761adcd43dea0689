"""The code and the reference table of docs/python.md."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
SMALLER = {
    'build_classifier("mobilenet_v2"': 'build_classifier("small_cnn", weights="none"',
    'Phase("head", epochs=1, learning_rate=1e-3': 'Phase("head", epochs=1, trainable="all"',
    "160": "32",
    'sets=["seed=7"]': 'sets=["backbone={name: small_cnn, weights: none}", "data.image_size_px=32", '
    '"phases=[{name: all, epochs: 1, trainable: all}]"]',
}


def reference_calls():
    """Yield (package, name, argument names) of each call in the reference table."""
    package = ""
    for line in PAGE.split("## Reference")[1].splitlines():
        if heading := re.match(r"\| \*\*([\w.]+)\*\*", line):
            package = heading[1]
        elif line.startswith("| `"):
            for name, arguments in re.findall(r"`(\w+)(?:\(([^)]*)\))?`", line.split("|")[1]):
                yield package, name, re.findall(r"\w+", arguments)


@pytest.mark.parametrize(("package", "name", "arguments"), list(reference_calls()))
def test_each_function_of_the_reference_has_the_listed_arguments(package, name, arguments):
    function = getattr(importlib.import_module(package), name)
    assert set(arguments) <= set(inspect.signature(function).parameters)


def write_images(folder, brightest, count=20):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(brightest)
    for number in range(count):
        pixels = generator.integers(0, brightest, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.slow
def test_the_code_of_the_page_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, brightest in (
        ("photos/cat", 60), ("photos/dog", 200), ("hospital_a/benign", 60), ("hospital_a/malignant", 200),
        ("hospital_b", 150),
    ):  # fmt: skip
        write_images(tmp_path / folder, brightest)
    page = re.sub(r"epochs=\d+", "epochs=1", PAGE).replace("range(3)", "range(1)")
    for text, replacement in SMALLER.items():
        assert text in page
        page = page.replace(text, replacement)
    script = tmp_path / "page.py"  # AutoGraph needs the source code in a file
    script.write_text("".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    names = runpy.run_path(str(script))
    assert names["scores"]["test"]["overall"]["auc"]["value"] == 1.0
    assert names["version"].parts[-2:] == ("served", "1")
    assert (tmp_path / "served" / "2" / "saved_model.pb").is_file()
    assert names["probabilities"].shape == (12, 2)
    assert names["restored"].output_shape == (None, 2)
    assert np.isfinite(names["loss"])
