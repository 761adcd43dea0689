"""The key `source`: a trained model instead of images, the settings taken from it, and the keys it excludes."""

import subprocess
import sys
from pathlib import Path

import pytest
from example_plug_ins import GOOD, Alpha
from inline_snapshot import snapshot

from kerastl.errors import Problems, RequestError
from kerastl.recipe import Backbone, Head, Recipe, Window, check, summary, write

pytestmark = pytest.mark.usefixtures("made_up_plug_ins")

FREE = """\
format: 1
source: {model: from_a}
phases:
  - {name: b, domain: target, epochs: 2, learning_rate: 1e-3, trainable: all, batch_norm: statistics, keep: last}
target: {reader: {name: phantom}, labels: none}
adaptation: {methods: [adabn]}
"""


class Models:
    """One model, in the folder that the recipe names and the number 2 in it."""

    def source_model_settings(self, path):
        if path.name not in ("from_a", "2"):
            raise RequestError(f"Run folder not found: {path}.")
        folder = path if path.name == "2" else path / "2"
        return {
            "source": {"model": str(folder)},
            "backbone": {"name": "mobilenet_v2", "alpha": 0.35, "weights": str(folder)},
            "head": {"dropout": 0.1},
            "data": {"image_size_px": 96, "window": {"center": 1000.1, "width": 333.3}},
        }

    def works_without_source(self, kind: str, name: str) -> bool:
        return (kind, name) in {
            ("adaptation", "adabn"), ("adaptation", "source_only"),
            ("validator", "information_maximization"), ("validator", "class_ami"),
        }  # fmt: skip


def checked(text: str, *sets: str) -> Recipe:
    return check(text, name="free.yaml", models=Models(), sets=sets)


def problems_of(*sets: str, text: str = FREE) -> list[str]:
    with pytest.raises(Problems) as caught:
        checked(text, "adaptation.select_by=[class_ami]", *sets)
    return [str(problem) for problem in caught.value.problems]


def test_settings_of_the_model_are_written_out_and_the_recipe_repeats_the_run():
    recipe = checked(FREE, "adaptation.select_by=[class_ami]")
    folder = Path("from_a/2").absolute()
    assert recipe.source.model == folder
    assert recipe.backbone == Backbone("mobilenet_v2", folder, Alpha(0.35))
    assert recipe.head == Head(0.1)
    assert recipe.data.image_size_px == 96
    assert recipe.data.window == Window(1000.1, 333.3)
    assert recipe.data.reader is None
    assert checked(write(recipe)) == recipe
    assert "is adapted without source images" in summary(recipe)


def test_a_rounded_window_equals_the_window_of_the_model():
    low, high = 1000.1 - 333.3 / 2, 1000.1 + 333.3 / 2
    again = f"data.window={{center: {(low + high) / 2!r}, width: {high - low!r}}}"
    assert checked(FREE, again, "adaptation.select_by=[class_ami]").data.window.center == pytest.approx(
        1000.1
    )


CHANGES = (
    "data.reader=phantom",
    "data.split.val_fraction=0.2",
    "data.image_size_px=64",
    "data.window=full",
    "data.window=auto",
    "head.dropout=0.5",
    "backbone=small_cnn",
    "backbone={name: mobilenet_v2, alpha: 0.35}",
    "augment.mixing=[cut_mix]",
    "phases[0].class_weights=balanced",
    "phases[0].domain=source",
    "adaptation.methods=[coral, adabn]",
    "adaptation.select_by=[snd]",
    "adaptation=null",
    "source.model=elsewhere",
    "source.model=null",
)


def test_settings_that_contradict_the_model_are_reported(monkeypatch):
    monkeypatch.setattr(Path, "absolute", lambda path: Path("/here") / path)
    assert {change: problems_of(change) for change in CHANGES} == snapshot(
        {
            "data.reader=phantom": [
                "--set data.reader: reads source images and cannot be combined with source.model. Remove one of the two."
            ],
            "data.split.val_fraction=0.2": [
                "--set data.split: splits the images of data.reader, but there are none. Remove it. target.split splits the target images."
            ],
            "data.image_size_px=64": [
                "--set data.image_size_px: is defined by source.model, which has a different value. Remove it."
            ],
            "data.window=full": [
                "--set data.window: is defined by source.model, which has a different value. Remove it."
            ],
            "data.window=auto": [
                "--set data.window: is defined by source.model, which has a different value. Remove it."
            ],
            "head.dropout=0.5": [
                "--set head: is defined by source.model, which has a different value. Remove it."
            ],
            "backbone=small_cnn": [
                "--set backbone: is defined by source.model, which has a different value. Remove it."
            ],
            "backbone={name: mobilenet_v2, alpha: 0.35}": [
                "--set backbone: is defined by source.model, which has a different value. Remove it."
            ],
            "augment.mixing=[cut_mix]": [
                "--set augment.mixing: mixes labeled images, but none are used for training. Remove it."
            ],
            "phases[0].class_weights=balanced": [
                "--set phases[0].class_weights: weights classes by their labels, but no labels are used. Remove it."
            ],
            "phases[0].domain=source": [
                "line 3, phases: contains no phase for the adaptation methods. Add a phase with domain: target after the source phases.",
                "--set phases[0].domain: 'source' is not allowed with source.model, because no source images are loaded. Use domain: target, or remove the phase.",
            ],
            "adaptation.methods=[coral, adabn]": [
                "--set adaptation.methods[0]: coral needs source images, which are not available with source.model. Use adabn or source_only."
            ],
            "adaptation.select_by=[snd]": [
                "--set adaptation.select_by[0]: snd needs source images, which are not available with source.model. Use class_ami or information_maximization."
            ],
            "adaptation=null": [
                "line 1: Missing required key 'adaptation'. Add: adaptation: {methods: [tent, shot, adabn]}",
                "line 4, phases[0].domain: 'target' is not allowed, because target.labels is none. Use labels: few or labels: all, or add methods that adapt without labels, such as adaptation: {methods: [adabn, coral]}.",
            ],
            "source.model=elsewhere": ["--set source.model: Run folder not found: /here/elsewhere."],
            "source.model=null": ["--set source.model: must be a path, got null."],
        }
    )


def test_adaptation_without_labels_only_is_refused_with_a_source_model():
    (problem,) = problems_of("target.labels=all", "adaptation.when=no_labels")
    assert "adaptation.when: must be 'always' with source.model" in problem


def test_without_a_model_a_recipe_needs_images():
    with pytest.raises(Problems) as caught:
        checked(GOOD, "data.reader=null")
    (message,) = (str(problem) for problem in caught.value.problems)
    assert message == snapshot(
        "line 3, data: Missing required key 'reader'. Add: reader: {name: NAME}, where NAME is folder, phantom or table."
    )


def test_a_model_with_unknown_settings_is_refused():
    class Hostile(Models):
        def source_model_settings(self, path):
            settings = super().source_model_settings(path)
            return settings | {"backbone": {"name": "os.system", "weights": "./x"}, "head": {"dropout": 7}}

    with pytest.raises(Problems) as caught:
        check(FREE, name="f.yaml", models=Hostile())
    message = " ".join(map(str, caught.value.problems))
    assert "unknown backbone 'os.system'" in message
    assert "head.dropout: must be a fraction" in message


def test_the_default_validators_need_no_source_images():
    named = [validator.name for validator in checked(FREE).adaptation.select_by]
    assert named == ["class_ami"]


def test_the_settings_of_a_model_are_read_without_tensorflow(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from kerastl.adaptation.method import source_model_settings\n"
        "from kerastl.errors import RequestError\n"
        "try: source_model_settings(Path(sys.argv[1]))\n"
        "except RequestError as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "absent")]
    assert "absent" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
