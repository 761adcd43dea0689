"""TF Serving's Classify asks for a signature of its own kind; Keras and TensorFlow 2 name every signature `predict`."""

from __future__ import annotations

from pathlib import Path

from kerastl.export.graph_file import GRAPH, read_graph

CLASSIFY = "tensorflow/serving/classify"
FINGERPRINT = "fingerprint.pb"


def name_classify(folder: Path) -> None:
    """Name the method of the signature `classify` in a SavedModel that was just written, and take its fingerprint anew."""
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    saved = read_graph(folder)
    for meta in saved.meta_graphs:
        meta.signature_def["classify"].method_name = CLASSIFY
    (folder / GRAPH).write_bytes(saved.SerializeToString(deterministic=True))
    (folder / FINGERPRINT).write_bytes(fingerprinting.CreateFingerprintDef(str(folder)))
