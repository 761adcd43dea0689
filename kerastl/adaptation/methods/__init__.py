"""Adaptation methods, one file each; the file name is the name of the method.

A file holds `METHOD` (its properties, a `kerastl.adaptation.Method`), `Options` (a `StrictModel` with
defaults) and `build(options, **step_arguments)`, which returns an `AdaptationStep`; `step_arguments` are
those of `AdaptationStep`. If `METHOD.source_optional` is set, `build_without_source` does the same for
training without source images. TensorFlow is imported only inside functions.
"""
