"""Build the C program that loads exports, against the TensorFlow that is installed. No TensorFlow is imported."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kerastl.data.cache import cache_folder

SOURCE = Path(__file__).with_name("ask_export.c")
LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
COMPILERS = ("cc", "gcc", "clang")
NO_COMPILER = "no C compiler; apt-get install gcc"


class Unavailable(Exception):
    """The program cannot be built on this machine; the text says why, and what to install."""


def loader_program() -> Path:
    """Return the program, which is built where the cache does not hold it yet.

    It is kept under TensorFlow's version and the sha256 of its source and its place, so that another TensorFlow never
    runs a program that was linked with this one.

    Raises:
        Unavailable: no compiler, no C++ library in TensorFlow's package, or the compiler's refusal.
    """
    tensorflow = _tensorflow_folder()
    source = SOURCE.read_bytes()
    digest = hashlib.sha256(source + os.fsencode(tensorflow)).hexdigest()[:24]
    version = importlib.metadata.version("tensorflow")
    program = cache_folder() / "native" / f"{version}-{digest}" / SOURCE.stem
    if not program.is_file():
        try:
            _build(program, tensorflow)
        except OSError as error:
            raise Unavailable(f"{program} cannot be written: {error.strerror or error}") from error
    return program


def _tensorflow_folder() -> Path:
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.origin is None:
        raise Unavailable("TensorFlow is not installed")
    folder = Path(found.origin).parent.resolve()
    missing = [name for name in LIBRARIES if not (folder / name).is_file()]
    if missing:
        raise Unavailable(f"TensorFlow's package holds no {missing[0]}; its wheels for Linux do")
    return folder


def _build(program: Path, tensorflow: Path) -> None:
    """Compile under a name of its own, then rename: another process never starts half a program."""
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable(NO_COMPILER)
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent, prefix=".") as scratch:
        built = Path(scratch, program.name)
        command = [compiler, "-std=c11", "-O2", f"-I{tensorflow / 'include'}", str(SOURCE)]
        command += ["-o", str(built), f"-L{tensorflow}", f"-Wl,-rpath,{tensorflow}"]
        command += [f"-l:{name}" for name in LIBRARIES]
        # It reads the symbols of a library of a gigabyte in a quarter of the time of the usual linker.
        command += ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason told"])[0]
            raise Unavailable(f"{compiler} could not build {SOURCE.name}: {reason}")
        built.replace(program)
