"""One operation of a policy: sampling of its random parameters, and its application to images."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import tensorflow as tf

from kerastl import registry
from kerastl.augment.operation_options import is_identity
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.image_size import Size

LARGEST_PIXEL = 255.0
IDENTITY_MAP = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Lowering = Literal["identity", "folded", "hsv", "linear", "compiled", "layer"]
Params = dict[str, Any]
"""Random parameters of one operation for a batch: `transformations`, the parameters of the layer, and `chosen`, `[batch]`
bool, if only a part of the images is changed."""


class BuiltOperation:
    """A keras-cv layer that takes all random numbers from a stateless generator.

    Args:
        index: Index in its policy; operations draw independent numbers.
        name: Name of the operation.
        options: Validated options.
        image_size_px: (height, width) of the images.
        exact: Whether to run the layer, and nested ones, by itself, without combining or compiling anything.

    Attributes:
        needs_color: Whether it requires color images.
        lowering: How it runs: `identity` (not at all), `folded` (an affine map, combined with adjacent ones),
            `hsv` (in HSV space, with adjacent ones), `linear` (a color matrix), `compiled` (the layer,
            compiled together with adjacent ones), or `layer` (the layer by itself).
        fill_mode: How a folded operation fills pixels outside the image; None if it never needs them.
        compiles: Whether XLA compiles the layer.
        in_halves: Whether the layer changes colors by `to_planes` and `kerastl.augment.color.from_hsv`.
        reads_neighbors: Whether each result pixel depends on many input pixels, as in a blur or a histogram.
        saturates: Whether it changes the saturation, which is clipped at 1.
    """

    def __init__(
        self, index: int, name: str, options: Any, image_size_px: Size, *, exact: bool = False
    ) -> None:
        # keras-cv takes seconds to import, so that an empty policy avoids it.
        from keras_cv.core import UniformFactorSampler

        self._module: Any = registry.module("operation", name)
        self.name, self.index, self.options = name, index, options
        self.needs_color = registry.needs_color(name, options)
        self.compiles = bool(getattr(self._module, "COMPILES", False))
        self.reads_neighbors = bool(getattr(self._module, "READS_NEIGHBORS", False))
        self.saturates = bool(getattr(self._module, "SATURATES", False))
        self._size = image_size_px
        self._probability = float(options.apply_probability)
        # float32 under every global policy, because float16 rounds pixels. The seed is unused; without one keras-cv
        # creates a global generator, which TensorFlow refuses with deterministic operations.
        self._layer = self._module.build_layer(options, dtype="float32", seed=1)
        self._is_container = hasattr(self._layer, "build_members")
        if self._is_container:
            self._layer.build_members(image_size_px, exact=exact)
        self.in_halves = bool(getattr(self._layer, "in_halves", False))
        self.fill_mode: str | None = getattr(options, "fill_mode", None)
        self._factors = {
            attribute: value
            for attribute, value in vars(self._layer).items()
            if isinstance(value, UniformFactorSampler)
        }
        self.lowering = self._lowering(exact=exact)

    def _lowering(self, *, exact: bool) -> Lowering:
        if is_identity(self.name, self.options):
            return "identity"
        if exact:
            return "layer"
        if hasattr(self._module, "maps"):
            return "folded"
        if hasattr(self._module, "hsv_change"):
            return "linear" if getattr(self.options, "model", None) == "linear" else "hsv"
        return "compiled" if self.compiles else "layer"

    @property
    def in_xla(self) -> bool:
        """Whether XLA compiles the operation and all nested ones."""
        return self.lowering != "layer" or bool(self._is_container and self._layer.compiles)

    def sample(
        self, generator: StatelessGenerator, images: tf.Tensor, batch_size: tf.Tensor | None = None
    ) -> Params:
        """Sample the random parameters for one batch.

        Args:
            generator: The source of random numbers.
            images: `[batch, height, width, channels]`; only the shape is used.
            batch_size: Number of rows, a scalar int32; None means one per image.
        """
        if self.lowering == "identity":
            return {}
        self._layer._random_generator = generator
        for attribute, factor in self._factors.items():
            numbers = partial(generator.uniform, minval=factor.lower, maxval=factor.upper)
            setattr(self._layer, attribute, numbers)
        batch_size = tf.shape(images)[0] if batch_size is None else batch_size
        params = {"transformations": self._layer.get_random_transformation_batch(batch_size, images=images)}
        if self._probability == 1.0:
            return params
        return self.restrict(params, generator.uniform([batch_size]) < self._probability)

    def restrict(self, params: Params, chosen: tf.Tensor) -> Params:
        """Return the parameters restricted to the images that are `chosen`, `[batch]` bool."""
        if self.lowering == "identity":
            return params
        if self._is_container:
            # Nested operations do not run for an image that is not chosen.
            return {"transformations": self._layer.restrict(params["transformations"], chosen)}
        return {**params, "chosen": params["chosen"] & chosen if "chosen" in params else chosen}

    def apply(self, images: tf.Tensor, params: Params) -> tf.Tensor:
        """Return the images after the layer; images are `[batch, height, width, channels]` float32 in [0, 255]."""
        if self.lowering == "identity":
            return images
        changed = self._layer.augment_images(images, transformations=params["transformations"])
        if self._is_container:
            return changed  # Nested operations clip by themselves.
        return keep_unselected(params, tf.clip_by_value(changed, 0.0, LARGEST_PIXEL), images)

    def to_planes(self, images: tf.Tensor, params: Params) -> tuple[tf.Tensor, ...]:
        """Return value, chroma and hue of the changed images, the arguments of `kerastl.augment.color.from_hsv`."""
        return self._layer.to_planes(images, params["transformations"])

    def maps(self, params: Params) -> tf.Tensor:
        """Return the affine maps of a folded operation, `[batch, 6]` float64."""
        maps = self._module.maps(params["transformations"], self._size)
        if "chosen" not in params:
            return maps
        return tf.where(params["chosen"][:, None], maps, tf.constant([IDENTITY_MAP], maps.dtype))

    def hsv_change(self, params: Params) -> tuple[Any, Any]:
        """Return (saturation factor, hue shift in turns), each `[batch]`."""
        factor, shift = self._module.hsv_change(params["transformations"])
        if "chosen" not in params:
            return factor, shift
        return tf.where(params["chosen"], factor, 1.0), tf.where(params["chosen"], shift, 0.0)


def keep_unselected(params: Params, changed: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Return the changed images where chosen, and the original images elsewhere."""
    if "chosen" not in params:
        return changed
    return tf.where(params["chosen"][:, None, None, None], changed, images)
