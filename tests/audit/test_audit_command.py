"""From images on disk to a verdict: the command and its files."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from make_digits import digits
from PIL import Image

from kerastl import recipe as recipes
from kerastl.cli import app
from kerastl.workflows.augment_audit import audit_recipe
from kerastl.workflows.check_recipe import check_recipe

pytestmark = pytest.mark.slow
OPTIONS = ("data.image_size_px=32", "backbone.name=small_cnn", "backbone.weights=none")
PHASES = "phases=[{name: all, epochs: 1, learning_rate: 1e-3, trainable: all}]"


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """Sevens, and other sevens mirrored."""
    folder = tmp_path_factory.mktemp("mirrored")
    images = np.round(digits(7)).astype(np.uint8)
    for name, class_images in (("seven", images[::2]), ("mirrored", images[1::2, :, ::-1])):
        (folder / name).mkdir()
        for number, image in enumerate(class_images):
            Image.fromarray(image).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def audit_output(mirrored, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "audit"
    words = ["augment", "audit", "folder-classifier", "--json", "--out", str(out)]
    sets = (
        f"data.reader.path={mirrored}",
        *OPTIONS,
        PHASES,
        "augment=[{name: random_flip}, {name: random_brightness, max_fraction: 0.05}, {name: random_hue, max_deg: 20}]",
    )
    done = CliRunner().invoke(app, [*words, *(word for setting in sets for word in ("--set", setting))])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), out


def test_mirroring_is_harmful_and_the_exit_code_is_0(audit_output):
    plain, _ = audit_output
    verdicts = {operation["name"]: operation["verdict"] for operation in plain["operations"]}
    assert verdicts == {"random_flip": "harmful", "random_brightness": "safe", "random_hue": "safe"}


def test_hue_leaves_gray_images_unchanged(audit_output):
    plain, _ = audit_output
    assert plain["operations"][2]["unchanged"]


def test_only_training_and_validation_images_are_audited(audit_output, mirrored):
    plain, _ = audit_output
    audited = sum(counts["images"] for counts in plain["classes"].values())
    stored = len(list(mirrored.rglob("*.png")))
    assert audited == pytest.approx(0.85 * stored, abs=2)


def test_the_policy_can_be_pasted_into_a_recipe(audit_output, mirrored):
    plain, out = audit_output
    assert (out / "policy.yaml").read_text() == plain["policy"]
    text = recipes.find("folder-classifier").text
    start = text.index("augment:")
    end = text.index("backbone:")
    recipe_options = text[:start] + plain["policy"] + text[end:]
    recipe_text = recipes.RecipeText("pasted", "pasted", recipe_options)
    good = check_recipe(recipe_text, [f"data.reader.path={mirrored}"])
    assert [operation.name for operation in good.augment.operations] == ["random_brightness"]


def test_the_page_contains_the_worst_images_and_loads_nothing(audit_output):
    _, out = audit_output
    page = (out / "audit.html").read_text()
    assert "seven predicted as mirrored" in page
    assert page.count("data:image/png;base64,") >= 3
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads((out / "audit.json").read_text())["operations"]


def test_a_mirrored_class_is_recognized_although_its_padding_differs(tmp_path):
    """The padding would show the class, so that mirroring would be safe."""
    images = np.round(digits(7) * 0.7 + 60).astype(np.uint8)
    for name, class_images, size in (
        ("seven", images[::2], (30, 48)),
        ("mirrored", images[1::2, :, ::-1], (48, 30)),
    ):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number, image in enumerate(class_images):
            Image.fromarray(image).resize(size).save(tmp_path / "images" / name / f"{number:03d}.png")
    sets = (
        *OPTIONS,
        f"data.reader.path={tmp_path / 'images'}",
        "data.resize=pad",
        PHASES,
        "augment=[{name: random_flip}]",
    )
    recipe = check_recipe(recipes.find("folder-classifier"), sets)
    result = audit_recipe(recipe, operations=["recipe"], most_per_class=70)
    assert [verdict.state for verdict in result.result.verdicts] == ["harmful"]
    assert result.images.min() > 0
    assert any("stretched instead of padded" in note for note in result.notes)


def test_a_folder_that_is_not_empty_is_refused(audit_output):
    _, out = audit_output
    done = CliRunner().invoke(app, ["augment", "audit", "folder-classifier", "--out", str(out)])
    assert done.exit_code == 1
    assert "already exists" in str(done.exception)


def test_an_unknown_operation_is_reported_with_a_suggestion(mirrored):
    words = ["augment", "audit", "folder-classifier", "--set", f"data.reader.path={mirrored}"]
    done = CliRunner().invoke(app, [*words, "--operations", "random_flop"])
    assert "Did you mean 'random_flip'" in str(done.exception)
