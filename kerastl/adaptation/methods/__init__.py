"""Plug-ins: one file each, found by its name.

A file has `METHOD`, its facts (`kerastl.adaptation.Method`); `Options`, a frozen dataclass with defaults; and
`build(options, **given)`, which returns its step (`kerastl.adaptation.AdaptationStep`, whose arguments `given` are: `num_classes`,
`num_features`, `seed`, `classification`, `follow_statistics`). TensorFlow is imported inside of functions only.
"""
