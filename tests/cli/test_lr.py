"""`kerastl lr`: a picture, three rules, a bracket; nothing is overwritten and nothing else left behind."""

import json

import pytest
from PIL import Image

from kerastl.cli import main

SMALL = [
    "quickstart", "--set", "target=null", "--set", "data.image_size_px=32", "--set",
    "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "--set", "phases=[{name: all, epochs: 2, learning_rate: 1e-3, trainable: all}]",
    "--seeds", "2", "--steps", "20",
]  # fmt: skip


@pytest.fixture
def lr(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(["lr", *words])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


def test_the_rules_their_bracket_and_the_curves(lr, tmp_path):
    code, out, err = lr(*SMALL)
    assert code == 0, err
    assert "valley" in out
    assert "over 2 seeds" in out
    assert "--set phases[0].learning_rate=" in out
    (picture,) = tmp_path.iterdir()
    assert picture.name == "lr-quickstart-all.png"
    with Image.open(picture) as image:
        assert image.size == (960, 540)
    first = picture.read_bytes()
    code, out, err = lr(*SMALL, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert len(told["tests"]) == 2
    assert told["picture"] == "lr-quickstart-all-2.png"
    assert picture.read_bytes() == first == (tmp_path / told["picture"]).read_bytes()


def test_wrong_requests_are_told_before_anything_is_read(lr, tmp_path):
    (tmp_path / "old.png").write_bytes(b"old")
    for words, said in [
        (("--phase", "heads"), "There is no phase 'heads'. "),
        (("--out", "rate.pdf"), "must be a file that ends in .png"),
        (("--out", "old.png"), "exists already"),
        (("--out", "nowhere/rate.png"), "There is no folder nowhere"),
    ]:
        code, _, err = lr(*SMALL, *words)
        assert code == 1
        assert said in err
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_help_has_examples(lr):
    assert "kerastl lr mine.yaml --phase fine_tune" in lr("--help")[1]
