"""AugMix, drawn for the whole batch, with all of its operations.

keras-cv 0.9.0's turns images by up to 9 radians where 30 degrees are meant, numbers nine operations and draws the first
eight, takes its weights from the global generator, and draws while it changes the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras_cv.layers import VectorizedBaseImageAugmentationLayer

from kerastl.augment.color import Pass
from kerastl.augment.operation import LARGEST_PIXEL, BuiltOperation, Params
from kerastl.augment.policy import Compiled, compiled
from kerastl.augment.stateless_random import StatelessGenerator
from kerastl.recipe import Operation

TOGETHER = 8
"""Images that XLA takes in one launch: a launch takes as long as changing a small image."""
Maker = Callable[[Sequence[BuiltOperation]], Compiled]


class Container(VectorizedBaseImageAugmentationLayer):
    """Base of layers that hold operations.

    Args:
        operations: what it holds.
        kwargs: `dtype` and `seed`, for keras-cv.

    Attributes:
        members: what it holds, built.
        compiles: whether XLA compiles the whole of it.
    """

    compiles = False

    def __init__(self, operations: Sequence[Operation], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._held = tuple((one.name, one.options) for one in operations)

    def build_members(self, image_size_px: int) -> None:
        """Build what it holds, once, before anything is drawn.

        Args:
            image_size_px: side of the square images.
        """
        self.members = tuple(
            BuiltOperation(place, name, options, image_size_px)
            for place, (name, options) in enumerate(self._held)
        )
        self.connect(compiled, compiles=all(one.in_xla for one in self.members))

    def run_exactly(self) -> None:
        """Run the layers' own code from now on, as reference: nothing folded, nothing compiled."""
        for one in self.members:
            one.run_exactly()
        self.connect(_one_after_the_other, compiles=False)

    def connect(self, how: Maker, *, compiles: bool) -> None:  # noqa: ARG002 - those that fill it in need them
        """Make the functions that change images.

        Args:
            how: from operations to a function that does them, as `kerastl.augment.policy.compiled`.
            compiles: whether XLA compiles all of them.
        """
        raise AssertionError(f"{type(self).__name__} does not say how it runs")


def _one_after_the_other(operations: Sequence[BuiltOperation]) -> Compiled:
    """Return a function that does all operations, each by its layer's own code."""
    return Compiled([(Pass(lambda params: params[0], one.apply), [at]) for at, one in enumerate(operations)])


def image_by_image(
    change: Callable[[tf.Tensor, Any], tf.Tensor], *, compiles: bool
) -> Callable[[tf.Tensor, Any], tf.Tensor]:
    """Return a function that changes each image of a batch by itself.

    Args:
        change: `(image, own) -> image`, `[1, size, size, channels]` float32 and its own row of all numbers.
        compiles: whether XLA compiles it. It then does so once, for `TOGETHER` images in one launch, whatever the
            size of the batch: the last image is repeated to fill up.

    Returns:
        `run(images, numbers) -> images`; tensors of numbers have rows by example.
    """

    def loop(images: tf.Tensor, numbers: Any) -> tf.Tensor:
        def changed(one: tuple[tf.Tensor, Any]) -> tf.Tensor:
            return change(one[0][None], one[1])[0]

        spec = tf.TensorSpec(images.shape[1:], tf.float32)
        return tf.map_fn(changed, (images, numbers), fn_output_signature=spec)

    some = tf.function(loop, jit_compile=True, autograph=False)

    def in_parts(images: tf.Tensor, numbers: Any) -> tf.Tensor:
        count, shape = tf.shape(images)[0], images.shape[1:]
        parts = (count + TOGETHER - 1) // TOGETHER
        places = tf.reshape(tf.range(parts * TOGETHER), [parts, TOGETHER])

        def part(rows: tf.Tensor) -> tf.Tensor:
            own = tf.nest.map_structure(lambda each: tf.gather(each, rows), (images, numbers))
            return tf.ensure_shape(some(*own), [TOGETHER, *shape])

        spec = tf.TensorSpec([TOGETHER, *shape], tf.float32)
        changed = tf.map_fn(part, tf.minimum(places, count - 1), fn_output_signature=spec)
        return tf.reshape(changed, [-1, *shape])[:count]

    return tf.function(in_parts if compiles else loop, autograph=False, reduce_retracing=True)


class Choice:
    """One of several operations for each image; nothing at all may be one of them.

    Args:
        members: operations; drawn equally often.
        with_nothing: whether nothing at all is drawn as often as each member.
        how: from operations to a function that does them, as `kerastl.augment.policy.compiled`.
    """

    def __init__(self, members: Sequence[BuiltOperation], *, with_nothing: bool, how: Maker) -> None:
        self._members = members
        self._with_nothing = with_nothing
        self._runs = [how([one]) for one in members]

    def draw(self, generator: StatelessGenerator, images: tf.Tensor, batch_size: tf.Tensor, times: int) -> Params:
        """Return what is random.

        Args:
            draws: where the numbers come from: the k-th time from `child(k)`, and member m there from its `child(m)`.
            images: `[batch, size, size, channels]`; only their shape counts. Members that need colour are not
                drawn for images of one channel.
            batch_size: scalar int32.
            times: how often each image is drawn for.

        Returns:
            `which`, `[batch, times]` int32, 0 for nothing and m + 1 for member m; `numbers`, of each member what it
            asks for, `[batch, times, ...]`.
        """
        grey, rows = images.shape[-1] == 1, batch_size * times
        generator = generator.children(times)
        able = [place for place, one in enumerate(self._members) if not (grey and one.needs_color)]
        choices = [0] * self._with_nothing + [place + 1 for place in able]
        place = tf.cast(generator.uniform([rows]) * len(choices), tf.int32)
        which = tf.gather(tf.constant(choices), tf.minimum(place, len(choices) - 1))
        numbers = [
            self._runs[at].prepare([one.draw(generator.child(at), images, rows)]) if at in able else []
            for at, one in enumerate(self._members)
        ]

        def by_image(each: tf.Tensor) -> tf.Tensor:
            apart = tf.reshape(each, [times, batch_size, *each.shape[1:]])
            return tf.transpose(apart, [1, 0, *range(2, apart.shape.rank)])

        return tf.nest.map_structure(by_image, {"which": which, "numbers": numbers})

    def change(self, image: tf.Tensor, own: Params, first: Any, times: int) -> tf.Tensor:
        """Return one image, changed some times.

        Args:
            image: `[1, size, size, channels]` float32.
            own: the image's row of what `draw` returned.
            first: which of the draws is the first one that counts, scalar int32.
            times: how many draws count.
        """

        def once(time: tf.Tensor, so_far: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return time + 1, self._once(so_far, own, first + time)

        # A loop: written out, XLA would compile every operation so many times.
        _, changed = tf.while_loop(lambda time, _: time < times, once, (tf.constant(0), image))
        return tf.ensure_shape(changed, image.shape)

    def _once(self, image: tf.Tensor, own: Params, time: tf.Tensor) -> tf.Tensor:
        def branch(member: int) -> Callable[[], tf.Tensor]:
            def does() -> tf.Tensor:
                numbers = tf.nest.map_structure(lambda each: each[time][None], own["numbers"][member])
                return self._runs[member].change(image, numbers)

            return does

        def nothing() -> tf.Tensor:
            return tf.identity(image)

        # A member that is not able has no numbers, and is never asked.
        branches = [branch(at) if own["numbers"][at] else nothing for at in range(len(self._members))]
        return tf.switch_case(own["which"][time], [nothing, *branches])


def only_chosen(params: Params, chosen: tf.Tensor | None) -> Params:
    """Return the same draws, with nothing where an image is not chosen.

    Args:
        drawn: from `Choice.draw`.
        chosen: `[batch]` bool; None: all are.
    """
    if chosen is None:
        return params
    return {**params, "which": tf.where(chosen[:, None], params["which"], 0)}


def flat_dirichlet(generator: StatelessGenerator, batch_size: Any, count: int) -> tf.Tensor:
    """Return shares from Dirichlet(1, ..., 1): the gaps between uniform numbers put in order.

    No logarithm is asked, whose last digit TensorFlow gives by the size of the batch.

    Args:
        draws: where the numbers come from.
        batch_size: scalar int32.
        count: of the shares, at least 1.

    Returns:
        `[batch, count]` float32 in [0, 1]; the sum of a row is 1.
    """
    if count == 1:
        return tf.ones([batch_size, 1])
    cuts = tf.sort(generator.uniform([batch_size, count - 1]), axis=1)
    edges = tf.pad(tf.pad(cuts, [[0, 0], [1, 0]]), [[0, 0], [0, 1]], constant_values=1.0)
    return edges[:, 1:] - edges[:, :-1]


class AugMix(Container):
    """Mix each image with the ends of some chains of operations.

    Args:
        operations: what the links of the chains are drawn from.
        num_chains: how many chains.
        max_depth: most operations in a chain; each number from 1 on equally often.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self, operations: Sequence[Operation], *, num_chains: int, max_depth: int, **kwargs: Any
    ) -> None:
        super().__init__(operations, **kwargs)
        self.num_chains, self.max_depth = num_chains, max_depth

    def connect(self, how: Maker, *, compiles: bool) -> None:
        """Make the functions that change images."""
        self._choice = Choice(self.members, with_nothing=False, how=how)
        self._run = image_by_image(self._change, compiles=compiles)

    def get_random_transformation_batch(
        self, batch_size: Any, images: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Return what is random.

        Returns:
            `links`, from `Choice.draw`, for each chain its links, nothing beyond its end; `weights`,
            `[batch, num_chains]` float32, the share of each chain in the result: the image has the rest.
        """
        generator, shape = self._random_generator, [batch_size, self.num_chains]
        depths = 1.0 + tf.floor(generator.uniform(shape) * self.max_depth)
        own = generator.uniform([batch_size, 1])
        weights = (1.0 - own) * flat_dirichlet(generator, batch_size, self.num_chains)
        count = self.num_chains * self.max_depth
        links = self._choice.draw(generator, images, batch_size, count)
        within = tf.range(self.max_depth, dtype=tf.float32) < depths[:, :, None]
        links["which"] = tf.where(tf.reshape(within, [-1, count]), links["which"], 0)
        return {"links": links, "weights": weights}

    def augment_images(
        self, images: tf.Tensor, transformations: dict[str, Any], chosen: tf.Tensor | None = None, **_: Any
    ) -> tf.Tensor:
        """Return the mixed images; `chosen`, `[batch]` bool, says which may be changed (None: all)."""
        params = {**transformations, "links": only_chosen(transformations["links"], chosen)}
        return tf.ensure_shape(self._run(images, params), images.shape)

    def _change(self, image: tf.Tensor, own: dict[str, Any]) -> tf.Tensor:
        def mixed_in(chain: tf.Tensor, so_far: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = chain * self.max_depth
            end = self._choice.change(image, own["links"], first, self.max_depth)
            # Moved towards each end by its weight: what all chains leave alone keeps its bytes.
            return chain + 1, so_far + own["weights"][chain] * (end - image)

        start = (tf.constant(0), image)
        _, mixed = tf.while_loop(lambda chain, _: chain < self.num_chains, mixed_in, start)
        # Rounding can carry the sum over an end of the range.
        return tf.clip_by_value(mixed, 0.0, LARGEST_PIXEL)


class SomeOf(Container):
    """Do so many operations to each image, each time one of those it holds, each equally often.

    Args:
        operations: what it holds; none twice.
        num_operations: how many each image gets, one after the other.
        with_nothing: whether to do nothing is one of them, too.
        kwargs: `dtype` and `seed`, for keras-cv.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        num_operations: int = 1,
        with_nothing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(operations, **kwargs)
        self.num_operations = num_operations
        self.with_nothing = with_nothing

    def connect(self, how: Maker, *, compiles: bool) -> None:
        """Make the functions that change images."""
        self._choice = Choice(self.members, with_nothing=self.with_nothing, how=how)
        self._run = image_by_image(self._change, compiles=compiles)

    def get_random_transformation_batch(self, batch_size: Any, images: Any = None, **_: Any) -> Params:
        """Return what `Choice.draw` does, `num_operations` times."""
        return self._choice.draw(self._random_generator, images, batch_size, self.num_operations)

    def augment_images(
        self, images: tf.Tensor, transformations: Params, chosen: tf.Tensor | None = None, **_: Any
    ) -> tf.Tensor:
        """Return the changed images; `chosen`, `[batch]` bool, says which may be (None: all)."""
        changed = self._run(images, only_chosen(transformations, chosen))
        return tf.ensure_shape(changed, images.shape)

    def _change(self, image: tf.Tensor, own: Params) -> tf.Tensor:
        return self._choice.change(image, own, 0, self.num_operations)
