"""A server of KServe's own Python package: `python kserve_server.py MODELS.json`. It prints its port and serves until it ends.

MODELS.json has the name of each model, and its folder and format: a SavedModel, or a file with `load`, as in
`kerastl/export/formats`. KServe leaves the conversion of a request to tensors to the model; here, it is the same as in
TensorFlow Serving and Triton. A model without a folder is never ready. The server listens on 127.0.0.1 only.
"""

import base64
import importlib.util
import json
import socket
import sys
from pathlib import Path

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer


class Served(Model):
    def __init__(self, name, run):
        super().__init__(name)
        self.run = run
        self.ready = run is not None

    def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            outputs = []
            for name, values in self.run(payload.inputs[0].as_numpy()).items():
                output = InferOutput(
                    name, list(values.shape), "FP32" if values.dtype == np.float32 else "BYTES"
                )
                output.set_data_from_numpy(values, binary_data=False)
                outputs.append(output)
            return InferResponse(payload.id, self.name, outputs)
        instances = payload["instances"]
        if isinstance(instances[0], dict):
            instances = np.array([base64.b64decode(instance["b64"]) for instance in instances], object)
        outputs = {
            name: values.astype(values.dtype if values.dtype == np.float32 else str).tolist()
            for name, values in self.run(np.asarray(instances)).items()
        }
        if len(outputs) == 1:
            return {"predictions": next(iter(outputs.values()))}
        return {
            "predictions": [
                dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)
            ]
        }


def load_saved_model(folder):
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)

    def run(files):
        outputs = loaded.signatures["serving_default"](image_bytes=tf.constant(list(files)))
        return {
            name: np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
            for name, values in ((name, tensor.numpy()) for name, tensor in outputs.items())
        }

    return run


def load_converted(folder, plugin):
    spec = importlib.util.spec_from_file_location("plugin", plugin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, predict = module.load(Path(folder))

    def run(images):
        try:
            return {"probabilities": predict(np.asarray(images, np.float32))}
        except Exception as error:  # each runtime raises its own exceptions
            raise InvalidInput(str(error)) from error

    return run


def load(model):
    if model["folder"] is None:
        return None
    return load_converted(**model) if model["plugin"] else load_saved_model(model["folder"])


repository = ModelRepository()
for model_name, model in json.loads(Path(sys.argv[1]).read_text()).items():
    repository.update(Served(model_name, load(model)))
listener = socket.create_server(("127.0.0.1", 0))
print("PORT", listener.getsockname()[1], flush=True)
server = RESTServer("kserve.model_server:app", DataPlane(repository), ModelRepositoryExtension(repository), 0)
server.run(sockets=[listener])
