"""Files for Triton and KServe next to the versions of an ONNX export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kerastl.errors import RequestError
from kerastl.evaluation import Trained
from kerastl.export import check_export, export_run, modified_serving_files, read_server
from tests.export.conftest import CLASS_NAMES, SIZE
from tests.export.converted_formats import need

pytestmark = pytest.mark.xdist_group("exported_run")

# The used part of Triton's model_config.proto, release 2.51. `tritonclient` does not support the protobuf of TensorFlow.
MODEL_CONFIG = """
name: "model_config.proto" package: "inference" syntax: "proto3"
enum_type { name: "DataType" value { name: "TYPE_INVALID" number: 0 } value { name: "TYPE_FP32" number: 11 } }
message_type { name: "Latest" field { name: "num_versions" number: 1 type: TYPE_UINT32 } }
message_type { name: "Policy" field { name: "latest" number: 1 type: TYPE_MESSAGE type_name: "Latest" } }
message_type { name: "Batching" field { name: "max_queue_delay_microseconds" number: 2 type: TYPE_UINT64 } }
message_type {
  name: "Tensor"
  field { name: "name" number: 1 type: TYPE_STRING }
  field { name: "data_type" number: 2 type: TYPE_ENUM type_name: "DataType" }
  field { name: "dims" number: 3 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "label_filename" number: 4 type: TYPE_STRING }
}
message_type {
  name: "ModelConfig"
  field { name: "version_policy" number: 3 type: TYPE_MESSAGE type_name: "Policy" }
  field { name: "max_batch_size" number: 4 type: TYPE_INT32 }
  field { name: "input" number: 5 type: TYPE_MESSAGE type_name: "Tensor" label: LABEL_REPEATED }
  field { name: "output" number: 6 type: TYPE_MESSAGE type_name: "Tensor" label: LABEL_REPEATED }
  field { name: "dynamic_batching" number: 11 type: TYPE_MESSAGE type_name: "Batching" }
  field { name: "backend" number: 17 type: TYPE_STRING }
}
"""


def read_config(folder: Path) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(MODEL_CONFIG, descriptor_pb2.FileDescriptorProto()))
    model_config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config())


def test_the_triton_configuration_matches_the_model(
    run_with_export: Callable[[str], Path], trained: Trained
) -> None:
    """Its names and shapes are those of the ONNX file, without the batch dimension."""
    need("onnx")
    import onnxruntime

    run_folder = run_with_export("onnx")
    out = run_folder / "export" / "onnx"
    for version, with_resize in (("1", False), ("2", True)):
        if with_resize:
            export_run(run_folder, "onnx", with_resize=True)
        config = read_config(out)
        assert config.backend == "onnxruntime"
        assert config.max_batch_size == 32
        assert config.HasField("dynamic_batching")
        session = onnxruntime.InferenceSession(out / version / "model.onnx")
        for tensors, entries in (
            (session.get_inputs(), config.input),
            (session.get_outputs(), config.output),
        ):
            ((tensor,), (entry,)) = tensors, entries
            assert tensor.name == entry.name
            assert entry.data_type == 11
            assert tensor.type == "tensor(float)"
            dims = [side if isinstance(side, int) else -1 for side in tensor.shape]
            assert dims == [-1, *entry.dims], (
                "the first dimension is that of the batch, for Triton's batching"
            )
    assert (out / config.output[0].label_filename).read_text().splitlines() == list(CLASS_NAMES)


def test_edited_files_are_kept(run_with_export: Callable[[str], Path]) -> None:
    need("onnx")
    run_folder = run_with_export("onnx")
    out = run_folder / "export" / "onnx"
    assert modified_serving_files(out) == []
    (out / "config.pbtxt").write_text("max_batch_size: 4\n")
    (out / "labels.txt").unlink()
    export_run(run_folder, "onnx")
    assert (out / "config.pbtxt").read_text() == "max_batch_size: 4\n"
    assert (out / "labels.txt").is_file()
    assert modified_serving_files(out) == ["config.pbtxt"]


def test_the_inference_service_loads_this_model_only(exported_run: Callable[[str], Path]) -> None:
    need("onnx")
    out = exported_run("onnx") / "export" / "onnx"
    service = yaml.safe_load((out / "inference-service.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model, name = service["spec"]["predictor"]["model"], service["metadata"]["name"]
    assert model["protocolVersion"] == "v2"
    assert model["modelFormat"] == {"name": "onnx"}
    assert model["args"] == ["--model-control-mode=explicit", f"--load-model={name}"]


def test_the_readme_prints_the_commands_for_this_model(exported_run: Callable[[str], Path]) -> None:
    need("onnx")
    readme = (exported_run("onnx") / "export" / "onnx" / "README.md").read_text()
    assert "localhost:8000/v2/models/kerastl/infer" in readme
    assert f'"shape": [1, {SIZE}, {SIZE}, 3]' in readme
    assert "kerastl verify . --url localhost:8000 images/" in readme
    assert "{%" not in readme


def test_tf_serving_is_refused_for_an_onnx_export(exported_run: Callable[[str], Path]) -> None:
    need("onnx")
    server = read_server("localhost", None, protocol="tf_serving")
    with pytest.raises(RequestError, match=r"TensorFlow Serving cannot serve .* Omit --protocol tf_serving"):
        check_export(exported_run("onnx") / "export" / "onnx", server=server)
