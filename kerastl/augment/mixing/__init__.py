"""Mixing operations, one per file, found by file name.

A mixing defines the weight of the partner image at each pixel; `kerastl.augment.mixer` does the rest. Its
file has `Options` (a `StrictModel` with the field `alpha`, where 0 is the identity, and the last field
`apply_probability`), and `build_weights(options, image_size_px=(height, width))`, which is called if `alpha` is not 0.
It returns a function `(generator, batch_size) -> weights`: `[batch, height, width, 1]` float32 in [0, 1], or
`[batch, 1, 1, 1]` if the weight is uniform. All random numbers come from `generator.uniform`.
"""
