"""Ask TF Serving by gRPC, with the stubs of `tensorflow-serving-api`.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerastl.export.live.answers import (
    CLASSIFY,
    MOST_BYTES,
    Answers,
    LiveFault,
    as_floats,
    as_names,
    clean,
    reason_in,
)
from kerastl.export.live.server import Address
from kerastl.export.tf_example import put_picture

NO_PICTURE = "INVALID_ARGUMENT"
"""The code of an answer to a picture that cannot be decoded."""


class GrpcClient:
    """TF Serving's gRPC interface.

    Args:
        address: host and port.
        model_name: what the server calls the model.
        time_limit_s: for one call.
    """

    name = "gRPC"
    refusal_of_no_picture = NO_PICTURE

    def __init__(self, address: Address, model_name: str, time_limit_s: float) -> None:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address, self.model_name, self.time_limit_s = address, model_name, time_limit_s
        options = [
            ("grpc.max_receive_message_length", MOST_BYTES),
            # Pictures go to the server that was named and to no one between.
            ("grpc.enable_http_proxy", 0),
        ]
        # With the scheme, as a host may be called `unix`.
        self._channel = grpc.insecure_channel(f"dns:///{address}", options=options)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def status(self) -> Any:
        """Return the `GetModelStatusResponse`: version, state and error of each version."""
        from tensorflow_serving.apis import get_model_status_pb2

        return self._asked(
            self._models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest()
        )

    def metadata(self) -> tuple[int, Any]:
        """Return the version that answers, and the `SignatureDefMap`."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        response = self._asked(self._predictions.GetModelMetadata, request)
        return response.model_spec.version.value, _unpacked(response.metadata["signature_def"])

    def predict(self, pictures: Sequence[bytes]) -> Answers:
        """Return the answers for whole picture files."""
        outputs = self._asked(self._predictions.Predict, _question(pictures)).outputs
        count = len(pictures)
        rows = _array(outputs, "probabilities", rank=2)
        names = _array(outputs, "class_names", rank=2)
        predicted = _array(outputs, "predicted", rank=1)
        if names.shape != rows.shape:
            raise LiveFault(f"class_names are {names.shape}, probabilities {rows.shape}")
        return Answers(
            tuple(_texts(row) for row in names),
            as_floats(rows, count),
            as_names(_texts(predicted), count),
        )

    def classify(self, pictures: Sequence[bytes]) -> Answers:
        """Return what the Classify interface answers for whole picture files."""
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        request.model_spec.signature_name = CLASSIFY
        for picture in pictures:
            put_picture(request.input.example_list.examples.add(), picture)
        rows = self._asked(self._predictions.Classify, request).result.classifications
        scores = as_floats([[one.score for one in row.classes] for row in rows], len(pictures))
        names = tuple(tuple(one.label for one in row.classes) for row in rows)
        return Answers(names, scores, None)

    def refusal(self, picture: bytes) -> tuple[str, str]:
        """Return the code and the words of the answer to a picture that cannot be decoded."""
        import grpc

        try:
            self._call(self._predictions.Predict, _question([picture]))
        except grpc.RpcError as error:
            self._give_up_if_gone(error)
            return error.code().name, reason_in(error.details() or "")
        return "OK", ""

    def _call(self, method: Any, request: Any) -> Any:
        request.model_spec.name = self.model_name
        return method(request, timeout=self.time_limit_s)

    def _asked(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return self._call(method, request)
        except grpc.RpcError as error:
            self._give_up_if_gone(error)
            said = f"{error.code().name}: {clean(error.details() or '')}"
            if error.code() == grpc.StatusCode.NOT_FOUND:
                said += (
                    f". If the model has another name than {self.model_name!r}: --model-name NAME"
                )
            raise LiveFault(said) from error

    def _give_up_if_gone(self, error: Any) -> None:
        import grpc

        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"no whole answer from {self.address} within {self.time_limit_s:g} seconds. See the server's log"
            raise LiveFault(text, gone=True) from error
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            text = (
                f"nobody speaks gRPC at {self.address}. Start the server (docker compose up -d in the export's "
                f"folder), or say where its gRPC port is: --url HOST:PORT ({clean(error.details() or '')})"
            )
            raise LiveFault(text, gone=True) from error


def _question(pictures: Sequence[bytes]) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(pictures), tf.string))
    return request


def _unpacked(packed: Any) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    try:
        found = packed.Unpack(signatures)
    except DecodeError:
        found = False
    if not found:
        raise LiveFault("the metadata hold no signature_def")
    return signatures


def _array(outputs: Any, name: str, *, rank: int) -> Any:
    """Return an output as an array of its own shape.

    Raises:
        LiveFault: there is none of that name, or its shape does not agree with its values.
    """
    import tensorflow as tf

    if name not in outputs:
        raise LiveFault(f"the answer has no {name!r}")
    tensor = outputs[name]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    size = 1
    for side in shape:
        size *= side
    # A shape is free to claim what the values do not hold, and would be filled up with a copy of the last.
    held = len(tensor.float_val) or len(tensor.string_val) or len(tensor.tensor_content) // 4
    if len(shape) != rank or min(shape) < 0 or size != held:
        raise LiveFault(f"{name!r} says it has shape {shape} and holds {held} values")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise LiveFault(f"{name!r} cannot be read: {clean(str(error))}") from error


def _texts(row: Any) -> tuple[str, ...]:
    try:
        return tuple(name.decode() for name in row)
    except (AttributeError, UnicodeDecodeError):
        raise LiveFault("a class name is not UTF-8 text") from None
