"""Names that the files beside a model and the files in it must agree on."""

from __future__ import annotations

MODEL_NAME = "kerastl"
"""Of every model in TF Serving: the last part of its address, `/v1/models/kerastl`."""

SERVER_IMAGE = "tensorflow/serving:2.21.0"
"""The official image, with the TensorFlow that models are exported by; it is built for x86-64 only."""
