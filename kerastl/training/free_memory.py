"""How much memory there is for training: of the machine, of the group of processes that we are in, of a GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from kerastl.errors import RequestError

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
NO_LIMIT = 2**60
"""What cgroup v1 writes where nothing is limited is larger."""


def free_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process can still take, None where that cannot be known.

    On Linux that is what the kernel calls available, or what a control group (of a container, or of a batch system)
    leaves, whichever is less; pictures in the page cache count as free. Elsewhere half of the machine's memory.
    `KERASTL_MEMORY=8GB` says it instead.

    Args:
        root: of the file system.

    Raises:
        RequestError: KERASTL_MEMORY is no size.
    """
    told = os.environ.get("KERASTL_MEMORY")
    if told:
        return _size(told)
    try:
        text = (root / "proc/meminfo").read_text()
        found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    except OSError:
        found = None
    if found:
        return min([int(found[1]) * 1024, *_left_by_groups(root)])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def free_gpu_memory() -> int | None:
    """Return the bytes that TensorFlow can still take of the smallest GPU; None: there is no GPU."""
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    if not tf.config.list_physical_devices("GPU"):
        return None
    left = []
    for device in device_lib.list_local_devices():
        if device.device_type == "GPU":
            name = device.name.removeprefix("/device:")
            used = tf.config.experimental.get_memory_info(name)["current"]
            left.append(device.memory_limit - used)
    return min(left, default=None)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG][bB])?", text.strip())
    if not found:
        raise RequestError(f"KERASTL_MEMORY must be a size, as 8GB or 500MB, got '{text}'.")
    return int(float(found[1]) * UNITS[(found[2] or "").lower()])


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what each control group that we are in leaves, from ours up to the root's."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            files = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _left(root / "sys/fs/cgroup/memory", path, *files)


def _left(mount: Path, path: str, limit: str, usage: str) -> Iterator[int]:
    """Yield limit less use of a group and of those above it; inside a container the path may not be there."""
    folder = mount / path.strip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(mount):
            return
        try:
            most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
            kept = re.search(
                r"^(?:total_)?inactive_file (\d+)",
                (group / "memory.stat").read_text(),
                re.MULTILINE,
            )
        except (OSError, ValueError):
            continue
        if most != "max" and int(most) < NO_LIMIT:
            yield max(0, int(most) - used + (int(kept[1]) if kept else 0))
