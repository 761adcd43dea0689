"""The `kerastl weights` command."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from kerastl.cli.weights import command
from kerastl.models import list_backbones


def test_ls_lists_backbones_and_cached_files(keras_home):
    result = CliRunner().invoke(command, ["ls", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(rows) == set(list_backbones())
    assert len(rows["mobilenet_v2"]["cached"]) == 3
    assert rows["vgg16"]["cached"] == []
    text = CliRunner().invoke(command, ["ls"]).stdout
    assert all(name in text for name in rows)


def test_ls_does_not_import_tensorflow():
    code = (
        "import sys; from kerastl.cli.weights import command\n"
        "command(['ls'], standalone_mode=False)\n"
        "print([m for m in ('tensorflow', 'keras', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_fetch_parses_options(monkeypatch):
    import kerastl.models

    received = {}
    monkeypatch.setattr(
        kerastl.models, "fetch_weights", lambda name, **options: received.update(options) or "x"
    )
    arguments = ["fetch", "mobilenet_v2", "--option", "alpha=0.35", "--image-size-px", "96"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert received == {"alpha": 0.35, "image_size_px": 96}
    assert CliRunner().invoke(command, ["fetch", "vgg16", "--option", "alpha"]).exit_code == 2


@pytest.mark.parametrize(("content", "code"), [("good", 0), (b"damaged", 1)])
def test_verify_exits_1_for_a_damaged_file(assets, tmp_path, monkeypatch, content, code):
    file = "mobilenet_2_5_128_tf_no_top.h5"
    (tmp_path / "models").mkdir()
    good = (assets / "keras" / "models" / file).read_bytes()
    (tmp_path / "models" / file).write_bytes(good if content == "good" else content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    result = CliRunner().invoke(command, ["verify"])
    assert result.exit_code == code, result.output
    assert file in result.output
    assert ("no published hash" in result.output) == (code == 0)
    assert "No weights" in CliRunner().invoke(command, ["verify", "vgg16"]).output


def test_an_unknown_backbone_and_a_wrong_option_are_reported():
    unknown = CliRunner().invoke(command, ["verify", "resnet_50"])
    assert "Did you mean 'resnet50'?" in str(unknown.exception)
    wrong = CliRunner().invoke(command, ["fetch", "mobilenet_v2", "--option", "alpha=7"])
    assert str(wrong.exception).startswith(
        "mobilenet_v2 has 1 problem.\n  alpha: must be a number from 0.1 to 2"
    )


def test_ls_reports_the_license_of_a_preset(assets):
    name = f"keras_hub/{assets / 'keras_hub' / 'efficientnet_lite0'}"
    (row,) = (
        row
        for row in json.loads(CliRunner().invoke(command, ["ls", name, "--json"]).stdout)
        if "license" in row
    )
    assert (row["name"], row["parameters"], row["image_size_px"]) == (
        "keras_hub/efficientnet_lite0",
        3_413_024,
        224,
    )
    assert "Apache" in row["license"]
    assert "license: " + row["license"] in CliRunner().invoke(command, ["ls", name]).stdout
    assert (
        CliRunner().invoke(command, ["verify", name]).stdout
        == "model.weights.h5: can be read (no published hash)\n"
    )


@pytest.mark.parametrize("subcommand", ["fetch", "verify"])
def test_a_model_file_has_no_published_weights(subcommand):
    result = CliRunner().invoke(command, [subcommand, "mine.keras"])
    assert str(result.exception) == "No weights are published for mine.keras, because it contains its own."


def test_fetch_downloads_a_published_preset_of_keras_hub(monkeypatch):
    from kerastl.models import hub_presets

    handles = []
    monkeypatch.setattr("kagglehub.model_download", handles.append)
    monkeypatch.setattr(hub_presets, "read_preset", lambda name: type("Preset", (), {"folder": name}))
    name = next(name for name in hub_presets.published_presets() if name.startswith("dinov2_"))
    result = CliRunner().invoke(command, ["fetch", f"keras_hub/{name}"])
    assert result.stdout == f"keras_hub/{name}\n"
    assert handles == [hub_presets.published_presets()[name]["handle"].removeprefix("kaggle://")]
