"""Properties of the tasks of the adaptation benchmark."""

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATH = Path(__file__).parents[2] / "benchmarks" / "adaptation_tasks.py"


@pytest.fixture(scope="module")
def tasks():
    spec = importlib.util.spec_from_file_location("adaptation_tasks", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["adaptation_tasks"] = module
    spec.loader.exec_module(module)
    return module


def rows_of(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def mnist(tmp_path):
    """Thirty images like those of MNIST: a margin of 4 pixels around a square with a distinct value."""
    images = np.zeros((30, 28, 28), np.uint8)
    images[:, 4:24, 4:24] = np.arange(100, 130)[:, None, None]
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=np.arange(30) % 10)
    return tmp_path / "mnist.npz"


def test_mnist_is_cropped_to_the_digits(tasks, mnist):
    images, labels = tasks.load_digit_images("mnist", mnist)
    assert images.shape == (30, 20, 20)
    assert images.min() == 100
    assert list(labels[:3]) == [0, 1, 2]


def test_both_domains_are_written_at_the_same_size_with_labels(tasks, mnist, tmp_path):
    sizes = tasks.Sizes(images=20, patients=(4, 2), mnist=mnist)
    task = tasks.make_task("mnist to digits", tmp_path / "new", sizes, seed=3)
    assert (task.size_px, task.metric) == (32, "balanced_accuracy")
    for domain in ("source", "target"):
        rows = rows_of(tmp_path / "new" / domain)
        assert len(rows) == 20
        assert all(row["label"].isdigit() for row in rows)
        with Image.open(tmp_path / "new" / domain / rows[0]["path"]) as image:
            assert image.size == (32, 32)


def test_the_sampled_images_depend_only_on_the_seed(tasks):
    images = tasks.load_digit_images("digits", None)
    sample_images = [tasks.sample_images(images, 50, np.random.default_rng(seed))[1] for seed in (1, 1, 2)]
    assert (sample_images[0] == sample_images[1]).all()
    assert (sample_images[0] != sample_images[2]).any()


def test_other_prevalence_is_balanced_in_the_source_and_skewed_in_the_target(tasks):
    (_, source), (_, target) = tasks.make_domains("other prevalence", np.random.default_rng(1))
    even, skewed = Counter(source.tolist()), Counter(target.tolist())
    assert set(even) == set(skewed) == {0, 1, 2, 3, 4}
    assert max(even.values()) < 1.1 * min(even.values())
    assert max(skewed.values()) > 8 * min(skewed.values())


def test_same_population_shares_no_image(tasks):
    (first, source), (second, target) = tasks.make_domains("same population", np.random.default_rng(1))
    assert set(source.tolist()) == set(target.tolist()) == set(range(10))
    assert len(first) + len(second) == 1797


def test_the_unseen_class_is_a_fifth_of_the_unlabeled_target(tasks, tmp_path):
    (_, source), (_, target) = tasks.make_domains("unseen class", np.random.default_rng(1))
    assert set(source.tolist()) == set(range(9))
    assert np.mean(target == tasks.UNSEEN) == pytest.approx(0.2, abs=0.01)
    sizes = tasks.Sizes(images=10, patients=(4, 2), mnist=None)
    tasks.make_task("unseen class", tmp_path, sizes, seed=1)
    assert {row["label"] for row in rows_of(tmp_path / "target")} == {""}
    assert len({row["label"] for row in rows_of(tmp_path / "source")}) == 9


@pytest.mark.parametrize("name", ["mnist to mnist", "a to digits", "nothing"])
def test_an_unknown_task_is_refused(tasks, tmp_path, name):
    with pytest.raises(SystemExit, match="No such task"):
        tasks.make_task(name, tmp_path, tasks.Sizes(10, 4, None), seed=1)


def test_mnist_without_its_file_is_refused(tasks, tmp_path):
    with pytest.raises(SystemExit, match="--mnist"):
        tasks.make_task("mnist to digits", tmp_path, tasks.Sizes(10, 4, None), seed=1)
