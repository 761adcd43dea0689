"""A model version that is called with the messages of TensorFlow Serving's API; part of `stand_in_server.py`."""

from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tests.export.stand_in_rest import Refused, wrong

DEFAULT = "serving_default"
CLASSIFY_METHOD = "tensorflow/serving/classify"


class Model:
    """One version of one model, called with the messages of the API."""

    def __init__(self, export: Path, name: str = "kerastl") -> None:
        numbered = [path for path in export.iterdir() if path.name.isdecimal()] or [export]
        folder = max(numbered, key=lambda path: int(path.name) if path.name.isdecimal() else 0)
        self.name = name
        self.version = int(folder.name)
        self.loaded = tf.saved_model.load(str(folder))
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        self.signatures = saved.meta_graphs[0].signature_def

    def resolve_spec(self, spec: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
        """Return the model spec of a request with name, version and signature."""
        which = spec.WhichOneof("version_choice")
        if which == "version_label":
            raise wrong(f"Unrecognized servable version label: {spec.version_label}")
        if spec.name != self.name or (which and spec.version.value != self.version):
            requested = f"Specific({spec.name}, {spec.version.value})" if which else f"Latest({spec.name})"
            raise Refused("NOT_FOUND", f"Servable not found for request: {requested}")
        full = model_pb2.ModelSpec(name=self.name, signature_name=spec.signature_name or DEFAULT)
        full.version.value = self.version
        return full

    def signature(self, spec: model_pb2.ModelSpec) -> Any:
        name = self.resolve_spec(spec).signature_name
        if name not in self.signatures:
            raise wrong(f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def run(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return a signature's outputs as arrays."""
        try:
            outputs = self.loaded.signatures[name](**inputs)
        except tf.errors.OpError as error:
            raise Refused(grpc_code(error.error_code), error.message) from error
        except (TypeError, ValueError) as error:
            raise wrong(str(error)) from error
        return {key: value.numpy() for key, value in outputs.items()}

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        spec, signature = self.resolve_spec(request.model_spec), self.signature(request.model_spec)
        if request.inputs.keys() != signature.inputs.keys():
            raise wrong(f"input size does not match signature: {sorted(request.inputs)}")
        unknown = set(request.output_filter) - set(signature.outputs)
        if unknown:
            raise wrong(f"output tensor alias not found in signature: {sorted(unknown)}")
        inputs = {}
        for name, tensor in request.inputs.items():
            if tensor.dtype != signature.inputs[name].dtype:
                raise wrong(f"input {name} has another type than the signature")
            inputs[name] = tf.constant(tf.make_ndarray(tensor))
        response = predict_pb2.PredictResponse(model_spec=spec)
        for name, array in self.run(spec.signature_name, inputs).items():
            if not request.output_filter or name in request.output_filter:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def classify(self, request: classification_pb2.ClassificationRequest) -> Any:
        spec, signature = self.resolve_spec(request.model_spec), self.signature(request.model_spec)
        if signature.method_name != CLASSIFY_METHOD:
            raise wrong(f"Expected classification signature method_name to be {CLASSIFY_METHOD}")
        if set(signature.inputs) != {"inputs"} or not set(signature.outputs) <= {"classes", "scores"}:
            raise Refused("FAILED_PRECONDITION", "not the inputs and outputs of a classification")
        examples = serialized(request.input)
        outputs = self.run(spec.signature_name, {"inputs": tf.constant(examples)})
        response = classification_pb2.ClassificationResponse(model_spec=spec)
        for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
            row = response.result.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                row.classes.add(label=label.decode(), score=score)
        return response

    def status(self, spec: model_pb2.ModelSpec) -> Any:
        if spec.name != self.name or spec.version.value not in (0, self.version):
            raise Refused("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        status = response.model_version_status.add(version=self.version)
        status.state = get_model_status_pb2.ModelVersionStatus.State.Value("AVAILABLE")
        status.status.error_code = 0
        return response

    def metadata(self, spec: model_pb2.ModelSpec) -> Any:
        full = self.resolve_spec(spec)
        full.ClearField("signature_name")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=full)
        response.metadata["signature_def"].Pack(signatures)
        return response


def serialized(given: Any) -> list[bytes]:
    if given.WhichOneof("kind") == "example_list_with_context":
        both = given.example_list_with_context
        for example in both.examples:
            example.features.MergeFrom(both.context.features)
        examples = both.examples
    else:
        examples = given.example_list.examples
    if not examples:
        raise wrong("Input is empty.")
    return [example.SerializeToString() for example in examples]


def grpc_code(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)
