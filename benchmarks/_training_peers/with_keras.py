"""Keras alone, as its guide to transfer learning does it: pictures cached in memory, the base with training=False."""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    from _training_peers.task import Task, tell

    task = Task.parsed(sys.argv[1:])
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(task.seed)
    builders = {"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50"}
    modules = {"mobilenet_v2": "mobilenet_v2", "resnet50": "resnet"}
    rules = getattr(keras.applications, modules[task.backbone])

    def pictures(split: str) -> tf.data.Dataset:
        found = keras.utils.image_dataset_from_directory(
            task.folder / split, image_size=(task.size, task.size), batch_size=None,
            shuffle=False, label_mode="int", verbose=False,
        ).cache()  # fmt: skip
        if split == "train":
            found = found.shuffle(10_000, seed=task.seed)
        found = found.batch(32)
        if split == "train" and task.augment:
            layers = keras.Sequential(
                [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]
            )
            found = found.map(
                lambda images, labels: (layers(images, training=True), labels),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        return found.prefetch(tf.data.AUTOTUNE)

    train, val = pictures("train"), pictures("val")
    base = getattr(keras.applications, builders[task.backbone])(
        include_top=False, weights=task.weights if task.weights != "none" else None,
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
    features = base(rules.preprocess_input(inputs), training=False)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    outputs = keras.layers.Dense(task.classes)(keras.layers.Dropout(0.2)(pooled))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(task.rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    begun = time.perf_counter()
    history = model.fit(train, epochs=task.epochs, validation_data=val, verbose=0)
    ended = time.perf_counter()
    tell(begun - STARTED, ended - begun, history.history["val_accuracy"][-1])


main()
