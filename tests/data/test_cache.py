"""A cache that cannot be made: no run stops for want of it, unless images must lie there."""

import os
from pathlib import Path

import platformdirs
import pytest
from images_drawn import encoded, noise

from kerastl.data import cache_folder
from kerastl.data.readers import phantom
from kerastl.errors import RequestError


@pytest.fixture(params=["below a file", "below /proc"])
def impossible(request, tmp_path, monkeypatch) -> Path:
    """Name a cache folder that not even root can make."""
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "cache" if request.param == "below a file" else Path("/proc/nope")
    monkeypatch.setenv("KERASTL_CACHE", str(folder))
    return folder


def test_the_cache_is_the_named_folder_and_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_without_a_name_the_cache_is_where_the_system_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == Path(platformdirs.user_cache_dir("kerastl"))


def test_images_are_checked_without_a_cache_that_cannot_be_made(impossible, checking):
    assert cache_folder() == impossible
    found = checking({"good.png": encoded(noise()), "bad.png": b"x"}, cache_dir=cache_folder())
    assert [path for path, _ in found.quarantined] == ["bad.png"]
    assert not os.path.lexists(impossible)


def test_phantoms_that_have_no_place_are_refused_with_the_folder_and_how_to_name_another(impossible):
    options = phantom.Options(patients=2, slices_per_patient=1, image_size_px=32)
    with pytest.raises(RequestError) as error:
        phantom.read(options, seed=0, cache_dir=cache_folder())
    assert str(impossible) in str(error.value)
    assert "KERASTL_CACHE=DIR" in str(error.value)
