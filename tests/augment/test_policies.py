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

MIRRORS = {"random_flip"}
COLOURS = {"random_hue", "random_saturation", "random_color_jitter", "random_color_degeneration"}
HIDES = {"random_cutout", "grid_mask", "random_crop", "random_crop_and_resize"}
MOVES_LEVELS = {"solarization", "equalization", "posterization", "channel_shuffle"}
SIZE_PX = 24


def names_in(policy):
    return {name for name, _ in named_policy(policy)}


def test_a_recipe_takes_every_policy_and_no_other():
    assert typing.get_args(hints(Augment)["policy"]) == tuple(POLICIES)


def test_none_is_empty_and_the_list_is_the_callers_own():
    assert named_policy("none") == []
    named_policy("light").clear()
    assert named_policy("light")


def test_an_unknown_policy_gets_the_nearest_name():
    with pytest.raises(RequestError, match=r"policy 'radiographs'\. Did you mean 'radiograph'"):
        named_policy("radiographs")
    with pytest.raises(RequestError, match=r"Known: none, light, medium, strong, radiograph, photograph\."):
        named_policy("")  # fmt: skip


def test_a_radiograph_is_never_mirrored_coloured_hidden_or_inverted():
    assert not names_in("radiograph") & (MIRRORS | COLOURS | HIDES | MOVES_LEVELS)
    assert not names_in("light") & (MIRRORS | COLOURS | HIDES | MOVES_LEVELS)


def test_a_photograph_keeps_top_and_bottom():
    turned = dict(named_policy("photograph"))
    assert turned["random_flip"].direction == "horizontal"
    assert "random_rotation" not in turned
    # Most of the image stays: what it shows is still there.
    assert turned["random_crop_and_resize"].min_area_fraction >= 0.5


def test_light_medium_and_strong_increase_in_operations_and_strength():
    light, medium, strong = (dict(named_policy(one)) for one in ("light", "medium", "strong"))
    assert set(light) < set(medium) < set(strong)
    for weaker, stronger in ((light, medium), (medium, strong)):
        for name in set(weaker) - MIRRORS:
            fields = [field for field in vars(weaker[name]) if field.startswith("max_")]
            assert fields
            for field in fields:
                assert getattr(weaker[name], field) < getattr(stronger[name], field)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_but_none_changes_every_image(name):
    rng = np.random.default_rng(3)
    images = rng.uniform(60, 200, (8, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    seeds = rng.integers(0, 2**31, (8, 2)).astype(np.int32)
    # Compiling takes seconds: strong holds the operations of light and medium.
    policy = build_policy(named_policy(name), image_size_px=SIZE_PX, exact=name != "strong")
    changed = policy(images, seeds).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    each = np.abs(changed - images).max(axis=(1, 2, 3))
    assert (each == 0).all() if name == "none" else (each > 0).all()


@pytest.mark.parametrize("name", ["light", "radiograph"])
def test_policies_without_color_operations_accept_images_of_one_channel(name):
    grey = np.full((2, SIZE_PX, SIZE_PX, 1), 90, np.float32)
    policy = build_policy(named_policy(name), image_size_px=SIZE_PX, channels=1, exact=True)
    assert policy(grey, np.ones((2, 2), np.int32)).shape == grey.shape


@pytest.mark.parametrize("name", ["medium", "strong", "photograph"])
def test_policies_with_color_operations_refuse_images_of_one_channel(name):
    with pytest.raises(RequestError, match="random_"):
        build_policy(named_policy(name), image_size_px=SIZE_PX, channels=1)


@pytest.mark.parametrize("exact", ["true", "false"])
def test_training_runs_the_operations_as_exact_says(exact, tmp_path, monkeypatch):
    from kerastl.workflows import datasets as stage

    built = []
    monkeypatch.setattr(stage, "build_policy", lambda *_, **options: built.append(options))
    sets = ["data.reader={name: folder, path: x}", f"augment={{policy: light, exact: {exact}}}"]
    recipe = check_recipe(find("folder-classifier"), sets)
    file = tmp_path / "a.png"
    found = stage.Datasets(
        records=(), class_names=("a", "b"), image_size_px=SIZE_PX, window=None, cache="none",
        root=None, target_root=None, quarantined=(), fingerprints={}, notes=(),
    )  # fmt: skip
    found.dataset(recipe, [Record("a.png", file, "a")], training=True)
    assert [one["exact"] for one in built] == [exact == "true"]


def test_a_policy_is_looked_up_without_tensorflow():
    code = (
        "import sys; from kerastl.augment import named_policy; named_policy('strong');"
        " sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
