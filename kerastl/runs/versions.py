"""What a run was made with: packages, machine, devices. No TensorFlow is imported to find out."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "kerastl", "tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy", "scikit-learn",
    "scikit-image", "scipy", "pillow", "h5py",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the version of each package that touches the numbers, those missing left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what kind of machine this is; no host name and no user name."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
