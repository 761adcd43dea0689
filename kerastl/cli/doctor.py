"""`kerastl doctor`: report the machine, installed packages and cached files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from kerastl import data, models, registry, runs
from kerastl.cli._output import json_option
from kerastl.console import load_tensorflow


def _report() -> dict[str, Any]:
    import tensorflow as tf

    weights = sorted(path.name for path in models.models_folder().glob("*.h5"))
    cache = data.cache_folder()
    cached_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return {
        "machine": runs.machine_info(),
        "packages": runs.package_versions(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "weights": {
            "folder": str(models.models_folder()),
            "files": weights,
            "presets": models.downloaded_presets(),
        },
        "cache": {"folder": str(cache), "size_mb": round(cached_bytes / 1e6, 1)},
        "plug_ins": {kind: registry.names(kind) for kind in registry.FOLDERS},
    }


def _advice(report: dict[str, Any]) -> list[str]:
    lines = []
    if not any("GPU" in device for device in report["devices"]):
        lines.append("There is no GPU. Frozen backbones and small images also train fast on the CPU.")
    if not report["weights"]["files"]:
        lines.append("No ImageNet weights are cached. Download some: kerastl weights fetch mobilenet_v2")
    if report["disk_free_gb"] < 2:
        lines.append("Less than 2 GB of disk space is free: checkpoints and exports may not fit.")
    return lines


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Report versions, devices and caches of this machine. Suggests how to install what is missing.

    \b
    Example:
      kerastl doctor
    """
    load_tensorflow()
    report = _report()
    advice = _advice(report)
    if as_json:
        click.echo(json.dumps(report | {"advice": advice}, indent=1))
        return
    machine = report["machine"]
    click.echo(
        f"machine   {machine['system']} {machine['processor']}, {machine['cores']} cores, "
        f"Python {machine['python']}, {report['disk_free_gb']} GB of disk space free"
    )
    click.echo(f"devices   {', '.join(report['devices'])}")
    click.echo("packages  " + ", ".join(f"{name} {v}" for name, v in report["packages"].items()))
    click.echo(f"weights   {len(report['weights']['files'])} files in {report['weights']['folder']}")
    click.echo(f"cache     {report['cache']['size_mb']} MB in {report['cache']['folder']}")
    for kind, names in report["plug_ins"].items():
        click.echo(f"{kind + 's':<9} {len(names)}: {', '.join(names[:8])}{' ...' if names[8:] else ''}")
    for line in advice:
        click.echo(f"advice    {line}")
