"""Plug-ins: one file each, found by its name.

A file has `METHOD`, its facts (`kerastl.adaptation.Method`); `Options`, a `StrictModel` with defaults; and
`build(options, **given)`, which returns its step (`kerastl.adaptation.AdaptationStep`, whose arguments `given` are: `num_classes`,
`num_features`, `seed`, `classification`, `update_statistics`); and, where its facts say `source_optional`, `build_without_source`,
likewise, for where no source image is at hand. TensorFlow is imported inside of functions only.
"""
