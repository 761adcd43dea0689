"""A recipe that names further formats: each is written, proven and shown; what cannot be written is refused at once."""

import json

import pytest

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.export import check_formats

EXPORTS = "export={formats: [saved_model, onnx, litert], quantize: int8}"


@pytest.mark.slow
def test_each_format_of_a_recipe_is_written_and_proven_once(kerastl, recipe, tmp_path):
    try:
        check_formats(["onnx", "litert"])
    except RequestError as error:
        pytest.skip(str(error))
    out = tmp_path / "out"
    done = kerastl("run", recipe, "--out", out, "--set", EXPORTS)
    assert done.code == 0, done.err
    exports = json.loads((out / "freeze.json").read_text())["exports"]
    assert set(exports) == {"saved_model", "onnx", "litert"}
    for name in exports:
        assert exports[name]["faults"] == []
        assert exports[name]["folder"] == f"export/{name}/1"
    assert exports["onnx"]["predictions"]["largest_difference"] <= 1e-4
    told = json.loads((out / "export/litert/1/manifest.json").read_text())["conversion"]
    assert told["quantize"] == "int8"
    assert told["cost"]["test"]["images"] > 0
    page = (out / "report.html").read_text()
    assert "export onnx: answers" in page
    assert "labels that differ: " in page


def test_a_missing_package_is_told_before_anything_is_read(kerastl, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.module("format", "onnx"), "NEEDS", ("no_such_package",))
    done = kerastl("run", recipe, "--out", tmp_path / "out", "--set", EXPORTS)
    assert done.code == 1
    assert "pip install 'kerastl[onnx]'" in done.err
    assert not (tmp_path / "out").exists()
