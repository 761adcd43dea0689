"""A recipe that names further formats: each is written, verified and shown; a missing package is reported at once."""

import pytest

from kerastl import registry
from kerastl.errors import RequestError
from kerastl.export import check_formats

FORMATS = ("saved_model", "onnx", "litert")


@pytest.fixture
def _installed():
    try:
        check_formats(FORMATS)
    except RequestError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.xdist_group("exported")
@pytest.mark.usefixtures("_installed")
def test_each_format_of_a_recipe_is_written_and_verified_once(request):
    exported = request.getfixturevalue("exported")
    exports = exported.json("freeze.json")["exports"]
    assert set(exports) == set(FORMATS)
    page = (exported.path / "report.html").read_text()
    for name in exports:
        assert exports[name]["faults"] == []
        assert exports[name]["folder"] == f"export/{name}/1"
        assert f"export {name}" in page
    assert exports["onnx"]["predictions"]["largest_difference"] <= 1e-4
    conversion = exported.json("export/litert/1/manifest.json")["conversion"]
    assert conversion["quantize"] == "int8"
    assert conversion["effect"]["test"]["images"] > 0


@pytest.mark.slow
@pytest.mark.xdist_group("exported")
@pytest.mark.usefixtures("_installed")
def test_the_saved_model_of_a_run_computes_the_pixels_and_probabilities_of_the_run(request):
    checks = request.getfixturevalue("exported").json("freeze.json")
    saved_model = checks["exports"]["saved_model"]
    assert saved_model["split"] == "validation"
    assert (saved_model["files"], saved_model["without_file"]) == (8, 0)
    assert saved_model["pixels"] == {"compared": True, "differ": 0, "largest_difference": 0.0}
    assert saved_model["predictions"]["largest_difference"] <= saved_model["predictions"]["allowed"] == 1e-4
    assert checks["determinism"]["differ"] == 0
    assert checks["phases"][1]["batch_norm"]["changed"] == 0


def test_a_missing_package_is_reported_before_anything_is_read(kerastl, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.module("format", "onnx"), "REQUIRED_PACKAGES", ("no_such_package",))
    sets = ("--set", "export.formats=[onnx]")
    done = kerastl("run", recipe, "--out", tmp_path / "out", *sets)
    assert done.code == 1
    assert "kerastl[onnx]" in done.err
    assert not (tmp_path / "out").exists()
