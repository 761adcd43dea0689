"""`kerastl weights`: list, download and verify pretrained weights."""

from __future__ import annotations

import json
from typing import Any

import click

from kerastl import models, registry
from kerastl.cli import SuggestingGroup
from kerastl.cli._output import format_value, json_option
from kerastl.console import load_tensorflow
from kerastl.image_size import plain_size


@click.group("weights", cls=SuggestingGroup)
def command() -> None:
    """List, download and verify pretrained weights.

    \b
    Example:
      kerastl weights ls
    """


@command.command("ls")
@click.argument("presets", nargs=-1)
@json_option
def list_weights(presets: tuple[str, ...], as_json: bool) -> None:
    """List all backbones and their cached weights. Prints size, parameters, published accuracy and image size.

    Downloaded presets of KerasHub are listed with the license of their weights. PRESETS are further presets,
    keras_hub/PATH.

    \b
    Examples:
      kerastl weights ls
      kerastl weights ls keras_hub/models/efficientnet_lite0
    """
    rows = [_row(name, backbone) for name, backbone in models.list_backbones().items()]
    rows += [_preset_row(name) for name in (*models.downloaded_presets(), *presets)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'name':<20} {'size MB':>8} {'parameters':>12} {'top-1':>6} {'input px':>9}  cached")
    for row in rows:
        cached = ", ".join(f"{file['mb']} MB" for file in row["cached"]) or "no"
        click.echo(
            f"{row['name']:<20} {row['size_mb']:>8.1f} {row['parameters']:>12,} {format_value(row['top1']):>6} "
            f"{row['image_size_px']:>9}  {cached}"
            f"{'; license: ' + (row['license'] or 'not stated') if 'license' in row else ''}"
        )
    click.echo(
        "Sizes without the top, with default options. Top-1 accuracy on the ImageNet validation set from keras.io."
    )


def _row(name: str, backbone: models.Backbone) -> dict[str, Any]:
    return {
        "name": name,
        "size_mb": round(backbone.parameters * 4 / 1e6, 1),
        "parameters": backbone.parameters,
        "top1": backbone.top1,
        "top1_source": backbone.top1_source,
        "image_size_px": backbone.image_size_px,
        "min_size_px": backbone.min_size_px,
        "reference": backbone.reference,
        "published": bool(backbone.weights),
        "cached": [
            {"file": str(path), "mb": round(path.stat().st_size / 1e6, 1), "top": top}
            for path, _, top in models.cached_files(name)
        ],
    }


def _preset_row(name: str) -> dict[str, Any]:
    preset, size = models.read_preset(name), models.resolve_image_size(name, None)
    files = preset.weight_files()
    return {
        "name": models.public_name(name),
        "size_mb": round(preset.parameters * 4 / 1e6, 1),
        "parameters": preset.parameters,
        "top1": None,
        "image_size_px": plain_size(size),
        "cached": [{"file": str(path), "mb": round(path.stat().st_size / 1e6, 1)} for path in files],
        "license": preset.license,
    }


@command.command("fetch")
@click.argument("name")
@click.option("--image-size-px", type=int, help="Side of the images.  [default: as published]")
@click.option(
    "--option", "words", multiple=True, help="Option of the family, such as alpha=0.35; can be repeated."
)
def fetch(name: str, image_size_px: int | None, words: tuple[str, ...]) -> None:
    """Download the ImageNet weights of one backbone, or a preset of KerasHub, to the cache folder of Keras or kagglehub.

    \b
    Examples:
      kerastl weights fetch mobilenet_v2 --image-size-px 160
      kerastl weights fetch mobilenet_v2 --option alpha=0.35
      kerastl weights fetch keras_hub/vit_base_patch16_224_imagenet
    """
    if registry.is_preset(name):
        click.echo(models.fetch_preset(name))
        return
    options = dict(_parsed(word) for word in words)
    click.echo(models.fetch_weights(name, image_size_px=image_size_px, **options))


def _parsed(word: str) -> tuple[str, Any]:
    """Parse `alpha=0.35`; the value is parsed as JSON if possible."""
    key, equals, text = word.partition("=")
    if not equals:
        raise click.BadParameter(f"'{word}' is not KEY=VALUE, e.g. alpha=0.35", param_hint="--option")
    try:
        return key.strip(), json.loads(text.lower())
    except json.JSONDecodeError:
        return key.strip(), text


@command.command("verify")
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Check cached weights against their published hashes. The exit code is 1 if a file is wrong.

    MobileNet and MobileNetV2 have no published hashes: their files are only checked to match the network.

    \b
    Examples:
      kerastl weights verify
      kerastl weights verify mobilenet_v2
    """
    if name and registry.is_preset(name):
        preset = models.read_preset(name)
        preset.read_vectors()
        for file in preset.weight_files():
            click.echo(f"{file.name}: can be read (no published hash)")
        return
    if name:
        models.get_backbone(name)
    load_tensorflow()
    names = [name] if name else [name for name in models.list_backbones() if models.cached_files(name)]
    faults = count = 0
    for backbone in names:
        hashed = all(row.hash for row in models.list_backbones()[backbone].weights)
        result = "correct hash" if hashed else "matches the network (no published hash)"
        for path, problem in models.verify_weights(backbone):
            count += 1
            faults += problem is not None
            click.echo(f"{path.name}: {problem or result}")
    if not count:
        click.echo(f"No weights{f' of {name}' if name else ''} are cached in {models.models_folder()}.")
    if faults:
        raise SystemExit(1)
