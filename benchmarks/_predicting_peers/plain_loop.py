"""Predict a folder with a SavedModel in a plain tf.data loop.

    python plain_loop.py SAVED_MODEL FOLDER OUT.csv

It does not check the model or the images, and stops at the first unreadable image.
"""

import csv
import sys
from pathlib import Path

import tensorflow as tf

BATCH_SIZE = 32

saved_model, folder, out = sys.argv[1:]
loaded = tf.saved_model.load(saved_model)
serve = loaded.signatures["serving_default"]
paths = sorted(str(path) for path in Path(folder).iterdir())
dataset = tf.data.Dataset.from_tensor_slices(paths)
dataset = dataset.map(lambda path: (path, tf.io.read_file(path)), num_parallel_calls=tf.data.AUTOTUNE)
with Path(out).open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    for names, image_bytes in dataset.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE):
        outputs = serve(image_bytes=image_bytes)
        rows = zip(names.numpy(), outputs["predicted"].numpy(), outputs["probabilities"].numpy(), strict=True)
        writer.writerows([name.decode(), predicted.decode(), *row] for name, predicted, row in rows)
