"""Random numbers are independent between operations, calls, examples and epochs.

The bounds of all tests of independence or uniformity in this file are chosen so that, with random seeds, they would fail
together with a probability below one in a million. The seeds are fixed.
"""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import kstest, norm

from kerastl import registry
from kerastl.augment.layers.geometry_layers import RandomShear
from kerastl.augment.operation import BuiltOperation
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.data import seeds_for

SIZE_PX = 512
"""Large, so that whole pixels are nearly continuous. No image is made."""
COUNT = 8192
ERROR_RATE = 1e-6
NUM_TESTS = 200_000
"""More than the file does; all share the error rate."""
LARGEST_CORRELATION = norm.isf(ERROR_RATE / NUM_TESTS / 2) / np.sqrt(COUNT)
"""0.08. A correlation of independent numbers is normal with variance 1 / COUNT, as far as this: both are bounded."""
SMALLEST_P_VALUE = ERROR_RATE / NUM_TESTS
CONTAINERS = {"rand_augment", "aug_mix", "random_choice", "random_apply"}
NAMES = [name for name in registry.names("operation") if name not in CONTAINERS]


class RecordingGenerator(StatelessGenerator):
    """A generator that records its numbers as columns in [0, 1)."""

    def __init__(self, seeds, index):
        super().__init__(seeds, index)
        self.columns = []

    def uniform(self, shape, minval=0.0, maxval=1.0, dtype=tf.float32):
        num_calls = self._num_calls
        unit = super().uniform(shape).numpy()
        self._num_calls = num_calls
        self.columns += list(unit.reshape(len(unit), -1).T)
        return super().uniform(shape, minval, maxval, dtype)


def built(name, index, **changes):
    options = registry.module("operation", name).at_strength(0.7)
    options = options.model_copy(update={"apply_probability": 0.5, **changes})
    return BuiltOperation(index, name, options, (SIZE_PX, SIZE_PX))


def raw_columns(operations, seeds):
    """Return all random numbers of the operations by name, `[COUNT]` each, in [0, 1)."""
    columns = {}
    images = tf.zeros([len(seeds), SIZE_PX, SIZE_PX, 0])
    for operation in operations:
        generator = RecordingGenerator(seeds, operation.index)
        operation.sample(generator, images)
        for number, column in enumerate(generator.columns):
            columns[f"{operation.index} {operation.name} draw {number}"] = column
    return columns


def _window(params):
    """The aspect ratio is free in the range in which the window fits."""
    strongest = registry.module("operation", "random_crop_and_resize").at_strength(0.7)
    fits = np.minimum(np.log(strongest.max_aspect_ratio), -np.log(params["areas"]))
    return {**params, "aspects": np.log(params["aspects"]) / fits}


def _cutout(params):
    lengths = params["ends"] - params["starts"]
    shares = (params["starts"] + 0.5) / (SIZE_PX - lengths + 1)
    return {"height": lengths[:, 0], "width": lengths[:, 1], "top": shares[:, 0], "left": shares[:, 1]}  # fmt: skip


FREE = {
    # Parameters that depend on each other by design are counted once.
    "random_zoom": lambda params: {"zoom": params["height_zooms"]},
    "random_gaussian_blur": lambda params: {"middle": params["weights"][:, 0]},
    "channel_shuffle": lambda params: {"first": params[:, 0]},
    "random_cutout": _cutout,
    "random_crop_and_resize": _window,
    "grid_mask": lambda params: {"shifts": params["shifts"], "ends": params["ends"], "sine": params["steps"][:, 1]},
}  # fmt: skip


def output_columns(operations, seeds):
    """Return the sampled parameters of the operations, and which images are chosen, by name: `[COUNT]` each."""
    columns = {}
    images = tf.zeros([len(seeds), SIZE_PX, SIZE_PX, 0])
    for operation in operations:
        params = tf.nest.map_structure(
            np.asarray, operation.sample(StatelessGenerator(seeds, operation.index), images)
        )
        free = FREE.get(operation.name, lambda numbers: numbers)(params["transformations"])
        free = {**(free if isinstance(free, dict) else {"": free}), "chosen": params["chosen"]}
        for key, values in free.items():
            for number, column in enumerate(values.reshape(len(seeds), -1).T):
                # A flip's other direction is always 0.
                if (column != column[0]).any():
                    columns[f"{operation.index} {operation.name} {key} {number}"] = column.astype(np.float64)
    return columns


def standardized(columns):
    """Return the columns and their distances from the middle, `[2 * columns, COUNT]`, mean 0 and variance 1.

    Distances too, because a number and the same with a random sign are uncorrelated.
    """
    table = np.stack(list(columns.values()))
    table = table - table.mean(axis=1, keepdims=True)
    distances = np.abs(table)
    spread = np.ptp(distances, axis=1) > 1e-3 * distances.max(axis=1)
    distances = distances - distances.mean(axis=1, keepdims=True)
    # Coin flips have one distance, which cannot correlate.
    distances[~spread] = 0
    both = np.concatenate([table, distances])
    return both / np.maximum(both.std(axis=1, keepdims=True), 1e-12)


def related(first, second=None):
    """Return the pairs of columns with a correlation above the bound, in one table or between two."""
    names = list(first)
    left = standardized(first)
    right = left if second is None else standardized(second)
    correlations = np.abs(left @ right.T) / left.shape[1]
    if second is None:
        # A column is not compared with itself, nor with its own distances.
        itself = np.tile(np.eye(len(names), dtype=bool), (2, 2))
        correlations[itself] = 0
    rows, columns = np.nonzero(correlations > LARGEST_CORRELATION)
    pairs = zip(rows % len(names), columns % len(names), strict=True)
    return sorted({(names[row], names[column]) for row, column in pairs})


def later(columns, examples):
    """Return the columns shifted by a number of examples."""
    return {name: np.roll(column, -examples) for name, column in columns.items()}


@pytest.fixture(scope="module")
def operations():
    return [built(name, index) for index, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def epochs(operations):
    """What all operations draw in three epochs of a run of one seed, and in one of another."""
    runs = [(7, 0), (7, 1), (7, 2), (8, 0)]
    return [output_columns(operations, seeds_for(*run, np.arange(COUNT))) for run in runs]


def test_number_of_tests_matches_the_error_rate(epochs):
    num_columns = 2 * len(epochs[0])
    inside, three_lags, three_runs = num_columns**2 / 2, 3 * num_columns**2, 3 * num_columns**2
    uniform = 100 + len(RANGES)
    assert num_columns > 100
    assert inside + three_lags + three_runs + uniform < NUM_TESTS
    assert LARGEST_CORRELATION < 0.08


def test_numbers_of_operations_are_uncorrelated(epochs):
    assert related(epochs[0]) == []


@pytest.mark.parametrize("examples", [1, 2, 32])
def test_numbers_of_examples_are_uncorrelated(epochs, examples):
    assert related(epochs[0], later(epochs[0], examples)) == []


@pytest.mark.parametrize("other", [1, 2, 3], ids=["next epoch", "the one after", "another seed"])
def test_numbers_of_epochs_and_runs_are_uncorrelated(epochs, other):
    assert related(epochs[0], epochs[other]) == []


def test_all_random_numbers_are_uniform(operations):
    columns = raw_columns(operations, seeds_for(7, 0, np.arange(COUNT)))
    assert 2 * len(NAMES) < len(columns) < 100
    wrong = {
        name: column for name, column in columns.items()
        if kstest(column, "uniform").pvalue < SMALLEST_P_VALUE
    }  # fmt: skip
    assert list(wrong) == []


def test_calls_elements_operations_and_children_are_uncorrelated():
    """Also for seeds that count up. Children are the draws of operations inside of an operation."""
    seeds = np.stack([np.arange(COUNT), np.zeros(COUNT)], axis=1).astype(np.int32)
    first, second = StatelessGenerator(seeds, 0), StatelessGenerator(seeds, 1)
    sources = {"first": first, "second": second, "child 0": first.child(0), "child 1": first.child(1),
               "child of second": second.child(0), "grandchild": first.child(0).child(0)}  # fmt: skip
    columns = {
        f"{name} {draw} {element}": column
        for name, generator in sources.items()
        for draw in range(2)
        for element, column in enumerate(generator.uniform([COUNT, 2]).numpy().T)
    }
    assert related(columns) == related(columns, later(columns, 1)) == []
    in_twos = {name: column.reshape(-1, 2)[:, ::-1].ravel() for name, column in columns.items()}
    assert related(columns, in_twos) == []
    assert all(kstest(column, "uniform").pvalue > SMALLEST_P_VALUE for column in columns.values())


RANGES = {
    "random_rotation": ({"max_deg": 90.0}, "angles", (-np.pi / 2, np.pi / 2)),
    "random_zoom": ({"max_fraction": 0.4}, "height_zooms", (0.6, 1.4)),
    "random_translation": ({"max_fraction": 0.3}, "width_translations", (-0.3, 0.3)),
    "random_shear": ({"max_fraction": 0.2}, "slopes_y", (-0.2, 0.2)),
    "random_crop_and_resize": ({"min_area_fraction": 0.4}, "areas", (0.4, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_strengths_are_uniform_in_the_range_of_the_options(name):
    options, key, (low, high) = RANGES[name]
    operation = built(name, 3, **options)
    seeds = seeds_for(7, 0, np.arange(COUNT))
    params = operation.sample(StatelessGenerator(seeds, 3), tf.zeros([COUNT, SIZE_PX, SIZE_PX, 0]))
    values = params["transformations"][key].numpy().ravel()
    assert kstest(values, "uniform", args=(low, high - low)).pvalue > SMALLEST_P_VALUE


# Planted faults: each of these would pass unnoticed if the tests above were blind.


@pytest.fixture
def seeds():
    return seeds_for(7, 0, np.arange(COUNT))


def test_two_operations_with_equal_index_are_detected(seeds):
    twins = [built("random_rotation", 5), built("random_translation", 5)]
    pairs = related(output_columns(twins, seeds))
    assert ("5 random_rotation angles 0", "5 random_translation height_translations 0") in pairs


def test_reused_random_number_is_detected(seeds, monkeypatch):
    """With a random sign, as in the shear of keras-cv."""

    def once(self, batch_size, **_):
        slopes = self._random_generator.uniform([batch_size], -0.2, 0.2)
        signs = tf.where(self._random_generator.uniform([batch_size]) < 0.5, -1.0, 1.0)
        return {"slopes_x": slopes, "slopes_y": slopes * signs}

    monkeypatch.setattr(RandomShear, "get_random_transformation_batch", once)
    pairs = related(output_columns([built("random_shear", 0)], seeds))
    assert ("0 random_shear slopes_x 0", "0 random_shear slopes_y 0") in pairs


def test_equal_epochs_or_examples_are_detected(operations, seeds):
    some = operations[:3]
    columns = output_columns(some, seeds)
    assert len(related(columns, output_columns(some, seeds))) >= len(columns)
    in_pairs = output_columns(some, seeds_for(7, 0, np.arange(COUNT) // 2))
    assert related(in_pairs, later(in_pairs, 1))


def test_nonuniform_numbers_are_detected(seeds):
    column = StatelessGenerator(seeds, 0).uniform([COUNT]).numpy()
    assert kstest(column**1.2, "uniform").pvalue < SMALLEST_P_VALUE
