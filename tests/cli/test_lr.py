"""`kerastl lr`: a figure, three rules, an interval; nothing is overwritten."""

import json

import pytest
from PIL import Image

from kerastl.cli import main

SMALL = [
    "quickstart", "--set", "target=null", "--set", "data.image_size_px=32", "--set", "augment=none", "--set",
    "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "--set", "phases=[{name: all, epochs: 2, learning_rate: 1e-3, trainable: all}]",
    "--seeds", "2",
]  # fmt: skip
SHORT = ["--steps", "20"]
ONE_SEED = [*SMALL[:-1], "1"]


@pytest.fixture
def lr(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(["lr", *words])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


@pytest.mark.slow
def test_lr_prints_three_rules_and_writes_the_curves(lr, tmp_path):
    code, out, err = lr(*SMALL, *SHORT)
    assert code == 0, err
    assert "valley" in out
    assert "--set 'phases[0].learning_rate=" in out
    (plot,) = tmp_path.iterdir()
    assert plot.name == "lr-quickstart-all.png"
    with Image.open(plot) as image:
        assert image.size == (960, 540)
    first = plot.read_bytes()
    code, out, err = lr(*SMALL, *SHORT, "--json")
    assert code == 0, err
    output = json.loads(out)
    assert len(output["tests"]) == 2
    assert output["image"] == "lr-quickstart-all-2.png"
    assert plot.read_bytes() == first == (tmp_path / output["image"]).read_bytes()


CACHED = [
    "folder-classifier", "--set", "data.image_size_px=32", "--set",
    "data.reader={name: phantom, patients: 12, slices_per_patient: 2, image_size_px: 32}",
    "--set", "backbone={name: small_cnn, weights: none}", "--set", "data.batch_size=8", "--set", "augment=",
    "--seeds", "2", "--steps", "10", "--json",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "augment"),
    [
        pytest.param("trainable: {from_block: block_3}, cache: boundary", "none", marks=pytest.mark.slow),
        (
            "trainable: none, cache: features",
            "{operations: [{name: random_contrast, max_fraction: 0.2}], views: 2}",
        ),
    ],
    ids=["boundary", "augmented"],
)
def test_frozen_layers_are_computed_once_for_all_seeds_and_calls(lr, monkeypatch, tmp_path, phase, augment):
    from kerastl.training import feature_cache

    monkeypatch.setenv("KERASTL_CACHE", str(tmp_path / "cache"))
    phases = (
        "phases=[{name: whole, epochs: 1, learning_rate: 1e-3, trainable: all},"
        f"{{name: last, epochs: 1, learning_rate: 1e-3, batch_norm: frozen, {phase}}}]"
    )
    words = [word if word != "augment=" else f"augment={augment}" for word in CACHED]
    fills, compute = [], feature_cache._compute
    monkeypatch.setattr(feature_cache, "_compute", lambda *given: fills.append(given) or compute(*given))
    output = []
    for _ in range(2):
        code, out, err = lr(*words, "--phase", "last", "--set", phases)
        assert code == 0, err
        output.append(json.loads(out)["tests"])
    assert len(fills) == 1
    assert output[0] == output[1]
    assert len({tuple(test["losses"]) for test in output[0]}) == 2


@pytest.mark.slow
def test_without_a_falling_loss_there_is_no_rate_but_a_larger_batch_to_try(lr):
    """The batch size is `auto`, and the next command has a number."""
    code, out, err = lr(*ONE_SEED, *SHORT, "--highest", "1e-5", "--set", "data.batch_size=auto")
    assert code == 0, err
    assert out.count("inconclusive") >= 3
    assert out.rstrip().endswith("--set data.batch_size=64")
    assert "learning_rate=" not in out


@pytest.mark.slow
def test_the_printed_key_is_that_of_the_recipe_with_gradual_unfreezing(lr):
    phases = (
        "phases=[{name: whole, epochs: 1, learning_rate: 1e-3, trainable: all},"
        "{name: a, epochs: 3, learning_rate: 1e-3, trainable: {unfreeze: one_block_per_epoch}},"
        "{name: b, epochs: 1, learning_rate: 1e-3, trainable: all}]"
    )
    code, out, err = lr(*ONE_SEED, "--set", phases, "--phase", "b", "--steps", "60")
    assert code == 0, err
    assert "--set 'phases[2].learning_rate=" in out


def test_wrong_requests_are_refused_before_anything_is_read(lr, tmp_path):
    (tmp_path / "old.png").write_bytes(b"old")
    for words, key in [
        (("--phase", "heads"), "'heads'"),
        (("--lowest", "1", "--highest", "1e-3"), "lowest"),
        (("--out", "rate.pdf"), ".png"),
        (("--out", "old.png"), "old.png"),
        (("--out", "nowhere/rate.png"), "nowhere"),
    ]:
        code, _, err = lr(*SMALL, *words)
        assert code == 1
        assert key in err
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_help_has_examples(lr):
    assert "kerastl lr mine.yaml --phase fine_tune" in lr("--help")[1]
