"""Names of models: which are valid, where they are used, and how versions of one model are tested and rolled back."""

import re
from dataclasses import dataclass, field

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kerastl.errors import Problems, RequestError
from kerastl.export import check_formats, resolve_model_name
from kerastl.export.client_files import render_templates
from kerastl.export.serving_files import write_serving_files
from kerastl.recipe import Export, Recipe
from kerastl.workflows.check_recipe import check_requirements
from tests.export.test_serving_files import parsed_models, read_all, read_compose, read_service

VALID = ["a", "x" * 63, "no", "null", "y", "e1", "lungs", "lung-ct-2", "a--b", "kerastl"]
INVALID = [
    "", " ", "Lungs", "lung_ct", "lung.ct", "lung ct", "1st", "-a", "a-", "x" * 64, "a/b", "a:b", "lüngs", "a\n", "\na",
    "${HOME}", "{{ name }}", "a\u0000", 5, True, None, ["a"],
]  # fmt: skip
NAMES = st.from_regex("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize("name", VALID)
def test_valid_names_are_accepted(name, tmp_path):
    assert resolve_model_name(tmp_path, name) == name
    assert Export(model_name=name).model_name == name


@pytest.mark.parametrize("name", INVALID)
def test_invalid_names_are_refused_with_the_allowed_form(name, tmp_path):
    if name is not None:
        with pytest.raises(RequestError, match="lowercase letters, digits and '-'"):
            resolve_model_name(tmp_path, name)
    with pytest.raises(
        Problems, match=r"model_name: must (be .*lowercase letters, digits and '-'|not be empty)"
    ):
        Export(model_name=name)


@pytest.mark.parametrize("name", ["x" * 53, "x" * 54, "x" * 52 + "-y"])
def test_a_name_that_kserve_would_exceed_is_refused_for_onnx(name):
    check_formats(["saved_model"], model_name=name)
    if len(name) <= 53:
        check_formats(["onnx"], model_name=name)
        return
    with pytest.raises(RequestError, match="at most 53 are allowed") as refused:
        check_formats(["saved_model", "onnx"], model_name=name)
    suggested = re.search(r" Use (\S*)\.$", str(refused.value))[1]
    assert name.startswith(suggested)
    check_formats(["onnx"], model_name=suggested)
    recipe = Recipe(
        format=1,
        data={"reader": {"name": "folder", "path": "images"}},
        backbone={"name": "small_cnn", "weights": "none"},
        phases=[{"name": "all", "epochs": 1, "trainable": "all"}],
        export={"formats": ["onnx"], "model_name": name},
    )
    with pytest.raises(RequestError, match="at most 53 are allowed"):
        check_requirements(recipe, name="new")


@given(st.text(max_size=70))
def test_a_suggested_name_is_valid(tmp_path_factory, name):
    out = tmp_path_factory.getbasetemp()
    try:
        assert resolve_model_name(out, name) == name
    except RequestError as error:
        if suggested := re.search(r" Use (\S*)\.$", str(error)):
            assert resolve_model_name(out, suggested[1]) == suggested[1]


def written(out, name):
    out.mkdir(exist_ok=True)
    write_serving_files(out, class_names=("a", "b"), image_size_px=(24, 24), model_name=name)
    return out


def addresses(out, **environment):
    """Return everything that must differ between two models on one machine, and in one namespace of Kubernetes."""
    compose, service = read_compose(out, **environment), read_service(out, **environment)
    deployment, *others = objects = read_all(out)
    pod = deployment["spec"]["template"]
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert all(item["metadata"]["labels"] == pod["metadata"]["labels"] for item in others)
    return [
        {compose["name"]},
        set(compose["services"]),
        {port.rpartition(":")[0] for port in service["ports"]},
        names,
        set(pod["metadata"]["labels"].values()),
        {volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"][:1]},
        {parsed_models((out / "models.config").read_text()).name},
        {re.search(r"/v1/models/([^:{]+)\{", (out / "client.py").read_text())[1]},
    ]


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, NAMES)
@example("no", "null")
@example("x" * 63, "x" * 62)
def test_two_models_run_side_by_side(tmp_path, first, second):
    if first == second:
        return
    ports = {"KERASTL_REST_PORT": "8511", "KERASTL_GRPC_PORT": "8510"}
    one, other = addresses(written(tmp_path, first)), addresses(written(tmp_path, second), **ports)
    for mine, theirs in zip(one, other, strict=True):
        assert mine
        assert mine.isdisjoint(theirs)
        assert all(isinstance(name, str | tuple) for name in mine), "a name such as no is not a boolean"
    assert {first} == one[0] == one[1] == one[4] == one[6] == one[7]


@pytest.mark.parametrize("name", VALID)
def test_the_inference_service_has_the_name_as_text(name):
    values = {"model_name": name, "class_names": ["a"], "image_size_px": (24, 24), "max_batch_size": 32}
    service = yaml.safe_load(render_templates("triton", values)["inference-service.yaml"])
    assert service["metadata"] == {"name": name}, "a name such as no is not a boolean"
    assert service["spec"]["predictor"]["model"]["args"][1] == f"--load-model={name}"


def test_every_file_names_the_mounted_folder_of_the_model(tmp_path):
    out = written(tmp_path, "lung-ct")
    service, (deployment, *_) = read_service(out), read_all(out)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    model = parsed_models((out / "models.config").read_text())
    folder = "/models/lung-ct"
    assert model.base_path == service["volumes"][0]["target"] == folder
    assert container["volumeMounts"][0]["mountPath"] == folder
    for flags in (service["command"], container["args"]):
        assert [flag for flag in flags if "config_file=" in flag and folder not in flag] == []
    for file in out.iterdir():
        assert "kerastl" not in re.sub("KERASTL|`?kerastl`? (verify|export)|`kerastl`", "", file.read_text())


@dataclass
class Server:
    """Which versions a server has loaded and labeled, by the rules of ServerCore::ReloadConfig.

    A new configuration is refused as a whole if it moves a label to a version that is not loaded. With
    `--allow_version_labels_for_unavailable_models`, a label that is new may name any version.
    """

    loaded: set[int] = field(default_factory=set)
    labels: dict[str, int] = field(default_factory=dict)

    def read(self, text, on_disk):
        model = parsed_models(text)
        for label, version in model.version_labels.items():
            if self.labels.get(label, version) != version and version not in self.loaded:
                return False
        self.labels = dict(model.version_labels)
        wanted = set(model.model_version_policy.specific.versions) or {max(on_disk)}
        self.loaded = wanted & on_disk
        return True

    def answers(self, label=None):
        version = self.labels[label] if label else max(self.loaded)
        assert version in self.loaded
        return version


@pytest.fixture
def steps(tmp_path):
    """The configurations in the README, in order, after the one that is written."""
    out = written(tmp_path, "lungs")
    page = (out / "README.md").read_text()
    blocks = re.findall(r"^```text\n(model_config_list .*?)^```$", page, re.M | re.S)
    assert len(blocks) == 4
    return [(out / "models.config").read_text(), *blocks]


def test_the_readme_tests_promotes_and_rolls_back_a_version(steps):
    server, initial = Server(), {1}
    assert server.read(steps[0], initial)
    assert server.answers() == 1
    assert server.read(steps[1], initial)
    both = {1, 2}
    assert server.read(steps[1], both), "the server reads the file again while version 2 is copied"
    assert (server.answers(), server.answers("stable")) == (1, 1)
    assert server.read(steps[2], both)
    assert (server.answers("stable"), server.answers("canary"), server.answers()) == (1, 2, 2)
    assert server.read(steps[3], both)
    assert server.answers("stable") == 2
    assert server.read(steps[2], both), "roll back"
    assert server.answers("stable") == 1
    assert server.read(steps[3], both)
    assert server.read(steps[4], both)
    assert (server.loaded, server.answers("stable")) == ({2}, 2)
    for step, stable in ((3, 2), (2, 1)):
        assert server.read(steps[step], both), "roll back after version 1 was unloaded"
        assert server.answers("stable") == stable


def test_the_readme_states_how_to_end_a_test_and_start_the_next_one(steps):
    server, server_of_step_4 = Server(), Server()
    for step in (1, 2, 1):
        assert server.read(steps[step], {1, 2})
    assert (server.loaded, server.answers("stable"), server.answers()) == ({1}, 1, 1)
    assert server_of_step_4.read(steps[4], {1, 2})
    renumbered = re.sub("(versions|value): 2", r"\1: 3", steps[2])
    renumbered = re.sub("(versions|value): 1", r"\1: 2", renumbered)
    assert server_of_step_4.read(renumbered, {1, 2, 3})
    assert (server_of_step_4.answers("stable"), server_of_step_4.answers("canary")) == (2, 3)
    lines = steps[4].splitlines()
    highest = [line for line in lines if not re.match(" *(model_version_policy|version_labels) ", line)]
    assert len(lines) - len(highest) == 2
    assert server_of_step_4.read("\n".join(highest), {1, 2, 3})
    assert server_of_step_4.answers() == 3


def test_steps_that_are_skipped_are_refused(steps):
    server = Server()
    assert server.read(steps[1], {1, 2})
    assert not server.read(steps[4], {1, 2}), "stable moves to a version that is not loaded"
    assert server.answers("stable") == 1


@pytest.mark.parametrize("step", range(5))
def test_a_server_that_starts_with_any_step_serves_it(steps, step):
    server = Server()
    assert server.read(steps[step], {1, 2})
    assert all(server.answers(label) for label in (None, *server.labels))
