"""`kerastl doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click


def _size_mb(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def _devices() -> list[str]:
    import tensorflow as tf

    return [device.name for device in tf.config.list_physical_devices()]


def _findings() -> dict[str, Any]:
    from kerastl import registry
    from kerastl.data import cache_folder
    from kerastl.models import models_folder
    from kerastl.runs import machine_info, package_versions

    weights = sorted(path.name for path in models_folder().glob("*.h5"))
    cache = cache_folder()
    return {
        "machine": machine_info(),
        "packages": package_versions(),
        "devices": _devices(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "weights": {"folder": str(models_folder()), "files": weights},
        "cache": {"folder": str(cache), "size_mb": _size_mb(cache)},
        "plug_ins": {kind: registry.names(kind) for kind in registry.FOLDERS},
    }


def _advice(found: dict[str, Any]) -> list[str]:
    lines = []
    if not any("GPU" in device for device in found["devices"]):
        lines.append("No GPU: frozen backbones and small images train well on the CPU all the same.")
    if not found["weights"]["files"]:
        lines.append(
            "No ImageNet weights are cached. Get some while online: kerastl weights fetch mobilenet_v2"
        )
    if found["disk_free_gb"] < 2:
        lines.append("Under 2 GB of disk are free: checkpoints and exports may not fit.")
    return lines


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
def command(as_json: bool) -> None:
    """Tell what this machine has: versions, devices, caches, what is missing and how to get it.

    \b
    Example:
      kerastl doctor
    """
    from kerastl.cli._output import load_tensorflow

    load_tensorflow()
    found = _findings()
    advice = _advice(found)
    if as_json:
        click.echo(json.dumps(found | {"advice": advice}, indent=1))
        return
    machine = found["machine"]
    click.echo(
        f"machine   {machine['system']} {machine['processor']}, {machine['cores']} cores, "
        f"Python {machine['python']}, {found['disk_free_gb']} GB of disk free"
    )
    click.echo(f"devices   {', '.join(found['devices'])}")
    click.echo("packages  " + ", ".join(f"{name} {v}" for name, v in found["packages"].items()))
    click.echo(f"weights   {len(found['weights']['files'])} files in {found['weights']['folder']}")
    click.echo(f"cache     {found['cache']['size_mb']} MB in {found['cache']['folder']}")
    for kind, names in found["plug_ins"].items():
        click.echo(f"{kind + 's':<9} {len(names)}: {', '.join(names[:8])}{' ...' if names[8:] else ''}")
    for line in advice:
        click.echo(f"advice    {line}")
