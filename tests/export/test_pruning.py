"""Versions: written at a given number, refused if they exist, and old ones removed without touching other entries."""

import json
from pathlib import Path

import pytest

from kerastl.errors import RequestError
from kerastl.export import prune
from kerastl.export.manifest import write_manifest
from kerastl.export.versions import check_version_free, next_version


def version(out, number, model="saved_model.pb"):
    folder = out / str(number)
    (folder / "assets").mkdir(parents=True)
    (folder / model).write_text("model")
    (folder / "MODEL_CARD.md").write_text("card")
    write_manifest(
        folder, class_names=("a", "b"), image_size_px=8, window=None, max_pixels=100,
        model_sha256="0" * 64, versions={},
    )  # fmt: skip
    return folder


def names(out):
    return sorted(path.name for path in out.iterdir())


def test_the_newest_versions_remain(tmp_path):
    for number in (1, 2, 9, 10):
        version(tmp_path, number)
    pruned = prune(tmp_path / "10", 2)
    assert [path.name for path in pruned.removed] == ["1", "2"]
    assert pruned.skipped == ()
    assert names(tmp_path) == ["10", "9"]
    assert prune(tmp_path / "10", 2).removed == ()
    prune(tmp_path / "10", 1)
    assert names(tmp_path) == ["10"]


def test_a_higher_version_is_kept(tmp_path):
    for number in (1, 2, 3, 7):
        version(tmp_path, number)
    assert [path.name for path in prune(tmp_path / "3", 1).removed] == ["1", "2"]
    assert names(tmp_path) == ["3", "7"]


def test_entries_that_are_not_versions_are_kept_and_reported(tmp_path):
    version(tmp_path, 1, model="model.keras")
    (tmp_path / "2").mkdir()
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "manifest.json").write_text(json.dumps({"name": "of another program"}))
    (tmp_path / "4").write_text("a file")
    elsewhere = version(tmp_path / "elsewhere", 5)
    (tmp_path / "5").symlink_to(elsewhere)
    version(tmp_path, 6)
    version(tmp_path, 7)
    (tmp_path / "notes").mkdir()
    pruned = prune(tmp_path / "7", 1)
    assert [path.name for path in pruned.removed] == ["6"]
    assert sorted(path.name for path in pruned.skipped) == ["1", "2", "3", "4", "5"]
    assert (elsewhere / "saved_model.pb").is_file()
    assert names(tmp_path) == ["1", "2", "3", "4", "5", "7", "elsewhere", "notes"]


def test_a_version_is_hidden_before_it_is_removed(tmp_path, monkeypatch):
    version(tmp_path, 1)
    version(tmp_path, 2)

    def stopped(path, **options):
        assert (Path(path) / "1" / "saved_model.pb").is_file(), "whole"
        raise KeyboardInterrupt

    for function in ("shutil.rmtree", "tempfile._rmtree"):  # the name in some versions of Python
        monkeypatch.setattr(function, stopped, raising=False)
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path / "2", 1)
    seen = [name for name in names(tmp_path) if not name.startswith(".")]
    assert seen == ["2"]


def test_at_least_one_version_must_be_kept(tmp_path):
    with pytest.raises(RequestError, match="0"):
        prune(version(tmp_path, 1), 0)


@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_a_version_out_of_range_is_refused(tmp_path, number):
    with pytest.raises(RequestError, match="1"):
        check_version_free(tmp_path, number)


def test_an_existing_version_is_refused_with_the_next_one(tmp_path):
    check_version_free(tmp_path / "new", 4)
    assert next_version(tmp_path / "new") == 1
    for name in ("007", "3"):
        (tmp_path / name).mkdir()
    check_version_free(tmp_path, 8)
    for number in (3, 7):
        with pytest.raises(RequestError, match=rf"version {number}.*8"):
            check_version_free(tmp_path, number)
