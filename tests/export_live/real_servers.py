"""Real servers, each in an environment of its own: Triton from the wheel `nvidia-pytriton`, and the server of `kserve`.

The environments are created once, in the user's cache folder, from `servers/NAME.txt`. TensorFlow and the other runtimes
are those of the environment of the tests. Each server listens on 127.0.0.1 and ends with its context.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.export.stand_in_server import LOOPBACK
from tests.export_live.conftest import DIRECT

HERE = Path(__file__).parent / "servers"
START_LIMIT_S = 300


def environment(name: str) -> Path:
    """Return the environment of `servers/NAME.txt` for this Python, its packages and these requirements."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kerastl-tests"
    requirements, packages = HERE / f"{name}.txt", sysconfig.get_path("purelib")
    contents = "\n".join([sys.version, packages, requirements.read_text()])
    folder = cache / f"{name}-{hashlib.sha256(contents.encode()).hexdigest()[:12]}"
    complete = folder / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.is_file():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot install {requirements.name}: {done.stderr.strip()[-300:]}")
        # Its own packages come before those of the tests.
        (site_packages(folder) / "tests.pth").write_text(packages)
        complete.touch()
    return folder


def site_packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))


@contextmanager
def running(
    command: Sequence[Any], log: Path, is_ready: Callable[[], Any], **variables: str
) -> Iterator[Any]:
    """Run a server in a process group of its own until the context ends. Yield what `is_ready` returns, once it is true."""
    environ = {**os.environ, "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", **variables}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command], env=environ, stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not (ready := is_ready()):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(0.1)
        yield ready
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        # End the processes of the models that are still running.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def triton(repository: Path, folder: Path) -> Iterator[str]:
    """Run Triton on a model repository, with `servers/triton_backend.py` as the backends `onnxruntime` and `tensorflow`.

    Args:
        repository: The model repository.
        folder: An empty folder, for the backends and the log.
    """
    own = environment("triton")
    packages = site_packages(own)
    files, python = packages / "pytriton" / "tritonserver", folder / "backends" / "python"
    shutil.copytree(files / "backends" / "python", python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    shutil.copy(files / "python_backend_stubs" / version / stub, python / stub)
    for name in ("onnxruntime", "tensorflow"):
        (folder / "backends" / name).mkdir()
        shutil.copy(HERE / "triton_backend.py", folder / "backends" / name / "model.py")
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    address, ready = f"{LOOPBACK}:{port}", f"http://{LOOPBACK}:{port}/v2/health/live"
    command = [files / "bin" / "tritonserver", f"--model-repository={repository}"]
    command += [
        f"--backend-directory={folder / 'backends'}",
        f"--http-address={LOOPBACK}",
        f"--http-port={port}",
    ]
    command += ["--allow-grpc=false", "--allow-metrics=false", "--exit-on-error=false"]

    def is_ready() -> str:
        try:
            with DIRECT.open(ready, timeout=5):
                return address
        except (urllib.error.URLError, OSError):
            return ""

    libraries = str(packages / "nvidia_pytriton.libs")
    path = f"{own / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with running(command, folder / "log", is_ready, LD_LIBRARY_PATH=libraries, PATH=path) as served:
        yield served


@contextmanager
def kserve(models: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Run the server of `kserve` with these models, as `servers/kserve_server.py` reads them. Yield its address."""
    own, log = environment("kserve"), folder / "log"
    (folder / "models.json").write_text(json.dumps(models))

    def is_ready() -> str:
        lines = log.read_text(errors="replace").splitlines()
        ports = [line.removeprefix("PORT ") for line in lines if line.startswith("PORT ")]
        return f"{LOOPBACK}:{ports[0]}" if ports else ""

    command = [own / "bin" / "python", HERE / "kserve_server.py", folder / "models.json"]
    with running(command, log, is_ready) as served:
        yield served
