"""`kerastl cache ls` and `prune`: entries are listed without names of images, and removed if not in use."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kerastl.cli import main
from kerastl.data import cache_entries, entry_lock, mark_in_use, prune_cache
from kerastl.data.cache import FILE_NAME, FileCheck, read_file_checks, write_file_checks
from kerastl.data.readers import phantom

DAY_S = 86_400
CONTENTS = {
    "network": "mobilenet_v2", "boundary": "block_13", "images": 600, "views": 2, "precision": "bfloat16",
}  # fmt: skip


def activations(folder, name, *, days, size=1000, holds=CONTENTS):
    entry = folder / "activations" / (name * 32)
    entry.mkdir(parents=True)
    (entry / "tensor0.bin").write_bytes(b"\0" * size)
    (entry / "about.json").write_text(json.dumps({"holds": holds, "sha256": {}}))
    set_last_use(entry, days)
    return entry


def set_last_use(path, days):
    moment = time.time() - days * DAY_S
    os.utime(path, (moment, moment))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def call(cache, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as left:
            main(["cache", *words])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


def test_list_describes_entries_without_names_of_images_or_patients(cache, call):
    activations(cache, "a", days=3)
    drawn = phantom.read(
        phantom.Options(patients=2, slices_per_patient=2, image_size_px=32), seed=1, cache_dir=cache
    )
    files = cache / "tfds" / "tiny_shapes-0123456789abcdef" / "train"
    files.mkdir(parents=True)
    (files / "index.csv").write_text("index,file,label\n0,secret_patient.png,a\n1,b.png,b\n")
    write_file_checks(cache, {"k": FileCheck(None), "l": FileCheck("broken")})
    (cache / "notes.txt").write_text("not ours")
    (cache / "activations" / "mine").mkdir()
    code, out, err = call("ls")
    assert (code, err) == (0, "")
    assert "mobilenet_v2 after block_13, 600 images, 2 views, bfloat16" in out
    assert "3 days ago" in out
    assert "4 images  [in use]" in out  # this process has read the phantoms
    assert "tiny_shapes, 2 images" in out
    assert "2 files" in out
    assert "secret" not in out
    assert drawn.records[0].group not in out
    assert "mine" not in out
    code, out, _ = call("ls", "--json")
    listed = json.loads(out)
    assert {entry["kind"]: entry["holds"].get("images") for entry in listed["entries"]} == {
        "activations": 600, "phantom": 4, "tfds": 2, "file_checks": 2,
    }  # fmt: skip
    sizes = {entry["kind"]: entry["bytes"] for entry in listed["entries"]}
    assert sizes["activations"] == 1000 + len(json.dumps({"holds": CONTENTS, "sha256": {}}))


def test_a_limit_that_is_not_a_number_is_rejected(cache, call):
    assert call("prune", "--keep-gb", "nan")[0] == 2
    assert call("prune", "--older-than", "NaN")[0] == 2


def test_least_recently_used_entries_are_removed_first(cache, call):
    ages = {"a": 40, "b": 5, "c": 60, "d": 1}
    kept = {name: activations(cache, name, days=age) for name, age in ages.items()}
    (cache / "activations" / "mine").mkdir()
    (cache / "notes.txt").write_text("not ours")
    entry_bytes = sum(file.stat().st_size for file in kept["a"].iterdir())
    code, out, _ = call("prune", "--older-than", "30", "--dry-run")
    assert code == 0
    assert out.count("to delete") == 2
    assert all(path.is_dir() for path in kept.values())
    call("prune", "--older-than", "50")
    assert [name for name, path in kept.items() if path.is_dir()] == ["a", "b", "d"]
    call("prune", "--keep-gb", str(2.5 * entry_bytes / 1e9))
    assert [name for name, path in kept.items() if path.is_dir()] == ["b", "d"]
    code, out, _ = call("prune", "--all", "--json")
    assert json.loads(out)["kept_bytes"] == 0
    assert cache_entries() == []
    assert sorted(path.name for path in cache.rglob("*") if path.suffix != ".lock") == [
        "activations", "mine", "notes.txt",
    ]  # fmt: skip


def test_use_updates_the_time_of_last_use(cache):
    entry = activations(cache, "a", days=40)
    with entry_lock(entry):
        mark_in_use(entry, user := _User())
    del user
    write_file_checks(cache, {"k": FileCheck(None)})
    set_last_use(cache / FILE_NAME, 40)
    read_file_checks(cache, ["k"])
    assert prune_cache(older_than_days=30).removed == ()


class _User:
    pass


HOLDER = """
import sys
from pathlib import Path
from kerastl.data import entry_lock, mark_in_use
entry = Path(sys.argv[1])
if sys.argv[2] == "writes":
    lock = entry_lock(entry).acquire()
else:
    with entry_lock(entry):
        mark_in_use(entry)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["uses", "writes"])
def test_entry_in_use_is_kept_until_its_process_exits(cache, call, what):
    entry, other = activations(cache, "a", days=9), activations(cache, "b", days=9)
    part = entry.with_name(f".{entry.name}.part")
    part.mkdir()
    command = [sys.executable, "-c", HOLDER, str(entry), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        set_last_use(entry, 9)
        _, out, _ = call("prune", "--all")
        assert entry.is_dir()
        assert not other.exists()
        assert "in use    activations" in out
        assert part.is_dir() == (what == "writes")
        process.send_signal(signal.SIGKILL)
    call("prune", "--all")
    assert not entry.exists()
    assert [path.name for path in entry.parent.iterdir() if path.suffix != ".lock"] == []


def test_entry_used_after_listing_is_kept(cache, monkeypatch):
    from kerastl.data import cache as cache_prune

    entry = activations(cache, "a", days=9)
    num_images = cache_entries()
    os.utime(entry)
    monkeypatch.setattr(cache_prune, "cache_entries", lambda folder: num_images)
    assert prune_cache(older_than_days=1).removed == ()
    assert entry.is_dir()


def test_locked_file_checks_are_kept_and_damaged_ones_are_removed(cache):
    write_file_checks(cache, {"k": FileCheck(None)})
    with entry_lock(cache / FILE_NAME):
        assert [entry.kind for entry in prune_cache(keep_gb=0).in_use] == ["file_checks"]
    (cache / FILE_NAME).write_bytes(b"no database, but long enough to be looked at" * 99)
    assert [entry.kind for entry in prune_cache(keep_gb=0).removed] == ["file_checks"]
    assert not (cache / FILE_NAME).exists()


def test_prune_requires_a_valid_limit(call):
    code, _, err = call("prune")
    assert code == 2
    assert "--older-than DAYS" in err
    code, _, err = call("prune", "--all", "--keep-gb", "3")
    assert code == 2
    code, _, err = call("prune", "--keep-gb", "-1")
    assert code == 2


def test_empty_cache_is_listed(call):
    code, out, _ = call("ls")
    assert code == 0
    assert out.startswith("0 bytes in ")


def test_command_does_not_import_tensorflow_or_numpy(cache):
    code = (
        "import sys\nfrom kerastl.cli import main\ntry: main(['cache', 'prune', '--all'])\n"
        "except SystemExit: pass\nprint({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
