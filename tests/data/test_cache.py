"""The cache folder, and caches that cannot be created."""

import os
from pathlib import Path

import platformdirs
import pytest
from make_images import encoded, noise

from kerastl.data import cache_folder
from kerastl.data.readers import phantom
from kerastl.errors import RequestError


@pytest.fixture(params=["below a file", "below /proc"])
def unwritable_cache(request, tmp_path, monkeypatch) -> Path:
    """Select a cache folder that not even root can create."""
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "cache" if request.param == "below a file" else Path("/proc/nope")
    monkeypatch.setenv("KERASTL_CACHE", str(folder))
    return folder


def test_cache_folder_is_created_at_kerastl_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_cache_folder_defaults_to_the_system_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == Path(platformdirs.user_cache_dir("kerastl"))


def test_images_are_checked_without_a_writable_cache(unwritable_cache, checking):
    assert cache_folder() == unwritable_cache
    result = checking({"good.png": encoded(noise()), "bad.png": b"x"}, cache_dir=cache_folder())
    assert [path for path, _ in result.quarantined] == ["bad.png"]
    assert not os.path.lexists(unwritable_cache)


def test_phantoms_require_a_writable_cache(unwritable_cache):
    options = phantom.Options(patients=2, slices_per_patient=1, image_size_px=32)
    with pytest.raises(RequestError) as error:
        phantom.read(options, seed=0, cache_dir=cache_folder())
    assert str(unwritable_cache) in str(error.value)
    assert "KERASTL_CACHE=DIR" in str(error.value)
