"""One operation, built: what it draws for a batch, and what it then does to the images."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from kerastl import registry
from kerastl.augment.geometry import select_maps
from kerastl.augment.stateless_random import StatelessGenerator, SeededFactor

LARGEST_PIXEL = 255.0
Lowering = Literal["nothing", "folded", "hsv", "linear", "compiled", "layer"]
Params = dict[str, Any]


class BuiltOperation:
    """A keras-cv layer whose every random number is ours.

    Args:
        place: in its policy; operations draw independent numbers.
        name: of the operation.
        options: its options, checked.
        image_size_px: side of the square images.

    Attributes:
        needs_colour: whether grey images make no sense to it.
        lowering: how the compiler takes it: `nothing` (strength 0), `folded` (an affine map, one warp with
            its neighbours), `hsv` (one conversion with its neighbours), `linear` (a colour matrix), `compiled`
            (the layer's own code, with its neighbours in one XLA function), or `layer` (as it is, in order).
        fill_mode: what a folded operation shows outside of the image; None where it never looks there.
        compiles: whether XLA compiles the layer's own code.
        in_halves: whether its layer changes colours by way of `to_planes` and `kerastl.augment.color.from_hsv`.
        reads_neighbors: whether a pixel of its result depends on many pixels before, as in a blur or a histogram.
        saturates: whether it changes the saturation, which stops at 1.
    """

    def __init__(self, place: int, name: str, options: Any, image_size_px: int) -> None:
        # keras-cv takes seconds to import: a policy without operations does not wait for it.
        from keras_cv.core import UniformFactorSampler

        self._module: Any = registry.module("operation", name)
        self.name, self.place, self.options = name, place, options
        self.needs_color = registry.needs_color(name, options)
        self.compiles = bool(getattr(self._module, "COMPILES", False))
        self.reads_neighbors = bool(getattr(self._module, "READS_NEIGHBORS", False))
        self.saturates = bool(getattr(self._module, "SATURATES", False))
        self._size = image_size_px
        self._probability = float(options.apply_probability)
        # float32 whatever the global policy: half floats round pixels, and labels never come here.
        # The seed is never used: without one keras-cv asks for the global generator, which
        # TensorFlow refuses where operations must be deterministic.
        self._layer = self._module.build_layer(options, dtype="float32", seed=1)
        self._holds_others = hasattr(self._layer, "build_members")
        if self._holds_others:
            self._layer.build_members(image_size_px)
        self.in_halves = bool(getattr(self._layer, "in_halves", False))
        self.fill_mode: str | None = getattr(self._layer, "fill_mode", None)
        self._factors = {
            attribute: value
            for attribute, value in vars(self._layer).items()
            if isinstance(value, UniformFactorSampler)
        }
        self.lowering = self._lowering()

    def _lowering(self) -> Lowering:
        module = self._module
        if module.is_identity(self.options) or self._probability == 0.0:
            return "nothing"
        if hasattr(module, "maps"):
            return "folded"
        if hasattr(module, "hsv_change"):
            return "linear" if getattr(self.options, "model", None) == "linear" else "hsv"
        return "compiled" if self.compiles else "layer"

    @property
    def in_xla(self) -> bool:
        """Tell whether XLA compiles it, with all that it holds."""
        return self.lowering != "layer" or bool(self._holds_others and self._layer.compiles)

    def run_exactly(self) -> None:
        """Run also the operations inside of this one by their layers' own code, nothing folded, nothing compiled."""
        if self._holds_others:
            self._layer.run_exactly()

    def draw(self, generator: StatelessGenerator, images: tf.Tensor, batch_size: tf.Tensor | None = None) -> Params:
        """Return what is random about the operation for one batch.

        Args:
            draws: where the numbers come from.
            images: `[batch, size, size, channels]`; only their shape counts.
            batch_size: how many rows are drawn, scalar int32; None: one for each image.

        Returns:
            `transformations`, what keras-cv's layer asks for, and `chosen`, `[batch]` bool, where only some
            of the images are changed.
        """
        if self.lowering == "nothing":
            return {}
        self._layer._random_generator = generator
        for attribute, factor in self._factors.items():
            setattr(self._layer, attribute, SeededFactor(factor.lower, factor.upper, generator))
        batch_size = tf.shape(images)[0] if batch_size is None else batch_size
        params = self._layer.get_random_transformation_batch(batch_size, images=images)
        if self._probability == 1.0:
            return {"transformations": params}
        chosen = generator.uniform([batch_size]) < self._probability
        return {"transformations": params, "chosen": chosen}

    def apply(self, images: tf.Tensor, params: Params) -> tf.Tensor:
        """Return the changed images, by the layer's own code.

        Args:
            images: `[batch, size, size, channels]` float32 in [0, 255].
            drawn: from `draw`.
        """
        if self.lowering == "nothing":
            return images
        transformations = params["transformations"]
        if self._holds_others:
            # Its operations stay in the range, and are not run on an image that is not chosen.
            chosen = params.get("chosen")
            return self._layer.augment_images(images, transformations, chosen=chosen)
        changed = self._layer.augment_images(images, transformations=transformations)
        changed = tf.clip_by_value(changed, 0.0, LARGEST_PIXEL)
        return keep_unselected(params, changed, images)

    def to_planes(self, images: tf.Tensor, params: Params) -> tuple[tf.Tensor, ...]:
        """Return value, chroma and hue of the changed images, as `kerastl.augment.color.from_hsv` takes them."""
        planes: tuple[tf.Tensor, ...] = self._layer.to_planes(images, params["transformations"])
        return planes

    def maps(self, params: Params) -> tf.Tensor:
        """Return the affine maps of a folded operation: `[batch, 6]` float64."""
        maps = self._module.maps(params["transformations"], self._size)
        return select_maps(params["chosen"], maps) if "chosen" in params else maps

    def hsv_change(self, params: Params) -> tuple[Any, Any]:
        """Return (factor of the saturation, turn of the hue in turns), each `[batch]` or None.

        An image that is not chosen has factor 1 and turn 0.
        """
        factor, turn = self._module.hsv_change(params["transformations"])
        if "chosen" not in params:
            return factor, turn
        chosen = params["chosen"]
        return (
            None if factor is None else tf.where(chosen, factor, 1.0),
            None if turn is None else tf.where(chosen, turn, 0.0),
        )


def keep_unselected(params: Params, changed: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Return the changed images where they were chosen, elsewhere the untouched ones."""
    if "chosen" not in params:
        return changed
    return tf.where(params["chosen"][:, None, None, None], changed, images)
