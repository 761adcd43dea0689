"""The resize rules in Pillow and integer arithmetic, as a program without TensorFlow implements them."""

import numpy as np
from PIL import Image


def rounded(number, numerator, denominator):
    """Return `number * numerator / denominator`, rounded half up, at least 1."""
    return max(1, (2 * number * numerator + denominator) // (2 * denominator))


def by_pillow(image, size, rule):
    """Return an image `[h, w, 3]` float32, resized by Pillow in float32."""
    (tall, wide), (height, width) = image.shape[:2], size
    channels = [Image.fromarray(np.ascontiguousarray(image[..., channel])) for channel in range(3)]
    if rule == "crop":
        down, across = min(tall, rounded(height, wide, width)), min(wide, rounded(width, tall, height))
        top, left = (tall - down) // 2, (wide - across) // 2
        channels = [channel.crop((left, top, left + across, top + down)) for channel in channels]
    down, across = height, width
    if rule == "pad":
        down, across = min(height, rounded(tall, width, wide)), min(width, rounded(wide, height, tall))
    inner = [channel.resize((across, down), Image.Resampling.BILINEAR) for channel in channels]
    padded = np.zeros((height, width, 3), np.float32)
    top, left = (height - down) // 2, (width - across) // 2
    padded[top : top + down, left : left + across] = np.stack(inner, axis=-1)
    return padded
