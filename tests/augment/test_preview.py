"""The ends of operations and the blocks of a preview, held to what each end must look like."""

import re

import numpy as np
import pytest

from kerastl import registry
from kerastl.augment.parse_operations import parse_operations
from kerastl.augment.preview import (
    ENDS,
    ends_of,
    mixing_block,
    operation_block,
    options_in_words,
    policy_block,
)
from kerastl.options import StrictModel
from kerastl.recipe import Operation

SIZE_PX = 24
LEVELS = np.random.default_rng(5).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
SEEDS = np.random.default_rng(6).integers(0, 2**31, (3, 2, 2)).astype(np.int32)


def block_of(name, images=LEVELS, seeds=SEEDS, **options):
    (operation,) = parse_operations([{"name": name, **options}])
    return operation_block(operation, images, seeds)


def column(block, words):
    places = [place for place, head in enumerate(block.columns) if words in head]
    assert len(places) == 1, block.columns
    return block.images[:, places[0]].astype(int)


def near(images, wanted, levels=1):
    return np.abs(images - np.asarray(wanted)).max() <= levels


def test_the_original_stands_left_and_samples_right():
    block = block_of("random_flip")
    assert block.columns[0] == "original"
    assert block.columns[-3:] == ("sample 1", "sample 2", "sample 3")
    assert block.images.shape == (2, len(block.columns), SIZE_PX, SIZE_PX, 3)
    assert (block.images[:, 0] == LEVELS).all()


def test_a_quarter_turn_at_each_end():
    block = block_of("random_rotation", max_deg=90)
    assert near(column(block, "+90 deg"), np.rot90(LEVELS, 1, (1, 2)))
    assert near(column(block, "-90 deg"), np.rot90(LEVELS, -1, (1, 2)))


def test_brightness_at_each_end_in_levels():
    block = block_of("random_brightness", max_fraction=0.2)
    assert near(column(block, "+20 %"), np.minimum(LEVELS + 51, 255))
    assert near(column(block, "-20 %"), np.maximum(LEVELS - 51, 0))


@pytest.mark.parametrize("model", ["hsv", "linear"])
def test_both_ends_of_the_hue_are_shown(model):
    red = np.zeros_like(LEVELS)
    red[..., 0] = 240
    block = block_of("random_hue", images=red, max_deg=120, model=model)
    assert column(block, "+120 deg")[0, 3, 3].tolist() == pytest.approx([0, 240, 0], abs=1)
    assert column(block, "-120 deg")[0, 3, 3].tolist() == pytest.approx([0, 0, 240], abs=1)


def test_mirrors():
    assert (column(block_of("random_flip"), "left and right") == LEVELS[:, :, ::-1]).all()
    both = block_of("random_flip", direction="both")
    assert (column(both, "left and right") == LEVELS[:, :, ::-1]).all()
    assert (column(both, "top and bottom") == LEVELS[:, ::-1]).all()


def test_shifts_go_the_way_that_is_written():
    block = block_of("random_translation", max_fraction=0.25)
    six = SIZE_PX // 4
    assert near(column(block, "up")[:, :-six, :-six], LEVELS[:, six:, six:])
    assert near(column(block, "down")[:, six:, six:], LEVELS[:, :-six, :-six])


def test_levels():
    assert near(column(block_of("posterization", min_bits=2), "2 bits"), LEVELS.astype(int) & 0xC0)
    inverted = np.where(LEVELS >= 100, 255 - LEVELS, LEVELS)
    assert near(column(block_of("solarization", min_threshold=100), "from 100 up"), inverted)


def test_channels():
    assert (column(block_of("channel_shuffle"), "swapped") == LEVELS[..., ::-1]).all()
    shifted = np.clip(LEVELS + np.array([-51, 51, -51]), 0, 255)
    assert near(column(block_of("random_channel_shift", max_fraction=0.2), "green +"), shifted)
    grey = column(block_of("grayscale"), "grey")
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("fill_mode", ["constant", "gaussian_noise"])
def test_the_largest_cutout_lies_in_the_middle(fill_mode):
    block = block_of("random_cutout", images=np.full_like(LEVELS, 255), max_fraction=0.5, fill_mode=fill_mode)  # fmt: skip
    changed = (column(block, "50 % of height") != 255).any(axis=(0, 3))
    quarter = SIZE_PX // 4
    assert changed[quarter:-quarter, quarter:-quarter].mean() > 0.95
    assert changed.sum() <= (SIZE_PX // 2) ** 2


def test_an_end_is_shown_whatever_the_probability_and_samples_obey_it():
    block = block_of("random_brightness", max_fraction=0.2, apply_probability=1e-6)
    assert (column(block, "+20 %") != LEVELS).any()
    assert (block.images[:, -3:] == LEVELS[:, None]).all()
    assert block.note == "Changes 0.0001 % of the images; the others stay as they are."


def test_an_identity_says_so():
    block = block_of("random_rotation", max_deg=0)
    assert block.note == "With these options it changes nothing."
    assert (block.images == LEVELS[:, None]).all()


def strongest(name):
    return name, registry.module("operation", name).at_strength(1.0)


HAVE_ENDS = [name for name in registry.names("operation") if ends_of(*strongest(name))]


def test_only_operations_that_hold_others_have_no_ends():
    without = set(registry.names("operation")) - set(HAVE_ENDS)
    assert len(HAVE_ENDS) > 20
    assert without <= {"aug_mix", "rand_augment", "random_apply", "random_choice"}


@pytest.mark.parametrize("name", HAVE_ENDS)
def test_every_end_differs_from_the_original(name):
    # Within 40 to 200, so that there is something to stretch.
    levels = np.round(40 + LEVELS * (160 / 255))
    block = operation_block(strongest(name), levels, SEEDS[:0])
    assert all(block.columns)
    assert len(set(block.columns)) == len(block.columns) > 1
    assert (block.images[:, 1:] != levels[:, None]).any(axis=(2, 3, 4)).all()


def test_only_operations_that_exist_are_named():
    assert set(ENDS) <= set(registry.names("operation"))


def test_an_operation_that_is_not_named_shows_the_ends_of_its_ranges():
    assert [end.words for end in ends_of("somebodys", None)] == ["lower end", "upper end"]


class Options(StrictModel):
    max_deg: float
    bits: int
    model: str = "hsv"
    list_of: tuple[int, ...] = ()
    apply_probability: float = 1.0


def test_windows_are_cut_where_the_words_say():
    half = SIZE_PX // 2
    ramp = np.broadcast_to(np.arange(SIZE_PX, dtype=np.float32)[None, None, :, None], LEVELS.shape)
    across = block_of("random_crop", images=ramp, max_fraction=0.5)
    assert near(column(across, "top left")[..., [0, -1], :], np.array([0, half - 1])[:, None])
    assert near(column(across, "bottom right")[..., [0, -1], :], np.array([half, SIZE_PX - 1])[:, None])
    window = block_of("random_crop_and_resize", images=ramp, min_area_fraction=0.25, max_aspect_ratio=4)
    # A quarter of the area, four times as wide as high, is the whole width; four times as high, a quarter of it.
    wide, tall = column(window, "widest")[0, 0, :, 0], column(window, "tallest")[0, 0, :, 0]
    assert wide[-1] - wide[0] == pytest.approx(SIZE_PX - 1, abs=1)
    assert tall[-1] - tall[0] == pytest.approx((SIZE_PX - 1) / 4, abs=1)


def test_operations_inside_of_another_are_told():
    inner = Operation("random_rotation", parse_operations([{"name": "random_rotation", "max_deg": 9}])[0][1])
    assert (
        options_in_words(Holder((inner,), ("a", "b")))
        == "operations (random_rotation max_deg 9), names (a, b)"
    )
    assert ends_of("holder", Holder((inner,))) == []


class Holder(StrictModel):
    operations: tuple[Operation, ...]
    names: tuple[str, ...] = ()


def test_options_are_told_without_their_defaults():
    options = Options(15.0, 3)
    assert options_in_words(options) == "max_deg 15, bits 3"
    fuller = options.model_copy(update={"model": "linear", "apply_probability": 0.5})
    assert options_in_words(fuller) == "max_deg 15, bits 3, model linear, apply_probability 0.5"
    assert options_in_words(None) == ""


def test_all_operations_together_have_samples_only():
    operations = parse_operations(
        [{"name": "random_flip"}, {"name": "random_brightness", "max_fraction": 0.1}]
    )
    block = policy_block(operations, LEVELS, SEEDS)
    assert block.columns == ("original", "sample 1", "sample 2", "sample 3")
    assert block.strength == "random_flip, random_brightness"


def test_the_shares_of_the_labels_are_those_of_the_pixels():
    flat = np.zeros_like(LEVELS)
    flat[1] = 200
    (mixing,) = [("mix_up", registry.options_of("mixing", "mix_up")(alpha=1.0))]
    block = mixing_block(mixing, flat, np.array([0, 1], np.int32), SEEDS, class_names=["<a>", "b"])
    assert block.captions[0][0] == "<a>"
    for row in range(2):
        for place in range(1, 4):
            share = float(block.images[row, place].mean()) / 200
            told = dict(re.findall(r"(\d+) % (\S+?)(?:, |$)", block.captions[row][place]))
            found = {name: int(number) for number, name in told.items()}
            assert found.get("b", 0) == pytest.approx(100 * share, abs=1)
            assert sum(found.values()) == 100
