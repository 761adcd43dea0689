"""Keras, as in its transfer-learning guide: images cached in memory, and the base model called with `training=False`.

The default, `jit_compile="auto"`, compiles the step with XLA also on CPUs, where it slows down convolutions.
The task states which setting is used.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    from _training_peers.task import Task, print_results

    task = Task.parse(sys.argv[1:])
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(task.seed)
    builders = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50"}
    modules = {"mobilenet_v2": "mobilenet_v2", "resnet50": "resnet"}
    module = getattr(keras.applications, modules[task.backbone])

    def make_dataset(split: str) -> tf.data.Dataset:
        dataset = keras.utils.image_dataset_from_directory(
            task.folder / split, image_size=(task.size, task.size), batch_size=None,
            shuffle=split == "train" and not task.in_memory, seed=task.seed, label_mode="int", verbose=False,
        )  # fmt: skip
        if task.in_memory:
            dataset = dataset.cache()
        if split == "train" and task.in_memory:
            dataset = dataset.shuffle(10_000, seed=task.seed)
        dataset = dataset.batch(32)
        if split == "train" and task.augment:
            layers = keras.Sequential(
                [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]
            )
            dataset = dataset.map(
                lambda images, labels: (layers(images, training=True), labels),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        return dataset.prefetch(tf.data.AUTOTUNE)

    train, val = make_dataset("train"), make_dataset("val")
    base = getattr(keras.applications, builders[task.backbone])(
        include_top=False, weights=None if task.weights == "none" else task.weights,
        input_shape=(task.size, task.size, 3), **task.options,
    )  # fmt: skip
    base.trainable = task.part == "last"
    if task.part == "last":
        for layer in base.layers[: int(0.7 * len(base.layers))]:
            layer.trainable = False
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    inputs = keras.Input((task.size, task.size, 3))
    features = base(module.preprocess_input(inputs), training=False)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    outputs = keras.layers.Dense(task.classes)(keras.layers.Dropout(0.2)(pooled))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(task.rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile="auto" if task.xla == "auto" else False,
    )
    started = time.perf_counter()
    history = model.fit(train, epochs=task.epochs, validation_data=val, verbose=0)
    ended = time.perf_counter()
    weights = "random" if task.weights == "none" else "imagenet"
    print_results(started - STARTED, ended - started, history.history["val_accuracy"][-1], weights)


main()
