"""The commands in an export's README.md work as printed: the client, curl, verify."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from kerastl.export.live_clients import REST_PORT
from kerastl.export.serving_files import write_serving_files
from kerastl.recipe import MODEL_NAME
from tests.export.conftest import (
    CLASS_NAMES,
    SIZE,
    exported_run,
    finished_run,
    images,
    model,
    run_with_export,
)
from tests.export.stand_in_server import LOOPBACK, StandIn
from tests.export_live.conftest import Drawn, canned, formula, sending

__all__ = ["exported_run", "finished_run", "images", "model", "run_with_export"]

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "export" / "stand_in_server.py"
HOSTILE = ("~~~\n~~~\n# big", "<b>\x1b[2J", "a`b|c", "\"'\\", "{{ 7 * 7 }}", "\u202eL\u00e4sion")


def rendered(name: str, class_names: Sequence[str] = CLASS_NAMES) -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_serving_files(Path(folder), class_names=class_names, image_size_px=(SIZE, SIZE))
        return (Path(folder) / name).read_text(encoding="utf-8")


def commands(readme: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.+?)\n```$", readme, re.M | re.S)
    assert len(blocks) >= 6
    return blocks


@pytest.fixture
def client_folder(tmp_path: Path) -> Path:
    """A folder with the client and an image file, larger than the limit of one command-line argument."""
    (tmp_path / "client.py").write_text(rendered("client.py"), encoding="utf-8")
    (tmp_path / "image.jpg").write_bytes(b"one" * 100_000)
    return tmp_path


def client(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # -I -S: nothing that is installed can be imported, Python's own library alone.
    command = [sys.executable, "-I", "-S", "client.py", "image.jpg", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_client_prints_class_and_probability_with_the_standard_library(
    client_folder: Path, stand_in: StandIn
) -> None:
    done = client(client_folder, "--host", f"{LOOPBACK}:{stand_in.rest_port}")
    row = formula((client_folder / "image.jpg").read_bytes())
    best = int(np.argmax(row))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{CLASS_NAMES[best]}  {row[best]:.4f}\n"


def test_the_client_prints_why_a_request_failed(client_folder: Path, stand_in: StandIn) -> None:
    (client_folder / "image.jpg").write_bytes(b"these bytes are not an image")
    refused = client(client_folder, "--host", f"{LOOPBACK}:{stand_in.rest_port}")
    unreachable = client(client_folder, "--host", f"{LOOPBACK}:1")
    with canned(sending(b"<html>")) as port:
        stranger = client(client_folder, "--host", f"{LOOPBACK}:{port}")
    (client_folder / "image.jpg").unlink()
    missing = client(client_folder)
    results = (refused, unreachable, stranger, missing)
    assert [(result.returncode, result.stdout) for result in results] == [(1, "")] * 4
    assert not any("Traceback" in result.stderr for result in results)
    assert "image.jpg" in missing.stderr
    assert "Is the server running?" in stranger.stderr
    assert "400" in refused.stderr
    assert "this is not an image" in refused.stderr
    assert "Connection refused" in unreachable.stderr
    assert "docker compose up" in unreachable.stderr


def test_the_client_is_short() -> None:
    lines = [line for line in rendered("client.py").splitlines() if line.strip()]
    assert len(lines) < 60


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_command_works_as_printed_except_for_the_port(
    client_folder: Path, stand_in: StandIn
) -> None:
    lines = [command for command in commands(rendered("README.md")) if "curl" in command]
    assert [("-d @-" in line) for line in lines] == [False, True]
    answers = []
    for line in lines:
        there = line.replace("localhost:8501", f"{LOOPBACK}:{stand_in.rest_port}")
        assert there != line
        done = subprocess.run(["sh", "-c", there], cwd=client_folder, capture_output=True, check=True)
        answers.append(json.loads(done.stdout))
    assert answers[0]["model_version_status"][0]["state"] == "AVAILABLE"
    row = formula((client_folder / "image.jpg").read_bytes())
    assert answers[1]["predictions"][0]["probabilities"] == pytest.approx(row, abs=1e-6)


def test_no_class_name_breaks_the_readme_or_the_client() -> None:
    page = rendered("README.md", HOSTILE)
    compile(rendered("client.py", HOSTILE), "client.py", "exec")
    assert page.count("\n~~~") == 2
    fenced = page.split("~~~text\n")[1].split("\n~~~\n")[0]
    assert [line[:2] for line in fenced.splitlines()] == ["- "] * len(HOSTILE)
    assert all(character.isprintable() for character in page.replace("\n", ""))
    assert "{{ 7 * 7 }}" in page
    assert "L\u00e4sion" in page
    same = rendered("README.md").replace(fenced, "")
    assert commands(page) == commands(same)


def test_a_thousand_classes_keep_the_readme_short() -> None:
    page = rendered("README.md", [f"class {number}" for number in range(1000)])
    assert "one of 1000 classes" in page
    assert page.count("- class") == 50


def test_the_readme_lists_the_files_of_the_folder(tmp_path: Path) -> None:
    write_serving_files(tmp_path, class_names=CLASS_NAMES, image_size_px=(SIZE, SIZE))
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    names = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert len(names) >= 7
    assert names - {"README.md"} == {name for name in names if f"`{name}`" in page}
    assert f"localhost:{REST_PORT}/v1/models/{MODEL_NAME}" in page


def exported(run_folder: Path, images: list[Path]) -> Path:
    """Copy the images that the README requires next to the export of a run."""
    folder = run_folder / "export" / "saved_model"
    shutil.copy(images[-1], folder / "image.jpg")
    shutil.copytree(images[0].parent, folder / "images")
    return folder


def run_printed(folder: Path, before: str = "", wrap: Sequence[str] = ()) -> list[str]:
    """Run every command of the page but those that need a cluster or change versions; return their outputs."""
    printed = commands((folder / "README.md").read_text(encoding="utf-8"))
    chosen = [command for command in printed if not command.startswith(("docker", "kubectl", "mv"))]
    assert len(chosen) == 5
    mark = "<<<next>>>"
    lines = [f"echo '{mark}'; bash -euo pipefail -c {shlex.quote(command)}" for command in chosen]
    script = "\n".join(["set -eu", before, *lines])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*wrap, "bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split(f"{mark}\n")[1:]


def check_outputs(outputs: Sequence[str]) -> None:
    status, by_curl, by_rest, by_grpc, verified = outputs
    assert json.loads(status)["model_version_status"][0]["state"] == "AVAILABLE"
    row = json.loads(by_curl)["predictions"][0]
    share = dict(zip(row["class_names"], row["probabilities"], strict=True))[row["predicted"]]
    assert by_rest == by_grpc == f"{row['predicted']}  {share:.4f}\n"
    assert "no fault" in verified
    for check in (
        "gRPC: predictions",
        "gRPC: classify",
        "REST: predictions",
        "REST: classify",
        "REST: columns",
    ):
        assert re.search(rf"^{check} +ok ", verified, re.M), verified


def has_namespaces() -> bool:
    words = ["unshare", "-rn", "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
def test_the_readme_commands_work_at_the_default_ports(
    run_with_export: Callable[[str], Path], images: list[Path], tmp_path: Path
) -> None:
    """In a network namespace with free default ports. The simulated server replaces the Docker image."""
    if shutil.which("curl") is None or not has_namespaces():
        pytest.skip("needs curl and a network namespace (unshare -rn)")
    folder, log = exported(run_with_export("saved_model"), images), tmp_path / "log"
    command = [sys.executable, str(STAND_IN), str(folder)]
    before = (
        f"ip link set lo up; {shlex.join(command)} > {shlex.quote(str(log))} 2>&1 & server=$!; "
        "trap 'kill $server' EXIT; "
        f"until grep -q 'REST 8501' {shlex.quote(str(log))}; do kill -0 $server; sleep 0.1; done"
    )
    check_outputs(run_printed(folder, before, wrap=("unshare", "-rn")))


@pytest.mark.docker
def test_the_readme_commands_work_with_the_official_image(
    run_with_export: Callable[[str], Path], images: list[Path]
) -> None:
    """The only test that runs TensorFlow Serving."""
    for words in (["docker", "info"], ["docker", "compose", "version"]):
        if (
            shutil.which("docker") is None
            or subprocess.run(words, capture_output=True, check=False).returncode
        ):
            pytest.skip(f"there is no Docker engine: `{shlex.join(words)}` fails")
    folder = exported(run_with_export("saved_model"), images)
    before = (
        f"export KERASTL_USER={os.getuid()}:{os.getgid()}; trap 'docker compose down' EXIT; "
        "docker compose up -d --wait || { docker compose logs; exit 1; }"
    )
    check_outputs(run_printed(folder, before))


@pytest.mark.slow
def test_verify_exits_with_1_if_another_export_is_served(
    exported_run: Callable[[str], Path], images: list[Path]
) -> None:
    export = exported_run("saved_model") / "export" / "saved_model" / "1"

    def ask(server: StandIn) -> subprocess.CompletedProcess[str]:
        words = ["verify", str(export), "--json", "--url", f"{LOOPBACK}:{server.port}"]
        words += ["--rest-url", f"{LOOPBACK}:{server.rest_port}", *map(str, images[:3])]
        command = [sys.executable, "-m", "kerastl", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with StandIn(Drawn()) as server:
        done = ask(server)
    assert done.returncode == 1, done.stderr
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert findings["equal to kerastl predict"]["passed"]
    assert findings["gRPC: version"]["passed"]
    assert "a different model" in findings["gRPC: predictions"]["detail"]
    assert findings["REST: signatures"]["passed"] is False
