"""The files next to the versions are valid for the server that reads them, and modified files are kept."""

import http.server
import json
import re
import subprocess
import threading

import compose_spec
import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kerastl.export import modified_serving_files
from kerastl.export.serving_files import batch_sizes, write_serving_files

FIELD = descriptor_pb2.FieldDescriptorProto
NAMES = ["batching.config", "docker-compose.yml", "kubernetes.yaml", "models.config", "monitoring.config"]  # fmt: skip
SERVED = "/models/kerastl"


def write(out, size=224, classes=("a", "b"), name="kerastl"):
    write_serving_files(out, class_names=classes, image_size_px=(size, size), model_name=name)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    write(folder)
    return folder


def message(name, *fields):
    """Return an empty message of a proto that `tensorflow-serving-api` does not ship, described as upstream does.

    `fields`: (name, number, type or name of a message, repeated).
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="kerastl_test")
    for wrapper, kind in (("Value", FIELD.TYPE_INT64), ("Switch", FIELD.TYPE_BOOL)):
        value = file.message_type.add(name=wrapper)
        value.field.add(name="value", number=1, type=kind, label=FIELD.LABEL_OPTIONAL)
    prometheus = file.message_type.add(name="Prometheus")
    for number, (field, kind) in enumerate([("enable", FIELD.TYPE_BOOL), ("path", FIELD.TYPE_STRING)], 1):  # fmt: skip
        prometheus.field.add(name=field, number=number, type=kind, label=FIELD.LABEL_OPTIONAL)
    descriptor = file.message_type.add(name=name)
    for field, number, kind, repeated in fields:
        label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
        added = descriptor.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            added.type, added.type_name = FIELD.TYPE_MESSAGE, f".kerastl_test.{kind}"
        else:
            added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kerastl_test.{name}"))()


def parsed_models(text):
    """Parse a `models.config` as the server does, and return its only model."""
    from tensorflow_serving.config import model_server_config_pb2

    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    return model


def test_models_config_parses_and_names_the_mounted_folder(out):
    model = parsed_models((out / "models.config").read_text())
    assert (model.name, model.base_path, model.model_platform) == ("kerastl", SERVED, "tensorflow")


@pytest.mark.parametrize(("size", "most"), [(24, 32), (600, 8), (4096, 1)])
def test_batching_config_splits_large_requests_by_the_rules_of_the_server(tmp_path, size, most):
    write(tmp_path, size=size)
    # session_bundle_config.proto of TensorFlow Serving 2.x, message BatchingParameters.
    empty = message(
        "BatchingParameters",
        ("max_batch_size", 1, "Value", False),
        ("batch_timeout_micros", 2, "Value", False),
        ("max_enqueued_batches", 3, "Value", False),
        ("num_batch_threads", 4, "Value", False),
        ("allowed_batch_sizes", 6, FIELD.TYPE_INT64, True),
        ("enable_large_batch_splitting", 8, "Switch", False),
        ("max_execution_batch_size", 9, "Value", False),
    )
    config = text_format.Parse((tmp_path / "batching.config").read_text(), empty)
    assert config.enable_large_batch_splitting.value
    assert config.max_execution_batch_size.value == most
    # bundle_factory_util.cc: with allowed sizes, max_batch_size is the last of them and also limits a request.
    assert not config.allowed_batch_sizes
    assert config.max_batch_size.value >= min(1000, 100 * most) > most, (
        "a large request is split, not refused"
    )
    assert config.max_enqueued_batches.value * most >= config.max_batch_size.value
    assert config.num_batch_threads.value >= 1


def test_monitoring_config_enables_prometheus_at_the_path_in_kubernetes(out):
    # monitoring_config.proto of TensorFlow Serving 2.x.
    empty = message("MonitoringConfig", ("prometheus_config", 1, "Prometheus", False))
    config = text_format.Parse((out / "monitoring.config").read_text(), empty)
    assert config.prometheus_config.enable
    pod = read_all(out)[0]["spec"]["template"]
    assert pod["metadata"]["annotations"]["prometheus.io/path"] == config.prometheus_config.path


@pytest.mark.parametrize(("size", "most"), [(24, 32), (224, 32), (320, 32), (331, 16), (600, 8)])
def test_large_images_have_smaller_batches(size, most):
    assert batch_sizes((size, size))[0] == 1
    assert batch_sizes((size, size))[-1] == most


def read_all(out):
    """Return the objects of `kubernetes.yaml`, which have the schemas of an old and a new Kubernetes."""
    objects = list(yaml.safe_load_all((out / "kubernetes.yaml").read_text()))
    for version in ("1.27", "1.37"):
        for item in objects:
            kubernetes_validate.validate(item, version, strict=True)
    return objects


def read_compose(out, **environment):
    """Return `docker-compose.yml` as Docker reads it; it has the schema of the Compose specification."""
    text = (out / "docker-compose.yml").read_text()
    used = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1], match[2]), text)
    compose_spec.PyCompose.from_yaml(used)
    return yaml.safe_load(used)


def read_service(out, **environment):
    (service,) = read_compose(out, **environment)["services"].values()
    return service


@pytest.mark.parametrize(("name", "read"), [("docker-compose.yml", read_service), ("kubernetes.yaml", read_all)])  # fmt: skip
def test_uncommenting_two_lines_enables_batching(out, tmp_path, name, read):
    text = (out / name).read_text()
    switched = re.sub(r"# (- --(?:enable_)?batching)", r"\1", text)
    (tmp_path / name).write_text(switched)
    assert switched != text
    config = str(read(tmp_path))
    assert "--enable_batching=true" in config
    file = re.search(r"--batching_parameters_file=([^' ]*)", config)[1]
    assert (out / file.removeprefix(SERVED + "/")).is_file()


# The flags of main.cc of TensorFlow Serving 2.x that the files may set, by the type that the server parses.
INTEGERS = {
    "port", "rest_api_port", "rest_api_timeout_in_ms", "rest_api_num_threads", "grpc_max_threads", "max_num_load_retries",
    "load_retry_interval_micros", "model_config_file_poll_wait_seconds", "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}  # fmt: skip
SWITCHES = {"enable_profiler", "allow_version_labels_for_unavailable_models", "enable_batching"}
FILES = {"model_config_file", "monitoring_config_file", "batching_parameters_file"}


def check_flags(flags, out):
    values = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    assert len(values) == len(flags)
    assert values.keys() <= INTEGERS | SWITCHES | FILES
    assert all(re.fullmatch("[0-9]+", values[name]) for name in INTEGERS)
    assert all(values[name] in ("true", "false") for name in SWITCHES & values.keys())
    assert values["enable_profiler"] == "false"
    # Steps with labels need both; the server must not try to load a broken version for minutes.
    assert values["allow_version_labels_for_unavailable_models"] == "true"
    assert 1 <= int(values["model_config_file_poll_wait_seconds"]) <= 60
    waiting_s = int(values["max_num_load_retries"]) * int(values["load_retry_interval_micros"]) / 1e6
    assert waiting_s <= 30
    assert (values["port"], values["rest_api_port"]) == ("8500", "8501")
    assert int(values["rest_api_timeout_in_ms"]) > 0
    # With batching, the invalid image of one client fails the requests of others, so batching is opt-in.
    assert "enable_batching" not in values
    assert "batching_parameters_file" not in values
    files = [values[f"{name}_file"] for name in ("model_config", "monitoring_config")]
    assert all((out / name.removeprefix(SERVED + "/")).is_file() for name in files)
    return values


def test_compose_grants_only_required_privileges(out):
    service = read_service(out)
    assert re.fullmatch(r"tensorflow/serving:2\.\d+\.\d+", service["image"])
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"] == ["127.0.0.1:8501:8501", "127.0.0.1:8500:8500"]
    (volume,) = service["volumes"]
    assert volume == {"type": "bind", "source": ".", "target": SERVED, "read_only": True}
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert "privileged" not in service
    assert service["init"] is True
    values = check_flags(service["command"], out)
    assert values["tensorflow_intra_op_parallelism"] == limits["cpus"]


def test_compose_settings_are_independent_of_each_other(out):
    pinned = "tensorflow/serving@sha256:" + 64 * "0"
    service = read_service(
        out, KERASTL_CPUS="1.5", KERASTL_THREADS="3", KERASTL_MEMORY="900M", KERASTL_USER="7:8", KERASTL_IMAGE=pinned,
        KERASTL_REST_PORT="8511", KERASTL_GRPC_PORT="8510",
    )  # fmt: skip
    limits = service["deploy"]["resources"]["limits"]
    values = check_flags(service["command"], out)
    parallel = [value for name, value in values.items() if name.endswith("op_parallelism")]
    assert (limits["cpus"], limits["memory"], parallel) == ("1.5", "900M", ["3", "3"])
    assert (service["image"], service["user"]) == (pinned, "7:8")
    assert service["ports"] == ["127.0.0.1:8511:8501", "127.0.0.1:8510:8500"]


def test_the_thread_limit_allows_the_threads_of_a_large_machine(out):
    # While it starts, the server has a pool of four threads per processor core of the machine, which no flag limits.
    service = read_service(out)
    values = check_flags(service["command"], out)
    pools = [int(value) for name, value in values.items() if "thread" in name or "parallelism" in name]
    assert 4 * 512 + sum(pools) + 500 < service["deploy"]["resources"]["limits"]["pids"]


def test_kubernetes_grants_only_required_privileges(out):
    deployment, service, *_ = read_all(out)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == read_service(out)["image"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["export"] == {"name": "export", "mountPath": SERVED, "readOnly": True}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    check_flags(container["args"], out)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    assert [port["port"] for port in service["spec"]["ports"]] == [8501, 8500]


def test_kubernetes_probes_the_state_of_the_model_as_compose_does(out):
    (container,) = read_all(out)[0]["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe"):
        assert ["CMD", *container[probe]["exec"]["command"]] == read_service(out)["healthcheck"]["test"]
    assert container["livenessProbe"]["tcpSocket"] == {"port": "grpc"}
    assert container["ports"] == [
        {"name": "rest", "containerPort": 8501},
        {"name": "grpc", "containerPort": 8500},
    ]


def test_kubernetes_limits_who_reaches_grpc_and_what_the_server_reaches(out):
    deployment, _, policy, _ = read_all(out)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    spec = policy["spec"]
    assert policy["kind"] == "NetworkPolicy"
    assert spec["podSelector"]["matchLabels"] == labels
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert spec["egress"] == []
    (grpc,) = [rule for rule in spec["ingress"] if {"protocol": "TCP", "port": "grpc"} in rule["ports"]]
    (peer,) = grpc["from"]
    assert len(grpc["ports"]) == 1
    assert peer["podSelector"]["matchLabels"].keys() - labels.keys()


def test_kubernetes_keeps_serving_while_nodes_are_updated(out):
    deployment, _, _, budget = read_all(out)
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    assert budget["kind"] == "PodDisruptionBudget"
    assert budget["spec"]["selector"] == spec["selector"]
    assert spec["replicas"] > budget["spec"]["maxUnavailable"] >= 1, (
        "a node can be emptied, and a pod remains"
    )
    # The server is not process 1, which ignores SIGTERM. It ends after the last requests have reached their limit.
    assert pod["shareProcessNamespace"] is True
    (container,) = pod["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    limit_ms = int(check_flags(container["args"], out)["rest_api_timeout_in_ms"])
    assert command == "sleep"
    assert limit_ms / 1000 < int(seconds) < pod["terminationGracePeriodSeconds"]


@pytest.fixture
def stand_in():
    """A server with TensorFlow Serving's model status endpoint; the test sets its responses."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path == "/v1/models/kerastl"
            self.send_response(self.server.status if known else 404)
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def status(state, error="OK"):
    entry = {"version": "1", "state": state, "status": {"error_code": error, "error_message": ""}}
    return json.dumps({"model_version_status": [entry]}, indent=1).encode()


def healthy(out, port):
    """Run the health check of the compose file as Docker does, with the port of the test instead of 8501."""
    first, *command = read_service(out)["healthcheck"]["test"]
    assert first == "CMD"
    assert not any("$" in word for word in command), "Compose would fill it in"
    command = [word.replace("/8501", f"/{port}") for word in command]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_health_check_passes_only_for_an_available_model(out, stand_in):
    port = stand_in.server_address[1]
    for code, content, wanted in [
        (200, status("AVAILABLE"), True),
        (200, status("LOADING"), False),
        (200, status("END", "UNAVAILABLE"), False),
        (404, b'{"error": "Could not find any versions of model kerastl"}', False),
    ]:
        stand_in.status, stand_in.content = code, content
        assert healthy(out, port) is wanted, content


def test_the_health_check_fails_without_a_server(out, stand_in):
    stand_in.shutdown()
    stand_in.server_close()
    assert not healthy(out, stand_in.server_address[1])


def test_writing_again_changes_nothing(out, tmp_path):
    write(tmp_path)
    assert set(NAMES) <= {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert modified_serving_files(tmp_path) == []


def test_unmodified_files_are_updated_and_modified_ones_kept(tmp_path):
    write(tmp_path)
    compose = tmp_path / "docker-compose.yml"
    compose.write_text(compose.read_text() + "# ours\n")
    modified = compose.read_bytes()
    old = (tmp_path / "batching.config").read_text()
    write(tmp_path, size=600)
    assert compose.read_bytes() == modified
    assert modified_serving_files(tmp_path) == ["docker-compose.yml"]
    assert (tmp_path / "batching.config").read_text() != old
    (tmp_path / "models.config").unlink()
    write(tmp_path, size=600)
    assert (tmp_path / "models.config").is_file()


def test_a_folder_without_written_files_has_no_modified_files(tmp_path):
    (tmp_path / "models.config").write_text("of another program")
    assert modified_serving_files(tmp_path) == []


@pytest.mark.parametrize("record", [None, "no JSON", "[1]"])
def test_without_hashes_every_different_file_is_kept(tmp_path, record):
    (tmp_path / "models.config").write_text("mine")
    if record is not None:
        (tmp_path / ".written.json").write_text(record)
    write(tmp_path)
    assert (tmp_path / "models.config").read_text() == "mine"
    assert modified_serving_files(tmp_path) == ["models.config"]
    assert (tmp_path / "kubernetes.yaml").is_file()


def test_links_and_folders_are_not_replaced(tmp_path):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    out.mkdir()
    elsewhere.write_text("theirs")
    (out / "models.config").symlink_to(elsewhere)
    (out / "batching.config").mkdir()
    (out / "monitoring.config").symlink_to(tmp_path / "nowhere")
    write(out)
    assert elsewhere.read_text() == "theirs"
    assert (out / "models.config").is_symlink()
    assert not (tmp_path / "nowhere").exists()
    assert modified_serving_files(out) == ["batching.config", "models.config", "monitoring.config"]
