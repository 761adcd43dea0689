"""TF Serving's Classify asks for a signature of its own kind; Keras and TensorFlow 2 name every signature `predict`."""

from __future__ import annotations

from pathlib import Path

CLASSIFY = "tensorflow/serving/classify"
GRAPH, FINGERPRINT = "saved_model.pb", "fingerprint.pb"


def name_classify(folder: Path) -> None:
    """Name the method of the signature `classify` in a SavedModel that was just written, and take its fingerprint anew."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    file = folder / GRAPH
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(file.read_bytes())
    for meta in saved.meta_graphs:
        meta.signature_def["classify"].method_name = CLASSIFY
    file.write_bytes(saved.SerializeToString(deterministic=True))
    (folder / FINGERPRINT).write_bytes(fingerprinting.CreateFingerprintDef(str(folder)))
