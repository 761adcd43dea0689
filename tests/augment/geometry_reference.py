"""Helpers for tests of geometry and compilation: photographs, and maps computed with NumPy."""

import numpy as np
import tensorflow as tf
from PIL import Image
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_sample_image

from kerastl.augment import build_policy
from kerastl.augment.geometry import neighbors, resample, source_coordinates
from kerastl.augment.stateless_random import StatelessGenerator

SIZE_PX = (56, 72)
SCIPY_MODES = {"reflect": "reflect", "nearest": "nearest", "constant": "grid-constant"}
"""SciPy's names of the same rules."""


def pair(size_px):
    """Return (height, width), given it or a side length."""
    return (size_px, size_px) if isinstance(size_px, int) else size_px


def photos(size_px=SIZE_PX):
    """Return two photographs: `[2, height, width, 3]` float32 of whole levels."""
    cuts = [load_sample_image(name)[:420, 100:520] for name in ("flower.jpg", "china.jpg")]
    height, width = pair(size_px)
    small = [np.asarray(Image.fromarray(cut).resize((width, height))) for cut in cuts]
    return np.stack(small).astype(np.float32)


def sample_images(count, size_px=SIZE_PX):
    """Return photographs and noise by turns: `[count, height, width, 3]` float32."""
    noise = np.random.default_rng(0).uniform(0, 255, (1, *pair(size_px), 3)).astype(np.float32)
    kinds = np.concatenate([photos(size_px), noise])
    return kinds[np.arange(count) % len(kinds)]


def seeds(count, first=0):
    """Return the seeds of neighboring examples: `[count, 2]` int32."""
    return np.stack([np.arange(first, first + count), np.full(count, 7)], 1).astype(np.int32)


def warp(images, maps, *, fill_mode):
    """Resample each image by its map, as a policy does in three compiled functions."""
    positions = source_coordinates(maps, *images.shape[1:3], fill_mode=fill_mode)
    return resample(images, *neighbors(*positions, fill_mode=fill_mode), fill_mode=fill_mode)


def both(operations, images, first=0):
    """Return what the compiled and the exact policy make of the images."""
    return [
        build_policy(operations, image_size_px=images.shape[1:3], channels=images.shape[-1], exact=exact)(
            images, seeds(len(images), first)
        ).numpy()
        for exact in (False, True)
    ]  # fmt: skip


def sampled_params(policy, images, first=0):
    """Return what each operation of a policy draws for the images, as NumPy arrays."""
    rows = seeds(len(images), first)
    params = [
        operation.sample(StatelessGenerator(rows, operation.index), tf.constant(images))
        for operation in policy._operations
    ]
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), params)


def matrix(name, params, row, size_px):
    """Return the matrix `[3, 3]`, float64, from output to input pixel coordinates (x, y, 1)."""
    if not params.get("chosen", np.ones(row + 1, bool))[row]:
        return np.eye(3)
    params = {key: float(np.ravel(values[row])[0]) for key, values in params["transformations"].items()}  # fmt: skip
    return MATRICES[name](params, size_px)


def keep_center(linear, size_px):
    middle = (np.array(size_px[::-1]) - 1) / 2
    whole = np.eye(3)
    whole[:2, :2] = linear
    whole[:2, 2] = middle - np.asarray(linear) @ middle
    return whole


def _rotation(params, size_px):
    cosine, sine = np.cos(params["angles"]), np.sin(params["angles"])
    return keep_center([[cosine, -sine], [sine, cosine]], size_px)


def _shear(params, size_px):
    along_x, along_y = [[1, params["slopes_x"]], [0, 1]], [[1, 0], [params["slopes_y"], 1]]
    return keep_center(np.array(along_x) @ np.array(along_y), size_px)


def _translation(params, size_px):
    shift = [params["width_translations"] * size_px[1], params["height_translations"] * size_px[0]]
    return np.array([[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1]])


def _flip(params, size_px):
    signs = [-1 if params[f"flip_{way}"] > 0.5 else 1 for way in ("horizontals", "verticals")]
    return keep_center(np.diag(signs), size_px)


def _window(top, left, height, width, size_px):
    return np.array([[width / (size_px[1] - 1), 0, left], [0, height / (size_px[0] - 1), top], [0, 0, 1]])


def _crop(params, size_px):
    return _window(params["tops"], params["lefts"], params["heights"] - 1, params["widths"] - 1, size_px)


def _crop_and_resize(params, size_px):
    down, across = np.array(size_px) - 1
    height, width = (
        np.sqrt(params["areas"] / params["aspects"]) * down,
        np.sqrt(params["areas"] * params["aspects"]) * across,
    )
    top, left = params["tops"] * (down - height), params["lefts"] * (across - width)
    return _window(top, left, height, width, size_px)


MATRICES = {
    "random_rotation": _rotation,
    "random_zoom": lambda params, size: keep_center(
        np.diag([params["width_zooms"], params["height_zooms"]]), size
    ),
    "random_shear": _shear,
    "random_translation": _translation,
    "random_flip": _flip,
    "random_crop": _crop,
    "random_crop_and_resize": _crop_and_resize,
}


def positions(whole, size_px):
    """Return the (x, y) that each pixel of the result shows: `[2, height, width]` float64."""
    y, x = np.mgrid[0 : size_px[0], 0 : size_px[1]].astype(np.float64)
    return np.einsum("ij,jyx->iyx", whole, np.stack([x, y, np.ones_like(x)]))[:2]


def tiled(position, size_px):
    """Return positions folded back into a row of equal images."""
    inside = position % size_px
    return np.where(inside > size_px - 1, np.where(position < 0, size_px - 1, 0), inside)


def by_scipy(image, whole, fill_mode, order=1):
    """Return an image through a map, by `scipy.ndimage.map_coordinates`: order 1 is bilinear, 3 a cubic spline."""
    size_px = image.shape[:2]
    x, y = positions(whole, size_px)
    if fill_mode == "wrap":
        x, y = tiled(x, size_px[1]), tiled(y, size_px[0])
    mode = SCIPY_MODES.get(fill_mode, "nearest")
    channels = [
        map_coordinates(image[..., channel].astype(np.float64), [y, x], order=order, mode=mode)
        for channel in range(image.shape[-1])
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255)
