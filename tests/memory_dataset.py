"""The image dataset of the package without its decoder, for tests in which decoding is not the subject."""

import numpy as np
import tensorflow as tf
from PIL import Image

from kerastl.data import ImageDataset


class MemoryDataset(ImageDataset):
    """Reads its images with Pillow instead of the decoding graph, which takes seconds to trace.

    They are cached unless requested otherwise, so that a pass does not load them one by one. Order, shards, augmentation, mixing, fingerprints and placement are those of the base class. 16-bit images are not
    supported.
    """

    _pixels = None

    def __init__(self, records, **options):
        super().__init__(records, **{"cache": "memory"} | options)

    def _load_one(self, index):
        if self._pixels is None:
            height, width = self.image_size_px
            images = [Image.open(record.file).convert("RGB") for record in self.records]
            images = [np.asarray(image.resize((width, height)), np.float32) for image in images]
            self._pixels = np.reshape(images, (-1, height, width, 3)).astype(np.float32)
        return tf.gather(self._pixels, index), index
