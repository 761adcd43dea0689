"""Epochs of `ImageDataset`: order, resuming, shards, caches and reproducibility."""

import builtins

import keras
import numpy as np
import pytest
import tensorflow as tf
from make_images import noise, uniform_image, write
from memory_dataset import MemoryDataset

from kerastl.data import ImageDataset, Record, seeds_for
from kerastl.errors import RunFailed

COUNT, BATCH, SIZE = 21, 4, 12


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return [
        Record(f"{i}.png", write(root / f"{i}.png", noise(SIZE, SIZE, seed=i)), "ab"[i % 2])
        for i in range(COUNT)
    ]


def dataset_of(records, *, kind=MemoryDataset, **options) -> ImageDataset:
    defaults = {
        "class_names": ("a", "b"), "image_size_px": SIZE, "batch_size": BATCH, "seed": 7, "cache": "none",
    }  # fmt: skip
    return kind(records, **(defaults | options))


def read_epoch(source, epoch=0, **options):
    """Images, labels and indices of the rest of an epoch, each as one array."""
    parts = [tuple(part.numpy() for part in batch) for batch in source.indexed_batches(epoch, **options)]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def shifted(images, seeds):
    """An augmentation that adds a number per image, derived from its seed."""
    shift = tf.cast(tf.math.floormod(seeds[:, 0], 97), tf.float32)
    return images + shift[:, None, None, None]


def test_epoch_contains_every_image_once_with_its_label(records):
    source = dataset_of(records)
    images, labels, indices = read_epoch(source)
    assert images.shape == (COUNT, SIZE, SIZE, 3)
    assert (images.dtype, labels.dtype, indices.dtype) == (np.float32, np.int32, np.int64)
    assert sorted(indices) == list(range(COUNT))
    np.testing.assert_array_equal(labels, indices % 2)
    plain, _, order = read_epoch(dataset_of(records, shuffle=False))
    np.testing.assert_array_equal(order, np.arange(COUNT))
    np.testing.assert_array_equal(images, plain[indices])


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_with_own_order_gives_another_permutation(records, cache):
    source = dataset_of(records, augment=shifted, cache=cache)
    images, labels, indices = read_epoch(source, 3)
    for labeled in (True, False):
        other = source.with_own_order(labeled=labeled)
        own_images, own_labels, own_indices = read_epoch(other, 3)
        assert sorted(own_indices) == sorted(indices)
        assert (own_indices != indices).any()
        np.testing.assert_array_equal(own_images[np.argsort(own_indices)], images[np.argsort(indices)])
        expected = own_indices % 2 if labeled else np.full(COUNT, -1)
        np.testing.assert_array_equal(own_labels, expected)
        np.testing.assert_array_equal(other.labels[own_indices], expected)
        assert all((record.label is None) != labeled for record in other.records)
    np.testing.assert_array_equal(read_epoch(source, 3)[1], labels)


def test_last_batch_is_smaller_or_dropped(records):
    sizes = [len(batch[2]) for batch in dataset_of(records).indexed_batches(0)]
    assert sizes == [4, 4, 4, 4, 4, 1]
    assert dataset_of(records).steps_per_epoch == 6
    whole = dataset_of(records, drop_remainder=True)
    assert [len(batch[2]) for batch in whole.indexed_batches(0)] == [4] * 5
    assert whole.steps_per_epoch == 5


def test_order_is_a_function_of_seed_and_epoch(records):
    orders = {
        (seed, epoch): tuple(dataset_of(records, seed=seed).order(epoch))
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    generator = np.random.Generator(np.random.Philox(key=np.array([1, 1], np.uint64)))
    assert orders[1, 1] == tuple(generator.permutation(COUNT))


def test_unlabeled_images_have_label_minus_1(records):
    hidden = [Record(record.path, record.file) for record in records]
    assert set(read_epoch(dataset_of(hidden))[1]) == {-1}


def test_resuming_mid_epoch_gives_the_same_batches(records):
    source = dataset_of(records, augment=shifted)
    whole = read_epoch(source, 2)
    rest = read_epoch(source, 2, first_step=3)
    for all_of_it, part in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(all_of_it[3 * BATCH :], part)
    assert list(source.batches(2, first_step=6)) == []


def test_resuming_does_not_read_earlier_files(records, tmp_path):
    gone = [Record(record.path, tmp_path / record.path, record.label) for record in records]
    source = dataset_of(gone, kind=ImageDataset)
    late = source.order(0)[3 * BATCH :]
    for index in late:
        (tmp_path / gone[index].path).write_bytes(records[index].file.read_bytes())
    assert len(read_epoch(source, 0, first_step=3)[2]) == len(late)


@pytest.mark.parametrize(("count", "cache"), [(3, "none"), (4, "memory")])
def test_shards_partition_every_batch(records, count, cache):
    source = dataset_of(records, cache=cache, augment=shifted)
    whole = [tuple(part.numpy() for part in batch) for batch in source.indexed_batches(1)]
    shards = [list(source.indexed_batches(1, shard=(index, count))) for index in range(count)]
    assert {len(shard) for shard in shards} == {len(whole)}
    for step, batch in enumerate(whole):
        for index, shard in enumerate(shards):
            for all_of_it, part in zip(batch, shard[step], strict=True):
                np.testing.assert_array_equal(all_of_it[index::count], part.numpy())


def test_shards_resume_mid_epoch(records):
    source = dataset_of(records)
    later = [list(source.indexed_batches(0, first_step=4, shard=(index, 2))) for index in range(2)]
    assert [[len(batch[2]) for batch in shard] for shard in later] == [[2, 1], [2, 0]]


@pytest.mark.parametrize(("calls", "cache"), [(8, "none"), (None, "none"), (None, "memory")])
def test_parallel_calls_and_cache_do_not_change_images(records, calls, cache):
    plain = read_epoch(dataset_of(records, parallel_calls=1, augment=shifted), 3)
    other = read_epoch(dataset_of(records, parallel_calls=calls, cache=cache, augment=shifted), 3)
    for first, second in zip(plain, other, strict=True):
        np.testing.assert_array_equal(first, second)


def test_datasets_of_equal_size_share_a_decoder_trace(records, monkeypatch):
    from kerastl.data import decode

    traces = []

    def counted(content, *, image_size_px, **_):
        traces.append(image_size_px)
        return tf.zeros([*image_size_px, 3])

    monkeypatch.setattr(decode, "load_image", counted)
    sources = [
        dataset_of(records, kind=ImageDataset, image_size_px=size, seed=seed)
        for size, seed in ((13, 1), (13, 2), (14, 1))
    ]
    images = [read_epoch(source)[0] for source in sources]
    assert traces == [(13, 13), (14, 14)]
    assert [batch.shape[1] for batch in images] == [13, 13, 14]


def test_functions_are_traced_once_in_three_epochs(records, monkeypatch):
    traces = []

    def augment(images, seeds):
        traces.append("augment")
        return images

    source = dataset_of(records, augment=augment)
    real = source._load_one
    source._load = tf.function(lambda index: (traces.append("load"), real(index))[1], autograph=False)
    for epoch in range(3):
        read_epoch(source, epoch)
    # Batches of another size than the first may be traced once more, never once an epoch.
    assert traces.count("load") == 1
    assert traces.count("augment") <= 2
    before = len(traces)
    read_epoch(source, 3)
    assert len(traces) == before


def test_augmentation_does_not_receive_labels(records):
    seen = []

    def augment(images, seeds):
        seen.append((images.dtype, images.shape.rank, seeds.dtype, seeds.shape.rank))
        return images

    read_epoch(dataset_of(records, augment=augment))
    assert set(seen) == {(tf.float32, 4, tf.int32, 2)}


def test_augmentation_differs_between_epochs_and_repeats_for_a_seed(records):
    def shown(epoch, seed=7):
        images, _, indices = read_epoch(dataset_of(records, augment=shifted, seed=seed), epoch)
        return images[np.argsort(indices)]

    np.testing.assert_array_equal(shown(0), shown(0))
    assert (shown(0) != shown(1)).any()
    assert (shown(0) != shown(0, seed=8)).any()


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_error_names_a_file_that_becomes_unreadable(tmp_path, cache):
    files = [write(tmp_path / f"{i}.png", uniform_image(i)) for i in range(6)]
    records = [Record(f"sub/{i}.png", file, "a") for i, file in enumerate(files)]
    source = dataset_of(records, kind=ImageDataset, class_names=("a",), cache=cache)
    files[4].write_bytes(files[4].read_bytes()[:40])
    with pytest.raises((tf.errors.OpError, RunFailed)) as error:
        list(source.batches(0))
    result = error.value if isinstance(error.value, RunFailed) else source.explain(error.value)
    assert isinstance(result, RunFailed)
    assert "sub/4.png" in str(result)
    assert "truncated" in str(result)
    files[4].unlink()
    assert "the file does not exist" in str(source.explain(OSError()))


def test_memory_cache_reads_each_file_once(records, monkeypatch, tmp_path):
    copies = []
    for record in records:
        copy = tmp_path / record.path
        copy.write_bytes(record.file.read_bytes())
        copies.append(Record(record.path, copy, record.label))
    source = dataset_of(copies, kind=ImageDataset, cache="memory")
    first = read_epoch(source, 0)
    for record in copies:
        record.file.unlink()
    np.testing.assert_array_equal(np.sort(first[2]), np.sort(read_epoch(source, 1)[2]))


def test_empty_dataset_has_no_batches():
    assert list(dataset_of([]).batches(0)) == []
    assert dataset_of([]).steps_per_epoch == 0


def test_seeds_are_distinct_and_uniform():
    indices = np.arange(20_000)
    seeds = np.stack([seeds_for(3, epoch, indices).numpy() for epoch in range(3)])
    assert seeds.dtype == np.int32
    assert len({tuple(pair) for pair in seeds.reshape(-1, 2)}) == 60_000
    columns = np.concatenate([seeds[epoch].T for epoch in range(3)]).astype(np.float64)
    correlations = np.corrcoef(np.concatenate([columns, indices[None]]))
    assert np.abs(correlations - np.eye(7)).max() < 0.04
    bits = (seeds.view(np.uint32)[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < 0.02


def test_seeds_match_splitmix64_in_python():
    def mixed(state, number):
        mask = 2**64 - 1
        value = ((state ^ number) + 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    for seed, epoch, index in [(0, 0, 0), (7, 3, 12345), (2**40, 1, 2)]:
        whole = mixed(mixed(mixed(0, seed), epoch), index)
        expected = np.array([whole], np.uint64).view(np.int32)
        np.testing.assert_array_equal(seeds_for(seed, epoch, np.array([index]))[0], expected)


def test_seeds_are_the_same_in_a_graph():
    traced = tf.function(lambda epoch, indices: seeds_for(5, epoch, indices))
    indices = tf.range(10, dtype=tf.int64)
    np.testing.assert_array_equal(traced(tf.constant(2, tf.int64), indices), seeds_for(5, 2, indices))


def test_images_are_read_without_python_file_access(records, monkeypatch):
    """A Python function in the pipeline would block all threads."""
    expected = read_epoch(dataset_of(records))
    source = dataset_of(records, kind=ImageDataset)
    monkeypatch.setattr(builtins, "open", None)
    for part, other in zip(read_epoch(source), expected, strict=True):
        np.testing.assert_array_equal(part, other)


def test_batches_are_pairs_of_the_indexed_batches(records):
    """Keras would read a third element as sample weights."""
    source = dataset_of(records, augment=shifted)
    for options in ({}, {"first_step": 2}, {"shard": (1, 2)}):
        indexed = list(source.indexed_batches(1, **options))
        for pair, (images, labels, _) in zip(source.batches(1, **options), indexed, strict=True):
            assert len(pair) == 2
            np.testing.assert_array_equal(pair[0], images)
            np.testing.assert_array_equal(pair[1], labels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": False},
        {"augment": shifted, "views": 2},
        {"cache": "memory"},
        {"drop_remainder": True, "placement": "device"},
        {"mix": lambda images, labels, seeds: (images, tf.one_hot(labels, 2))},
    ],
)
def test_keras_never_gets_a_third_element(records, options):
    source = dataset_of(records, **options)
    for dataset in (
        source.batches(0),
        source.batches(1, first_step=1),
        source.as_tf_dataset(),
        source.as_tf_dataset(3),
    ):
        images, labels = dataset.element_spec
        assert images.shape[1:] == (*source.image_size_px, 3)
        assert labels.shape.rank == (2 if source.mixes else 1)


@pytest.mark.parametrize("options", [{}, {"cache": "memory", "drop_remainder": True}])
def test_each_pass_over_the_tf_dataset_is_the_next_epoch(records, options):
    source = dataset_of(records, augment=shifted, **options)
    dataset = source.as_tf_dataset()
    assert int(dataset.cardinality()) == source.steps_per_epoch == len(list(source.batches(0)))
    for epoch in range(3):
        for pair, (images, labels) in zip(dataset, source.batches(epoch), strict=True):
            np.testing.assert_array_equal(pair[0], images)
            np.testing.assert_array_equal(pair[1], labels)


def test_new_tf_dataset_starts_at_epoch_0_and_a_fixed_epoch_repeats(records):
    source = dataset_of(records, augment=shifted)
    list(source.as_tf_dataset())
    for dataset, epoch in [(source.as_tf_dataset(), 0), *[(source.as_tf_dataset(4), 4)] * 2]:
        assert int(dataset.cardinality()) == source.steps_per_epoch
        for pair, (images, labels) in zip(dataset, source.batches(epoch), strict=True):
            np.testing.assert_array_equal(pair[0], images)
            np.testing.assert_array_equal(pair[1], labels)


def linear_model():
    model = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "relu")]
    )
    model.layers[-1].set_weights(
        [np.random.default_rng(0).normal(0, 1e-3, (SIZE * SIZE * 3, 2)), np.zeros(2)]
    )
    return model


def test_keras_evaluates_every_image_with_weight_1(records):
    source, model = dataset_of(records), linear_model()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels, _ = read_epoch(source)
    logits = np.asarray(model(images), np.float64)
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_shares[np.arange(COUNT), labels].mean()
    for dataset in (source.batches(0), source.as_tf_dataset(), source.as_tf_dataset(0)):
        assert model.evaluate(dataset, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_keras_fit_sees_epoch_after_epoch(records):
    """The weights are equal to those of one `fit` call per epoch."""
    source = dataset_of(records, augment=shifted)

    def compiled():
        model = linear_model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-5), loss=loss)
        return model

    model, expected = compiled(), compiled()
    model.fit(source.as_tf_dataset(), validation_data=source.batches(0), epochs=2, shuffle=False, verbose=0)
    for epoch in range(2):
        expected.fit(source.batches(epoch), shuffle=False, verbose=0)
    for part, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(part, other)


def test_repr_is_short(records):
    assert repr(dataset_of(records, augment=shifted)) == (
        "<MemoryDataset: 21 images of 12 x 12 px, 2 classes, batch size 4, shuffle, augment>"
    )
