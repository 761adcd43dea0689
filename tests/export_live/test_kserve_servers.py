"""Exports behind real servers: Triton over KServe v2, and `kserve` over KServe v1 and v2.

Triton itself reads the model repository that `--format onnx` writes: `config.pbtxt`, labels and version folders. The wheel
has no ONNX Runtime backend, so that Triton's Python backend runs `model.onnx` in the Python package of ONNX Runtime. How
Triton's own ONNX Runtime backend loads the file is not tested.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kerastl.cli import app
from kerastl.data.decode import decode_images
from kerastl.export import ExpectedPredictions, Finding, export_run, read_manifest
from kerastl.export.formats import litert, onnx
from kerastl.export.kserve_clients import KServeV2
from kerastl.export.live import check_live
from kerastl.export.live_clients import Server
from tests.export.conftest import (
    CLASS_NAMES,
    MAX_PIXELS,
    SIZE,
    WINDOW,
    encoded,
    expected,
    exported_run,
    finished_run,
    images,
    model,
    trained,
)
from tests.export.converted_formats import need
from tests.export_live.conftest import DIRECT, faults
from tests.export_live.real_servers import environment, kserve, triton

__all__ = ["encoded", "expected", "exported_run", "finished_run", "images", "model", "trained"]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("exported_run")]

ONE_INSTANCE = "instance_group { count: 1 kind: KIND_CPU }\n"
SAVED_MODEL_CONFIG = """
backend: "tensorflow"
max_batch_size: 0
input { name: "image_bytes" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "probabilities" data_type: TYPE_FP32 dims: [ -1, 3 ] }
output { name: "predicted" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "class_names" data_type: TYPE_STRING dims: [ -1, 3 ] }
"""


@pytest.fixture(scope="session")
def pixels(encoded: list[bytes]) -> list[Any]:
    return list(decode_images(encoded, (SIZE, SIZE), "stretch", WINDOW, MAX_PIXELS))


@pytest.fixture(scope="session")
def resizing(exported_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of an ONNX export, of which the second resizes the images itself."""
    run = shutil.copytree(exported_run("onnx"), tmp_path_factory.mktemp("resizing") / "run")
    export_run(run, "onnx", with_resize=True)
    return run / "export" / "onnx"


@pytest.fixture(scope="session")
def triton_address(
    exported_run: Callable[[str], Path], resizing: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Triton with the model repository of an export, unchanged, and with changed copies of it."""
    need("onnx")
    repository, out = tmp_path_factory.mktemp("repository"), exported_run("onnx") / "export" / "onnx"
    shutil.copytree(out, repository / "kerastl")
    shutil.copytree(resizing, repository / "resizing")
    for name in ("swapped", "broken"):
        shutil.copytree(out, repository / name)
        with (repository / name / "config.pbtxt").open("a") as config:
            config.write(ONE_INSTANCE)
    labels = "".join(f"{name}\n" for name in reversed(CLASS_NAMES))
    (repository / "swapped" / "labels.txt").write_text(labels)
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    files = repository / "files"
    shutil.copytree(
        exported_run("saved_model") / "export" / "saved_model" / "1", files / "1" / "model.savedmodel"
    )
    (files / "config.pbtxt").write_text(SAVED_MODEL_CONFIG + ONE_INSTANCE)
    with triton(repository, tmp_path_factory.mktemp("triton")) as address:
        yield address


@pytest.fixture(scope="session")
def quantized(exported_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LiteRT export in float16."""
    need("litert")
    run = shutil.copytree(exported_run("onnx"), tmp_path_factory.mktemp("quantized") / "run")
    export_run(run, "litert", quantize="float16")
    return run / "export" / "litert" / "1"


@pytest.fixture(scope="session")
def kserve_address(
    exported_run: Callable[[str], Path], quantized: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The server of `kserve` with several models, whose names have spaces and other letters."""
    need("onnx")
    folders = {name: exported_run(name) / "export" / name / "1" for name in ("saved_model", "onnx")}
    models = {
        "kerastl": {"folder": str(folders["saved_model"]), "plugin": None},
        "Lungen Ü 1": {"folder": str(folders["onnx"]), "plugin": onnx.__file__},
        "quantized": {"folder": str(quantized), "plugin": litert.__file__},
        "cold": {"folder": None, "plugin": None},
    }
    with kserve(models, tmp_path_factory.mktemp("kserve")) as address:
        yield address


def check(
    address: str,
    export: Path,
    images: list[Any],
    expected: ExpectedPredictions,
    name: str,
    protocol: str | None = None,
) -> dict[str, Finding]:
    server = Server(address, None, name, protocol=protocol)
    findings = check_live(server, export, read_manifest(export), images=images, reference=expected)
    return {finding.check: finding for finding in findings}


def verify(address: str, export: Path, images: list[Path]) -> dict[str, Any]:
    """Return the findings of `kerastl verify`, which must find no fault."""
    done = CliRunner().invoke(app, ["verify", str(export), "--url", address, "--json", *map(str, images)])
    assert done.exit_code == 0, done.output
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def not_checked(findings: dict[str, Finding]) -> set[str]:
    return {check.partition(": ")[2] for check, finding in findings.items() if finding.passed is None}


def test_verify_passes_with_triton(
    triton_address: str, exported_run: Callable[[str], Path], images: list[Path]
) -> None:
    """Two models are loaded from one repository; the export is the default one."""
    findings = verify(triton_address, exported_run("onnx") / "export" / "onnx", images)
    assert findings["equal to kerastl predict"]["passed"]
    assert "triton 2.51.0" in findings["KServe v2: available"]["detail"]
    assert "8 images" in findings["KServe v2: predictions"]["detail"]
    live = {check: finding["result"] for check, finding in findings.items() if check.startswith("KServe")}
    assert [check for check, result in live.items() if result != "ok"] == ["KServe v2: columns and gRPC"]


def test_verify_passes_with_kserve(
    kserve_address: str, exported_run: Callable[[str], Path], images: list[Path]
) -> None:
    findings = verify(kserve_address, exported_run("saved_model") / "export" / "saved_model", images)
    assert findings["equal to kerastl predict"]["passed"]
    assert "8 images" in findings["KServe v1: predictions"]["detail"]
    assert "not an image" in findings["KServe v1: invalid image rejected"]["detail"]
    reasons = {
        check: finding["detail"] for check, finding in findings.items() if finding["result"] == "not checked"
    }
    assert {
        f"KServe v1: {name}" for name in ("version", "signatures", "classify", "columns and gRPC")
    } <= set(reasons)


def test_triton_serves_a_saved_model(
    triton_address: str,
    exported_run: Callable[[str], Path],
    encoded: list[bytes],
    expected: ExpectedPredictions,
) -> None:
    """Files are sent as binary tensor data."""
    export = exported_run("saved_model") / "export" / "saved_model" / "1"
    findings = check(triton_address, export, encoded, expected, "files")
    assert faults(findings) == {}
    assert not_checked(findings) == {"classify", "columns and gRPC"}
    assert "500: " in findings["KServe v2: invalid image rejected"].detail


def test_triton_serves_the_version_that_resizes(
    triton_address: str, resizing: Path, pixels: list[Any], expected: ExpectedPredictions
) -> None:
    findings = check(triton_address, resizing / "2", pixels, expected, "resizing")
    assert faults(findings) == {}
    assert not_checked(findings) == {"invalid image rejected", "columns and gRPC"}
    messages = faults(check(triton_address, resizing / "1", pixels, expected, "resizing"))
    assert "version 2 is served by default, but this is version 1" in messages["KServe v2: version"]
    assert f"[n, n, n, 3] on the server, DT_FLOAT [n, {SIZE}, {SIZE}, 3]" in messages["KServe v2: signatures"]


def test_faults_of_models_on_triton_are_named(
    triton_address: str, exported_run: Callable[[str], Path], pixels: list[Any], expected: ExpectedPredictions
) -> None:
    export = exported_run("onnx") / "export" / "onnx" / "1"
    swapped = faults(check(triton_address, export, pixels, expected, "swapped"))
    assert set(swapped) == {"KServe v2: classify"}
    assert "the probabilities are in the class order" in swapped["KServe v2: classify"]
    broken = faults(check(triton_address, export, pixels, expected, "broken"))["KServe v2: available"]
    assert "broken" in broken
    missing = faults(check(triton_address, export, pixels, expected, "none"))["KServe v2: available"]
    assert "--model-name NAME" in missing
    assert 'Models on the server: [{"name":"broken"' in missing
    other = ExpectedPredictions(expected.class_names, expected.probabilities[::-1], ())
    messages = faults(check(triton_address, export, pixels, other, "kerastl"))
    assert set(messages) == {"KServe v2: predictions", "KServe v2: classify"}
    assert "a different model" in messages["KServe v2: predictions"]


def test_triton_batches_parallel_requests(
    triton_address: str, exported_run: Callable[[str], Path], pixels: list[Any], expected: ExpectedPredictions
) -> None:
    manifest = read_manifest(exported_run("onnx") / "export" / "onnx" / "1")
    client = KServeV2(triton_address, Server(None, triton_address), manifest)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda image: client.predict([image]).probabilities[0], pixels * 4))
    assert np.abs(np.array(rows) - np.tile(expected.probabilities, (4, 1))).max() < 1e-4


def read(address: str, path: str) -> Any:
    with DIRECT.open(f"http://{address}{path}") as response:
        return json.load(response)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_request_is_answered_by_triton(
    triton_address: str, exported_run: Callable[[str], Path], tmp_path: Path
) -> None:
    readme = (exported_run("onnx") / "export" / "onnx" / "README.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"^```sh\n(.+?)\n```$", readme, re.M | re.S) if "curl" in text)
    script = block.replace("localhost:8000", triton_address).replace("curl", "curl -sS --noproxy '*'")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, _, response = done.stdout.rpartition("\n")
    assert "200 OK" in head
    (output,) = json.loads(response)["outputs"]
    assert output["shape"] == [1, 3]
    assert sum(output["data"]) == pytest.approx(1, abs=1e-5)


PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1], encoding="utf-8").read(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
"""


def test_triton_reads_the_configuration_as_it_is_written(
    triton_address: str, exported_run: Callable[[str], Path]
) -> None:
    """With Triton's own protobuf, and by the server, which adds defaults."""
    file = exported_run("onnx") / "export" / "onnx" / "config.pbtxt"
    command = [environment("triton") / "bin" / "python", "-c", PARSE, str(file)]
    parsed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    served = read(triton_address, "/v2/models/kerastl/config")
    (image,), (output,) = parsed["input"], parsed["output"]
    assert (image["name"], image["data_type"], image["dims"]) == (
        "images",
        "TYPE_FP32",
        [str(SIZE), str(SIZE), "3"],
    )
    assert (output["name"], output["dims"], output["label_filename"]) == (
        "probabilities",
        ["3"],
        "labels.txt",
    )
    assert served["input"][0]["dims"] == [SIZE, SIZE, 3]
    assert served["output"][0]["label_filename"] == "labels.txt"
    assert served["max_batch_size"] == parsed["max_batch_size"] == 32
    assert served["version_policy"] == parsed["version_policy"] == {"latest": {"num_versions": 1}}
    delay = parsed["dynamic_batching"]["max_queue_delay_microseconds"]
    assert int(delay) == served["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
    assert served["backend"] == parsed["backend"] == "onnxruntime"


READ_SERVICE = """
import json, sys, types
import kserve.models, kubernetes.client.models, yaml
from kserve.api_client import ApiClient
# KServe's classes name these two of Kubernetes, which newer versions of it describe in another notation.
for name in ("V1ObjectMeta", "V1ResourceRequirements"):
    kind = getattr(kubernetes.client.models, name)
    for key, value in kind.openapi_types.items():
        if value.startswith("Dict["):
            kind.openapi_types[key] = value.replace("Dict[", "dict(").replace("]", ")")
    setattr(kserve.models, name, kind)
given = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
client = ApiClient()
service = client.deserialize(types.SimpleNamespace(data=json.dumps(given)), "V1beta1InferenceService")
print(json.dumps([given, client.sanitize_for_serialization(service)]))
"""


def read_inference_service(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of the file, and what KServe's own classes read from it, which leave out unknown keys."""
    command = [environment("kserve") / "bin" / "python", "-c", READ_SERVICE, str(file)]
    given, read = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return given, read


def test_kserve_knows_every_key_of_the_inference_service(
    exported_run: Callable[[str], Path], tmp_path: Path
) -> None:
    file = exported_run("onnx") / "export" / "onnx" / "inference-service.yaml"
    given, read = read_inference_service(file)
    # The name of the container, which has a default.
    assert read["spec"]["predictor"]["model"].pop("name") == ""
    assert read == given
    misspelled = tmp_path / "misspelled.yaml"
    misspelled.write_text(file.read_text().replace("minReplicas", "minReplica"))
    given, read = read_inference_service(misspelled)
    assert given["spec"]["predictor"].keys() - read["spec"]["predictor"].keys() == {"minReplica"}


@pytest.mark.parametrize("protocol", ["kserve_v1", "kserve_v2"])
def test_kserve_serves_decoded_images_by_both_protocols(
    protocol: str,
    kserve_address: str,
    exported_run: Callable[[str], Path],
    quantized: Path,
    pixels: list[Any],
    expected: ExpectedPredictions,
) -> None:
    """The ONNX model predicts as the run does. The quantized model predicts as its own export does, and not as the run."""
    export = exported_run("onnx") / "export" / "onnx" / "1"
    findings = check(kserve_address, export, pixels, expected, "Lungen Ü 1", protocol)
    assert faults(findings) == {}
    own = ExpectedPredictions(CLASS_NAMES, np.asarray(litert.load(quantized)[1](np.stack(pixels))), ())
    assert np.abs(own.probabilities - expected.probabilities).max() > 1e-6
    assert faults(check(kserve_address, quantized, pixels, own, "quantized", protocol)) == {}


def test_faults_of_models_on_kserve_are_named(
    kserve_address: str,
    exported_run: Callable[[str], Path],
    encoded: list[bytes],
    expected: ExpectedPredictions,
) -> None:
    export = exported_run("saved_model") / "export" / "saved_model" / "1"
    cold = faults(check(kserve_address, export, encoded, expected, "cold"))
    assert "HTTP 503: Model with name cold is not ready" in cold["KServe v1: available"]
    missing = faults(check(kserve_address, export, encoded, expected, "none"))["KServe v1: available"]
    assert "--model-name NAME" in missing
    assert "Lungen Ü 1" in missing
    assert ".." not in missing
    other = faults(check(kserve_address, export, encoded, expected, "Lungen Ü 1"))
    assert "KServe v1: predictions" in other
    # Its REST API converts image files to text, which fails.
    by_v2 = faults(check(kserve_address, export, encoded, expected, "kerastl", "kserve_v2"))
    assert "Failed to encode" in by_v2["KServe v2: predictions"]
