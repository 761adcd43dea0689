"""Plug-ins: one file each, found by its name.

A mixing says how much of each pixel an image gets from its partner; `kerastl.augment.mixer` does the rest. Its file has
`Options` (a `StrictModel` with the last field `apply_probability`), `is_identity(options)`, and
`build_share(options, image_size_px=...)`, which returns `share(generator, batch_size)`: `[batch, size, size, 1]` float32 in
[0, 1], or `[batch, 1, 1, 1]` where every pixel has the same share. It takes its numbers from `generator.uniform` alone.
"""
