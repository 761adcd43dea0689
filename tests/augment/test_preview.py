"""The preview: extremes of operations against their known results, samples, captions and texts."""

import re

import numpy as np
import pytest

from kerastl import registry
from kerastl.augment.operation_options import parse_operations
from kerastl.augment.preview import format_options, mixing_block, operation_block, policy_block
from kerastl.options import StrictModel
from kerastl.recipe import Operation

SIZE_PX = 24
LEVELS = np.random.default_rng(5).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
SEEDS = np.random.default_rng(6).integers(0, 2**31, (3, 2, 2)).astype(np.int32)


def block_of(name, images=LEVELS, seeds=SEEDS, **options):
    (operation,) = parse_operations([{"name": name, **options}])
    return operation_block(operation, images, seeds)


def column(block, text):
    (index,) = (index for index, title in enumerate(block.columns) if text in title)
    return block.images[:, index].astype(int)


def near(images, expected, levels=1):
    return np.abs(images - np.asarray(expected)).max() <= levels


def test_block_starts_with_the_original_and_ends_with_samples():
    block = block_of("random_flip")
    assert block.columns[0] == "original"
    assert block.columns[-3:] == ("sample 1", "sample 2", "sample 3")
    assert block.images.shape == (2, len(block.columns), SIZE_PX, SIZE_PX, 3)
    assert (block.images[:, 0] == LEVELS).all()


def test_rotation_extremes_are_quarter_turns():
    block = block_of("random_rotation", max_deg=90)
    assert near(column(block, "+90 deg"), np.rot90(LEVELS, 1, (1, 2)))
    assert near(column(block, "-90 deg"), np.rot90(LEVELS, -1, (1, 2)))


def test_brightness_extremes_shift_levels():
    block = block_of("random_brightness", max_fraction=0.2)
    assert near(column(block, "+20%"), np.minimum(LEVELS + 51, 255))
    assert near(column(block, "-20%"), np.maximum(LEVELS - 51, 0))


@pytest.mark.parametrize("model", ["hsv", "linear"])
def test_hue_extremes_shift_in_both_directions(model):
    red = np.zeros_like(LEVELS)
    red[..., 0] = 240
    block = block_of("random_hue", images=red, max_deg=120, model=model)
    assert column(block, "+120 deg")[0, 3, 3].tolist() == pytest.approx([0, 240, 0], abs=1)
    assert column(block, "-120 deg")[0, 3, 3].tolist() == pytest.approx([0, 0, 240], abs=1)


def test_flip_extremes_reverse_rows_or_columns():
    assert (column(block_of("random_flip"), "left and right") == LEVELS[:, :, ::-1]).all()
    both = block_of("random_flip", direction="both")
    assert (column(both, "left and right") == LEVELS[:, :, ::-1]).all()
    assert (column(both, "top and bottom") == LEVELS[:, ::-1]).all()


def test_translation_extremes_match_their_titles():
    block = block_of("random_translation", max_fraction=0.25)
    six = SIZE_PX // 4
    assert near(column(block, "up")[:, :-six, :-six], LEVELS[:, six:, six:])
    assert near(column(block, "down")[:, six:, six:], LEVELS[:, :-six, :-six])


def test_posterization_and_solarization_extremes_match_integer_formulas():
    assert near(column(block_of("posterization", min_bits=2), "2 bits"), LEVELS.astype(int) & 0xC0)
    inverted = np.where(LEVELS >= 100, 255 - LEVELS, LEVELS)
    assert near(column(block_of("solarization", min_threshold=100), "from 100 up"), inverted)


def test_channel_extremes_match_their_titles():
    assert (column(block_of("channel_shuffle"), "swapped") == LEVELS[..., ::-1]).all()
    shifted = np.clip(LEVELS + np.array([-51, 51, -51]), 0, 255)
    assert near(column(block_of("random_channel_shift", max_fraction=0.2), "green +"), shifted)
    gray = column(block_of("grayscale"), "gray")
    assert (gray[..., 0] == gray[..., 2]).all()


@pytest.mark.parametrize("fill_mode", ["constant", "gaussian_noise"])
def test_cutout_extreme_is_centered(fill_mode):
    block = block_of("random_cutout", images=np.full_like(LEVELS, 255), max_fraction=0.5, fill_mode=fill_mode)  # fmt: skip
    changed = (column(block, "50% of height") != 255).any(axis=(0, 3))
    quarter = SIZE_PX // 4
    assert changed[quarter:-quarter, quarter:-quarter].mean() > 0.95
    assert changed.sum() <= (SIZE_PX // 2) ** 2


def test_extremes_ignore_the_probability_but_samples_do_not():
    block = block_of("random_brightness", max_fraction=0.2, apply_probability=1e-6)
    assert (column(block, "+20%") != LEVELS).any()
    assert (block.images[:, -3:] == LEVELS[:, None]).all()
    assert block.note == "Applied to 0.0001% of the images."


def test_identity_is_noted():
    block = block_of("random_rotation", max_deg=0)
    assert block.note == "These options leave every image unchanged."
    assert (block.images == LEVELS[:, None]).all()


def strongest(name):
    return name, registry.module("operation", name).at_strength(1.0)


CONTAINERS = ("aug_mix", "rand_augment", "random_apply", "random_choice")


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_show_samples_only(name):
    block = operation_block(strongest(name), LEVELS, SEEDS[:1])
    assert block.columns == ("original", "sample 1")


@pytest.mark.parametrize("name", sorted(set(registry.names("operation")) - set(CONTAINERS)))
def test_every_extreme_differs_from_the_original(name):
    # Levels from 40 to 200, so that contrast can be stretched.
    levels = np.round(40 + LEVELS * (160 / 255))
    block = operation_block(strongest(name), levels, SEEDS[:0])
    assert all(block.columns)
    assert len(set(block.columns)) == len(block.columns) > 1
    assert (block.images[:, 1:] != levels[:, None]).any(axis=(2, 3, 4)).all()


def test_operation_without_extremes_shows_the_ends_of_its_ranges(monkeypatch):
    monkeypatch.delattr(registry.module("operation", "random_contrast"), "extremes")
    block = block_of("random_contrast", max_fraction=0.5)
    assert block.columns[1:3] == ("lower end", "upper end")


class Options(StrictModel):
    max_deg: float
    bits: int
    model: str = "hsv"
    list_of: tuple[int, ...] = ()
    apply_probability: float = 1.0


def test_crop_extremes_match_their_titles():
    half = SIZE_PX // 2
    ramp = np.broadcast_to(np.arange(SIZE_PX, dtype=np.float32)[None, None, :, None], LEVELS.shape)
    across = block_of("random_crop", images=ramp, max_fraction=0.5)
    assert near(column(across, "top left")[..., [0, -1], :], np.array([0, half - 1])[:, None])
    assert near(column(across, "bottom right")[..., [0, -1], :], np.array([half, SIZE_PX - 1])[:, None])
    window = block_of("random_crop_and_resize", images=ramp, min_area_fraction=0.25, max_aspect_ratio=4)
    # A quarter of the area is the full width at aspect ratio 4, and a quarter of the width at 1 / 4.
    wide, tall = column(window, "widest")[0, 0, :, 0], column(window, "tallest")[0, 0, :, 0]
    assert wide[-1] - wide[0] == pytest.approx(SIZE_PX - 1, abs=1)
    assert tall[-1] - tall[0] == pytest.approx((SIZE_PX - 1) / 4, abs=1)


def test_format_options_includes_nested_operations():
    inner = Operation("random_rotation", parse_operations([{"name": "random_rotation", "max_deg": 9}])[0][1])
    assert (
        format_options(Nested((inner,), ("a", "b"))) == "operations (random_rotation max_deg 9), names (a, b)"
    )


class Nested(StrictModel):
    operations: tuple[Operation, ...]
    names: tuple[str, ...] = ()


def test_format_options_omits_defaults():
    options = Options(15.0, 3)
    assert format_options(options) == "max_deg 15, bits 3"
    fuller = options.model_copy(update={"model": "linear", "apply_probability": 0.5})
    assert format_options(fuller) == "max_deg 15, bits 3, model linear, apply_probability 0.5"
    assert format_options(None) == ""


def test_policy_block_shows_samples_only():
    operations = parse_operations(
        [{"name": "random_flip"}, {"name": "random_brightness", "max_fraction": 0.1}]
    )
    block = policy_block(operations, LEVELS, SEEDS)
    assert block.columns == ("original", "sample 1", "sample 2", "sample 3")
    assert block.strength == "random_flip, random_brightness"


def test_captions_state_the_label_weights_of_the_pixels():
    flat = np.zeros_like(LEVELS)
    flat[1] = 200
    (mixing,) = [("mix_up", registry.options_of("mixing", "mix_up")(alpha=1.0))]
    block = mixing_block(mixing, flat, np.array([0, 1], np.int32), SEEDS, class_names=["<a>", "b"])
    assert block.captions[0][0] == "<a>"
    for row in range(2):
        for sample in range(1, 4):
            weight = float(block.images[row, sample].mean()) / 200
            caption = block.captions[row][sample]
            percent = {name: int(number) for number, name in re.findall(r"(\d+)% (\S+?)(?:, |$)", caption)}
            assert percent.get("b", 0) == pytest.approx(100 * weight, abs=1)
            assert sum(percent.values()) == 100
