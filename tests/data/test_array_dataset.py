"""Datasets of arrays and of `tf.data`: the images of files with the same pixels, and every invalid input with its fix."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from memory_dataset import MemoryDataset
from PIL import Image

from kerastl.data import ArrayDataset, Collection, ImageDataset, Record, TfDataset, as_image_dataset
from kerastl.data.array_dataset import encode_labels
from kerastl.errors import RequestError, RunFailed

NAMES = ("cat", "dog", "owl")
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
Y = np.arange(12) % 3


def darken(images, seeds):
    """Return images that depend on their seed."""
    return images * (tf.cast(seeds[:, :1, None, None] % 7, tf.float32) + 7) / 16


def arrays(dataset, epoch, *rest):
    return [[np.asarray(part) for part in batch] for batch in dataset.indexed_batches(epoch, *rest)]


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        for part, other_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, other_part)
            assert part.dtype == other_part.dtype


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The images as PNG files of the same size, with the options of the dataset of arrays."""
    folder = tmp_path_factory.mktemp("png")
    records = []
    for index, (image, label) in enumerate(zip(X, Y, strict=True)):
        Image.fromarray(image).save(folder / f"{index}.png")
        records.append(Record(f"{index}.png", folder / f"{index}.png", NAMES[label]))
    options = {"batch_size": 5, "seed": 3, "augment": darken}
    return (
        MemoryDataset(records, class_names=NAMES, image_size_px=(8, 8), **options),
        ArrayDataset(X, Y, class_names=NAMES, **options),
    )


@pytest.mark.parametrize("part", [(0,), (2,), (2, 1), (1, 0, (1, 2))])
def test_arrays_have_the_batches_of_files_with_the_same_pixels(files, part):
    from_files, from_arrays = files
    assert_equal(arrays(from_files, *part), arrays(from_arrays, *part))


def test_passes_for_keras_and_decoded_images_are_those_of_files(files):
    from_files, from_arrays = files
    rows = np.array([3, 0, 3])
    np.testing.assert_array_equal(from_files.decode(rows), from_arrays.decode(rows))
    first, second = (dataset.as_tf_dataset() for dataset in files)
    for _ in range(2):  # each pass is a new epoch
        assert_equal(
            [list(map(np.asarray, batch)) for batch in first],
            [list(map(np.asarray, batch)) for batch in second],
        )


def test_arrays_are_not_changed_and_may_be_read_only():
    images, labels = X.astype(np.float32), Y.copy()
    for array in (images, labels):
        array.flags.writeable = False
    dataset = ArrayDataset(images, labels, class_names=NAMES, augment=darken)
    assert len(arrays(dataset, 0)) == 1
    np.testing.assert_array_equal(images, X)


def test_the_fingerprint_depends_on_the_pixels_only():
    first, same, other = (
        ArrayDataset(images, None, class_names=NAMES).fingerprint()
        for images in (X, X.astype(np.float64), X[::-1])
    )
    assert first == same != other


def test_groups_and_labels_are_in_the_records():
    dataset = ArrayDataset(X[:3], ["owl", "cat", "dog"], class_names=NAMES, groups=[7, 7, None])
    assert [(record.label, record.group) for record in dataset.records] == [
        ("owl", "7"),
        ("cat", "7"),
        ("dog", None),
    ]


def test_missing_groups_are_groups_of_their_own_and_are_counted(capsys):
    missing = [None, np.nan, np.float32("nan"), "<NA>", "NaT", "", " ", "nan", "N/A"]
    groups = np.array([1.0, *missing, "P1", "0"], dtype=object)
    dataset = ArrayDataset(X, None, class_names=NAMES, groups=groups)
    assert [record.group for record in dataset.records] == ["1.0", *[None] * 9, "P1", "0"]
    assert "9 images without a group: each is its own group." in capsys.readouterr().err


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_all_encodings_of_labels_give_the_same_indices(indices):
    values, names = np.array(indices), np.array(NAMES)[indices]
    forms = [
        indices, values[:, None], values.astype(np.uint8), values.astype(float), values.astype(object), tuple(indices),
        np.eye(3)[values], np.eye(3, dtype=bool)[values], names, names.tolist(), names.astype("S"), names.astype(object),
        tf.constant(names), tf.constant(values),
    ]  # fmt: skip
    for form in forms:
        encoded = encode_labels(form.numpy() if tf.is_tensor(form) else form, NAMES)
        assert encoded.tolist() == indices
        assert encoded.dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 1, r"label 2 is 3, but must be an index from 0 to 2, .* Invalid labels: 4 of 12"),
        (Y * 2 - 1, "label 0 is -1"),
        (Y / 2, "label 1 is 0.5"),
        (np.where(Y, Y, np.nan), "label 0 is nan"),
        (np.eye(4)[Y], r"one-hot rows \[images, 3\].* shape \[12, 4\]"),
        (np.eye(3)[Y] * 0.9, r"label 0 is \[0.9, 0.0, 0.0\].*a single 1"),
        (np.zeros((12, 3)), "a single 1"),
        (np.ones((12, 3)), "a single 1"),
        (["cat", "Dog"] * 6, "'Dog'"),
        ([0, None] * 6, "none may be missing"),
        (["cat", np.nan] * 6, "nan"),
        ([0, "cat"] * 6, "label 0 is '0'"),
        (Y[:, None, None], r"\[12, 1, 1\]"),
        ([[0], [1, 2]] * 6, "inhomogeneous"),
        (3, r"\[images\]"),
        ({"a": 1}, r"\[images\]"),
        (np.ma.masked_equal(Y, 1), "masked"),
        (np.array(["2026-01-01"] * 12, "datetime64[D]"), "datetime64"),
        (Y * 1j, "complex"),
        (Y[:5], "length 5, but x has 12 images"),
    ],
)
def test_invalid_labels_are_refused(labels, message):
    with pytest.raises(RequestError, match=message):
        ArrayDataset(X, labels, class_names=NAMES)


F = X.astype(np.float32)
SHAPES = [
    (X[..., 0], "stack"), (X[..., :1], "repeat"), (X[..., :2], "repeat"), (np.concatenate([X, X[..., :1]], -1), r"x\[..., :3\]"),
    (X.transpose(0, 3, 1, 2), r"transpose\(x, \[0, 2, 3, 1\]\)"), (X.transpose(0, 3, 1, 2)[:, :1], "repeat.*transpose"),
]  # fmt: skip
VALUES = [
    (F / 255, r"x \* 255"), (F / 127.5 - 1, r"\(x \+ 1\) \* 127.5"), (F / 255 - 0.5, "Remove the rescaling"),
    ((F - 128) / 70, "Remove the normalization"), (F - 120, "Remove the normalization"), (F * 1.05 - 5, "clip"),
    (F * 16, r"x \* \(255 / 4080\)"), (X // 128, r"x \* 255"), (np.where(F == 7, np.nan, F), "NaN or infinite"),
    (np.where(F == 7, -np.inf, F), "NaN or infinite"),
]  # fmt: skip


@pytest.mark.parametrize(("images", "message"), SHAPES + VALUES)
def test_images_that_are_not_rgb_from_0_to_255_are_refused_with_the_fix(images, message):
    with pytest.raises(RequestError, match=message):
        ArrayDataset(images, Y, class_names=NAMES)
    with pytest.raises(RequestError, match=message):
        TfDataset(tf.data.Dataset.from_tensor_slices((images, Y)).batch(5), class_names=NAMES)


@pytest.mark.parametrize(
    ("fix", "images"),
    [
        (lambda x: np.stack([x] * 3, axis=-1), SHAPES[0][0]),
        (lambda x: np.repeat(x, 3, axis=-1), SHAPES[1][0]),
        (lambda x: x[..., :3], SHAPES[3][0]),
        (lambda x: np.transpose(x, [0, 2, 3, 1]), SHAPES[4][0]),
        (lambda x: x * 255, VALUES[0][0]),
        (lambda x: (x + 1) * 127.5, VALUES[1][0]),
    ],
)
def test_the_fix_in_the_message_works(fix, images):
    assert ArrayDataset(fix(images), Y, class_names=NAMES).num_examples == 12


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (X[0], r"Use x\[None\]"),
        (X[:0], "no images"),
        ([X[0], X[1][:4]], "Resize the images to one size"),
        (X.astype(object), r"np\.stack\(list\(x\)\)"),
        (["a.png", "b.png"], "read_images"),
        (X > 9, r"x \* 255"),
        (np.ma.masked_equal(X, 3), "masked"),
        (X[None], r"\[1, 12, 8, 8, 3\]"),
    ],
)
def test_arrays_that_are_not_images_are_refused(images, message):
    with pytest.raises(RequestError, match=message):
        ArrayDataset(images, class_names=NAMES)


def test_problems_of_images_and_labels_are_reported_together():
    with pytest.raises(RequestError, match=r"(?s)train has 2 problems.*x: .*x \* 255.*y: label 2 is 3"):
        as_image_dataset("train", (F / 255, Y + 1), class_names=NAMES, image_size_px=(8, 8))


def test_some_rescaled_images_are_reported(capsys):
    mixed = F.copy()
    mixed[3] /= 255
    ArrayDataset(mixed, Y, class_names=NAMES)
    assert "1 of 12 images, e.g. index 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y, np.ones(12)), r"NumPy arrays \(x, y\)\. Sample weights are not supported"),
        ("photos", "read_images"),
        (None, "got None"),
        (
            (X[:, :4, :4], Y),
            r"\(4, 4\) px, but the model takes \(8, 8\) px. Use tf.image.resize\(x, \(8, 8\)\)",
        ),
        (tf.data.Dataset.from_tensors((X[:, :4, :4], Y)), r"dataset.map\(lambda x, y: \(tf.image.resize"),
    ],
)
def test_other_data_and_sizes_are_refused(data, message):
    with pytest.raises(RequestError, match=message):
        as_image_dataset("train", data, class_names=NAMES, image_size_px=(8, 8))


def test_class_names_and_options_without_effect_are_refused():
    dataset = ArrayDataset(X, Y, class_names=NAMES)
    batched = tf.data.Dataset.from_tensors((X, Y))
    with pytest.raises(RequestError, match=r"Pass class_names=\["):
        as_image_dataset("train", (X, Y), class_names=None, image_size_px=(8, 8))
    with pytest.raises(
        RequestError,
        match=r"is already an ArrayDataset\. Set the options when you create it: augment='light'",
    ):
        as_image_dataset("train", dataset, class_names=NAMES, augment="light")
    with pytest.raises(RequestError, match="already batched"):
        as_image_dataset("train", batched, class_names=NAMES, image_size_px=(8, 8), batch_size=3)
    assert as_image_dataset("test", dataset, class_names=None) is dataset
    assert isinstance(
        as_image_dataset("test", Collection(None, NAMES, ()), class_names=None, image_size_px=(8, 8)),
        ImageDataset,
    )


# Datasets of `tf.data`.


def batched(*parts, size=5):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(size)


def test_a_tf_dataset_has_the_batches_of_the_array_in_its_order():
    from_arrays = ArrayDataset(X, Y, class_names=NAMES, shuffle=False, batch_size=5, seed=3, augment=darken)
    dataset = TfDataset(batched(X, np.array(NAMES)[Y]), class_names=NAMES, seed=3, augment=darken)
    for part in [(0,), (2,), (2, 1)]:
        assert_equal(arrays(from_arrays, *part), arrays(dataset, *part))
    assert (dataset.num_examples, dataset.steps_per_epoch, dataset.batch_size) == (12, 3, 5)
    first, second = (each.as_tf_dataset() for each in (from_arrays, dataset))
    for _ in range(2):
        assert_equal(
            [list(map(np.asarray, batch)) for batch in first],
            [list(map(np.asarray, batch)) for batch in second],
        )


def test_an_image_keeps_its_index_and_label_in_a_shuffled_dataset():
    images, labels = np.concatenate([X, X[:3]]), np.concatenate([Y, Y[:3]])  # with copies
    dataset = TfDataset(batched(images, labels).unbatch().shuffle(15, seed=1).batch(4), class_names=NAMES)
    first, second = (
        [np.concatenate(parts) for parts in zip(*arrays(dataset, 0), strict=True)] for _ in range(2)
    )
    assert first[2].tolist() != second[2].tolist()
    for pixels, labels_of_pass, indices in (first, second):
        assert sorted(indices) == list(range(15))
        np.testing.assert_array_equal(dataset.labels[indices], labels_of_pass)
        by_index = {index: image.tobytes() for index, image in zip(indices, pixels, strict=True)}
        assert [by_index[index] for index in range(15)] == [
            image.tobytes()
            for _, image in sorted(zip(first[2], first[0], strict=True), key=lambda pair: pair[0])
        ]
    hidden = dataset.with_own_order(labeled=False)
    assert all((labels == -1).all() for _, labels, _ in arrays(hidden, 0))


SPECIFICATION = (tf.TensorSpec(None, tf.uint8), tf.TensorSpec(None, tf.int64))


def generated(function):
    return tf.data.Dataset.from_generator(function, output_signature=SPECIFICATION)


def failing():
    yield X[:4], Y[:4]
    raise ValueError("the disk is gone")


ONCE = iter([(X[:4], Y[:4]), (X[4:8], Y[4:8])])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tf.data.Dataset.from_tensor_slices((X, Y)), r"dataset\.batch\(32\)"),
        (batched(X, Y, np.ones(12)), "Sample weights are not supported"),
        (batched(X, Y).repeat(), r"is infinite. Remove .repeat\(\), or use dataset.take\(STEPS\)"),
        (batched({"image": X, "label": Y}), r"\(row\['image'\], row\['label'\]\)"),
        (batched(X, Y).take(0), "has no images"),
        (batched(np.array([b"a"] * 12), Y), "read_images"),
        (batched((X, X), Y), r"x: must be one tensor, got .* dataset.map\(lambda x, y: \(x\[0\], y\)\)"),
        (batched({"image": X}, {"id": Y}), r"y: must be one tensor, got .*\(x\['image'\], y\['id'\]\)"),
        (tf.data.Dataset.from_tensors(({"image": X},)), r"dataset.map\(lambda x: \(x\['image'\]\)\)"),
        (
            tf.data.Dataset.from_tensors((X, tf.ragged.constant([[1], [2, 3]]))),
            "y: .* Use one label per image",
        ),
        (
            tf.data.Dataset.from_tensors((tf.ragged.constant([[1], [2, 3]]), [0, 1])),
            "Resize the images before batching",
        ),
        (batched(X, Y + 1), "batch 1, y: label 2 is 3"),
        (
            generated(lambda: iter([(X[:4], Y[:4]), (X[4:, :4], Y[4:])])),
            r"batch 2, x: has images of \(4, 8\)",
        ),
        (generated(lambda: iter([(X[:4], Y[:3])])), "has 3 labels, but x has 4 images"),
    ],
)
def test_invalid_tf_datasets_are_refused_with_the_fix(dataset, message):
    with pytest.raises(RequestError, match=message):
        TfDataset(dataset, class_names=NAMES)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["dog", "cat", "owl"], r"Create the dataset with class_names=\['cat', 'dog', 'owl'\]"),
        (["dog", "owl"], "add an empty folder for each missing class"),
        (["cat", "dog"], "read_images"),
        (np.array(["owl", "dog", "cat"]), "Create the dataset with"),
        (["ant", "bee", "cat"], "They must be equal and in the same order.$"),
        (["1", "0", "2"], "They must be equal"),
        (("cat", "dog", "owl"), None),
        (["0", "1", "2"], None),  # Keras received numbers
        (["0", "1"], None),
        (None, None),
    ],
)
def test_the_class_names_that_keras_stores_in_a_dataset_are_those_of_the_logits(own, message):
    dataset = batched(X, Y)
    dataset.class_names = own
    if message is None:
        assert TfDataset(dataset, class_names=NAMES).class_names == NAMES
        return
    with pytest.raises(RequestError, match=message):
        TfDataset(dataset, class_names=NAMES)


def test_class_names_can_be_the_indices_that_keras_stores_only_in_order():
    dataset = batched(X, Y)
    dataset.class_names = ["0", "1", "2"]
    assert as_image_dataset("test", dataset, class_names=None).class_names == ("0", "1", "2")
    with pytest.raises(RequestError, match="must be equal and in the same order"):
        as_image_dataset("test", dataset, class_names=["0", "2", "1"])


def test_errors_of_a_generator_are_reported_in_each_pass():
    with pytest.raises(RunFailed, match="raised an error: ValueError: the disk is gone"):
        TfDataset(generated(failing), class_names=NAMES)
    numbers = itertools.count()
    dataset = TfDataset(
        generated(lambda: failing() if next(numbers) else iter([(X[:4], Y[:4])])), class_names=NAMES
    )
    with pytest.raises(tf.errors.OpError) as error:
        arrays(dataset, 0)
    assert "ValueError: the disk is gone" in str(dataset.explain(error.value))


def test_a_pass_with_fewer_images_is_an_error():
    dataset = TfDataset(generated(lambda: ONCE), class_names=NAMES)
    with pytest.raises(tf.errors.OpError) as error:
        arrays(dataset, 0)
    assert "0 images in this pass, but 8 in the first. Its generator can be read only once" in str(
        dataset.explain(error.value)
    )


def test_images_that_change_between_passes_are_an_error_unless_they_are_for_training():
    numbers = itertools.count()

    def brighter():
        yield X[:4] // 2 + next(numbers), Y[:4]

    ((_, _, indices),) = arrays(TfDataset(generated(brighter), class_names=NAMES), 0)
    assert indices.tolist() == [4, 5, 6, 7]  # new images
    dataset = TfDataset(generated(brighter), class_names=NAMES, is_constant=True)
    with pytest.raises(tf.errors.OpError) as error:
        arrays(dataset, 0)
    assert "4 of 4 images of the dataset differ" in str(dataset.explain(error.value))
    arrays(TfDataset(batched(X, Y).unbatch().shuffle(12).batch(4), class_names=NAMES, is_constant=True), 0)


def test_images_that_are_sorted_by_class_are_reported(capsys):
    images, labels = np.repeat(X, 3, axis=0), np.repeat([0, 1, 2], 12)
    TfDataset(batched(images, labels).unbatch().shuffle(36, seed=0).batch(6), class_names=NAMES)
    TfDataset(batched(images, labels), class_names=NAMES, is_constant=True)
    assert "sorted" not in capsys.readouterr().err
    TfDataset(batched(images, labels), class_names=NAMES)
    assert "sorted by class" in capsys.readouterr().err


def test_what_a_tf_dataset_cannot_do_is_refused():
    dataset = TfDataset(batched(X, Y), class_names=NAMES)
    for use in (
        lambda: arrays(dataset, 0, 0, (0, 2)),
        lambda: dataset.decode(np.arange(2)),
        dataset.fingerprint,
    ):
        with pytest.raises(RequestError):
            use()
