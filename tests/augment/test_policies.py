"""Named policies."""

import subprocess
import sys
import typing

import numpy as np
import pytest

from kerastl.augment import build_policy, named_policy
from kerastl.augment.presets import POLICIES
from kerastl.data import Record
from kerastl.errors import RequestError
from kerastl.options import hints
from kerastl.recipe import Augment, find
from kerastl.workflows.check_recipe import check_recipe

FLIPS = {"random_flip"}
COLORS = {"random_hue", "random_saturation", "random_color_jitter", "random_color_degeneration"}
MASKS_OR_CROPS = {"random_cutout", "grid_mask", "random_crop", "random_crop_and_resize"}
CHANGES_LEVELS = {"solarization", "equalization", "posterization", "channel_shuffle"}
SIZE_PX = 24


def names_in(policy):
    return {name for name, _ in named_policy(policy)}


def test_recipe_accepts_exactly_the_named_policies():
    assert typing.get_args(hints(Augment)["policy"]) == tuple(POLICIES)


def test_named_policy_returns_a_new_list():
    assert named_policy("none") == []
    named_policy("light").clear()
    assert named_policy("light")


def test_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match=r"policy 'radiographs'\. Did you mean 'radiograph'"):
        named_policy("radiographs")
    with pytest.raises(RequestError, match=r"Known: none, light, medium, strong, radiograph, photograph\."):
        named_policy("")  # fmt: skip


def test_radiograph_policies_have_no_flip_color_mask_or_inversion():
    assert not names_in("radiograph") & (FLIPS | COLORS | MASKS_OR_CROPS | CHANGES_LEVELS)
    assert not names_in("light") & (FLIPS | COLORS | MASKS_OR_CROPS | CHANGES_LEVELS)


def test_photograph_policy_keeps_images_upright():
    photograph = dict(named_policy("photograph"))
    assert photograph["random_flip"].direction == "horizontal"
    assert "random_rotation" not in photograph
    # Most of the image remains visible.
    assert photograph["random_crop_and_resize"].min_area_fraction >= 0.5


def test_light_medium_and_strong_increase_in_operations_and_strength():
    light, medium, strong = (dict(named_policy(name)) for name in ("light", "medium", "strong"))
    assert set(light) < set(medium) < set(strong)
    for weaker, stronger in ((light, medium), (medium, strong)):
        for name in set(weaker) - FLIPS:
            fields = [field for field in vars(weaker[name]) if field.startswith("max_")]
            assert fields
            for field in fields:
                assert getattr(weaker[name], field) < getattr(stronger[name], field)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_but_none_changes_every_image(name):
    rng = np.random.default_rng(3)
    images = rng.uniform(60, 200, (8, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    seeds = rng.integers(0, 2**31, (8, 2)).astype(np.int32)
    # Compiling takes seconds, and strong contains the operations of light and medium.
    policy = build_policy(named_policy(name), image_size_px=SIZE_PX, exact=name != "strong")
    changed = policy(images, seeds).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    each = np.abs(changed - images).max(axis=(1, 2, 3))
    assert (each == 0).all() if name == "none" else (each > 0).all()


@pytest.mark.parametrize("name", ["light", "radiograph"])
def test_policies_without_color_operations_accept_images_of_one_channel(name):
    gray = np.full((2, SIZE_PX, SIZE_PX, 1), 90, np.float32)
    policy = build_policy(named_policy(name), image_size_px=SIZE_PX, channels=1, exact=True)
    assert policy(gray, np.ones((2, 2), np.int32)).shape == gray.shape


@pytest.mark.parametrize("name", ["medium", "strong", "photograph"])
def test_policies_with_color_operations_refuse_images_of_one_channel(name):
    with pytest.raises(RequestError, match="random_"):
        build_policy(named_policy(name), image_size_px=SIZE_PX, channels=1)


@pytest.mark.parametrize("exact", ["true", "false"])
def test_exact_of_the_recipe_reaches_the_policy(exact, tmp_path, monkeypatch):
    from kerastl.workflows import datasets

    built = []
    monkeypatch.setattr(datasets, "build_policy", lambda *_, **options: built.append(options))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sets = [f"data.reader={{name: folder, path: {tmp_path}}}", f"augment={{policy: light, exact: {exact}}}"]
    recipe = check_recipe(find("folder-classifier"), sets)
    file = tmp_path / "a.png"
    loaded = datasets.Datasets(
        records=(), class_names=("a", "b"), image_size_px=(SIZE_PX, SIZE_PX), window=None, cache="none",
        root=None, target_root=None, quarantined=(), fingerprints={}, notes=(), augment=recipe.augment,
    )  # fmt: skip
    loaded.dataset([Record("a.png", file, "a")], training=True)
    assert [options["exact"] for options in built] == [exact == "true"]


def test_named_policy_does_not_import_tensorflow():
    code = (
        "import sys; from kerastl.augment import named_policy; named_policy('strong');"
        " sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
