"""Squares and discs, and the same from a camera with less contrast and more brightness."""

import numpy as np

SIZE_PX = 32
NAMES = ("square", "disc")


def images(count, seed, *, target, contrast=0.75, brightness=60.0):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    for label in np.arange(count) % 2:
        row, column = generator.uniform(10, 22, 2)
        radius = generator.uniform(5, 8)
        if label:
            inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        else:  # a square of the same area
            half = radius * np.sqrt(np.pi) / 2
            inside = (abs(rows - row) < half) & (abs(columns - column) < half)
        image = 60.0 + 80.0 * inside[..., None] + generator.normal(0, 15, (SIZE_PX, SIZE_PX, 3))
        if target:
            image = 77.0 + contrast * (image - 77.0) + brightness
        yield np.clip(image, 0, 255).astype(np.uint8), label


def write_shapes(folder, count, seed, *, target, batch_size=32):
    """Write random images and return their dataset; all are labeled, so that tests can measure accuracy."""
    from memory_dataset import MemoryDataset
    from PIL import Image

    from kerastl.data import Record

    folder.mkdir(exist_ok=True)
    records = []
    for number, (image, label) in enumerate(images(count, seed, target=target)):
        file = folder / f"{seed}_{number}.png"
        Image.fromarray(image).save(file)
        records.append(Record(file.name, file, NAMES[label]))
    return MemoryDataset(records, class_names=NAMES, image_size_px=SIZE_PX, batch_size=batch_size, seed=seed)


def make_shape_model(seed=1):
    from kerastl.models import build_backbone, build_model

    backbone = build_backbone("small_cnn", weights="none", image_size_px=SIZE_PX, seed=seed)
    return build_model(backbone, class_names=NAMES, dropout=0.2, seed=seed)


def accuracy(model, source):
    correct = [
        (np.asarray(model(images, training=False)).argmax(axis=1) == labels.numpy()).sum()
        for images, labels in source.batches(0)
    ]
    return sum(correct) / source.num_examples
