"""Plug-ins: one file each, found by its name.

A validator says how good an adapted model is at the target without a label from there. Its file has `VALIDATOR`, whose
`score(evidence)` is higher for what it takes to be better, and `Options` (a `StrictModel`) where it has any. None sees a
model: all they need is in `kerastl.selection.evidence.Evidence`. Each says in its file what deceives it.
"""
