import base64
import csv
import json
import re
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kerastl.errors import RequestError
from kerastl.report import summary_facts, write_report
from kerastl.report.figures import curve_charts, thumbnail
from kerastl.report.tables import calibration_rows, check_rows, frozen_table, parameter_table
from kerastl.runs import Freeze, PhaseSummary, Summary
from kerastl.runs.schemas import SplitScores

HOSTILE = '<script>alert("1")</script>'
CLASSES = ("benign", HOSTILE)
OPTIONAL = [
    "adaptation.json", "freeze.json", "history.jsonl", "model.json", "notes.json",
    "predictions.csv", "quarantine.csv", "recipe.resolved.yaml", "summary.json", "versions.json",
]  # fmt: skip


def metric(value: float | None) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None, "reason": "a class it needs is absent"}
    return {"value": value, "low": value - 0.05, "high": value + 0.04}


def scores() -> dict[str, Any]:
    overall = {"accuracy": metric(0.871), "balanced_accuracy": metric(0.862), "auc": metric(None)}
    classes = {name: {"recall": metric(0.8), "support": {"value": 60}} for name in CLASSES}
    split = {
        "overall": overall, "classes": classes, "domains": {HOSTILE: overall, "b": overall},
        "confusion": [[51, 9], [4, 56]], "class_names": list(CLASSES), "count": 120, "groups": 24,
    }  # fmt: skip
    return {"test": split, "val": split, "interval": {"level": 0.95, "method": HOSTILE}}


def summary() -> dict[str, Any]:
    size = {"smallest": 200, "median": 200, "largest": 200}
    data = {
        "path": HOSTILE, "images": 1, "classes": {HOSTILE: 1}, "splits": {"train": {HOSTILE: 1}},
        "groups": {"train": 1, "all": 1}, "kinds": {"png": 1}, "width_px": size, "height_px": size, "gray": 0,
        "images_16_bit": 0, "unreadable": 0, "ignored": {HOSTILE: 1}, "warnings": [HOSTILE],
    }  # fmt: skip
    phase = {
        "phase": HOSTILE, "domain": "source", "planned_epochs": 2, "epochs": 2, "trained": 10, "frozen": 90,
        "monitor": "val_loss", "best_epoch": 1, "best": 0.6, "earlier_best": None, "stopped": "all_epochs",
        "helped": None, "keep": "best", "kept_phase": HOSTILE, "kept_epoch": 1,
    }  # fmt: skip
    confused = {"label": HOSTILE, "predicted": "benign", "images": 9, "of": 60}
    return {
        "data": {"source": data}, "phases": [phase],
        "model": {"backbone": HOSTILE, "weights": HOSTILE, "head": HOSTILE, "parameters": 100},
        "kept": {"candidate": None, "phase": HOSTILE, "epoch": 1, "reason": HOSTILE},
        "headline": {
            "split": "test", "metric": "balanced_accuracy", "estimate": metric(0.862), "images": 120, "groups": 24,
            "most_confused": confused, "few_images": {HOSTILE: 3},
        },
    }  # fmt: skip


def write_table(file: Path, rows: list[list[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def shown_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report, which tests do not change."""
    folder = write_run(tmp_path_factory.mktemp("shown"))
    write_report(folder)
    return folder


def write_run(parent: Path) -> Path:
    """Write a finished run with hostile names, one image that can be shown and several that cannot."""
    root, folder = parent / "data", parent / "run <b>7"
    root.mkdir()
    folder.mkdir()
    Image.fromarray(np.full((300, 200, 3), (200, 30, 30), np.uint8)).save(root / "red.png")
    (parent / "secret.png").write_bytes((root / "red.png").read_bytes())
    files: dict[str, Any] = {
        "scores.json": scores(),
        "versions.json": {"seed": 7, "packages": {"keras": "3.15.1"}, "devices": [HOSTILE]},
        "notes.json": [f"head new: {HOSTILE}"],
        "adaptation.json": {
            "chosen": "fine_tune", "reason": HOSTILE, "verdict": "cannot_tell", "candidates": {},
            "target_test": {"source_only": {"auc": metric(0.7)}, "chosen": {"auc": metric(0.8)},
                            "difference": {"metric": "auc", "outcome": "better", **metric(0.1)}},
        },
        "freeze.json": {"phases": [{"phase": HOSTILE, "layers": [
            {"layer": HOSTILE, "trainable": False, "before": "a", "after": "a", "changed": False}]}],
            "determinism": {"images": 3, "faults": [HOSTILE]}, "exports": {HOSTILE: {"reason": HOSTILE}}},
        "summary.json": summary(),
        "model.json": {
            "class_names": CLASSES, "image_size_px": 96, "window": None, "max_pixels": 10**6,
            "data_root": str(root),
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    history = [{"phase": HOSTILE, "epoch": 1, "loss": 0.7, "val_loss": 0.6, "accuracy": 0.5},
               {"phase": "b", "epoch": 2, "loss": 0.5, "accuracy": 0.6}]  # fmt: skip
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    (folder / "recipe.resolved.yaml").write_text(f"# {HOSTILE}\nseed: 7\n")
    names = ["path", "label", "predicted", "split", "group", "domain"]
    rows = [["red.png", "benign", HOSTILE, "test", "p1", HOSTILE, 0.1, 0.9],
            ["../secret.png", "benign", HOSTILE, "test", "p1", "a", 0.05, 0.95],
            [f"{HOSTILE}.png", HOSTILE, "benign", "test", "p2", "a", 0.8, 0.2],
            ["fine.png", "benign", "benign", "test", "p2", "a", 0.99, 0.01]]  # fmt: skip
    write_table(
        folder / "predictions.csv",
        [
            [*names, *(f"{kind}_{name}" for kind in ("prob", "logit") for name in CLASSES)],
            *([*row, *np.log(row[-2:])] for row in rows),
        ],
    )
    write_table(folder / "quarantine.csv", [["path", "reason"], [HOSTILE, f"{HOSTILE} it is cut"]])
    return folder


class Seen(HTMLParser):
    """Every tag, address and word of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words += data


def seen(folder: Path) -> Seen:
    return Seen(write_report(folder).read_text(encoding="utf-8"))


def test_hostile_names_are_text_and_the_page_loads_nothing(shown_folder: Path) -> None:
    text = (shown_folder / "report.html").read_text()
    page = Seen(text)
    assert page.words.count(HOSTILE) >= 12
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert len(page.addresses) >= 3
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "default-src 'none'" in text
    assert re.findall(r"https?://", text) == []


def test_invisible_characters_are_escaped(run_folder: Path) -> None:
    turning = "\u202egnp.x\u2066\u200f\u061c\x1b"
    write_table(run_folder / "quarantine.csv", [["path", "reason"], [f"<{turning}", "cut"]])
    notes = ["\u202d", "x\u200cy", "a\u00a0b"]
    (run_folder / "notes.json").write_text(json.dumps(notes))
    page = seen(run_folder)
    assert r"<\u202egnp.x\u2066\u200f\u061c\x1b" in page.words
    assert r"\u202d" in page.words
    assert all(note in page.words for note in notes[1:])
    hidden = [word for word in page.words if unicodedata.category(word) in ("Cf", "Cc")]
    assert set(hidden) <= {"\n", "\r", "\t", "\u200c"}
    assert "<h" in write_report(run_folder).read_text(encoding="utf-8")


def test_the_headline_is_the_balanced_accuracy_on_test_with_its_interval(shown_folder: Path) -> None:
    words = " ".join(Seen((shown_folder / "report.html").read_text()).words.split())
    assert "balanced accuracy on test 0.862 0.812 to 0.902" in words
    assert "better: on the target test images" in words


def test_the_most_confident_errors_come_first_and_only_images_of_the_data_are_shown(
    shown_folder: Path, tmp_path: Path
) -> None:
    page = Seen((shown_folder / "report.html").read_text())
    positions = [page.words.index(name) for name in ("95.0%", "90.0%", "80.0%")]
    assert positions == sorted(positions)
    assert page.words.count("not shown") == 2
    images = [address for address in page.addresses if address.startswith("data:image/png")]
    assert len(images) == 1
    (tmp_path / "shown.png").write_bytes(base64.b64decode(images[0].split(",")[1]))
    shown = Image.open(tmp_path / "shown.png")
    assert shown.size == (107, 160)
    assert shown.getpixel((50, 50)) == (200, 30, 30)


@pytest.mark.parametrize("names", [OPTIONAL[::2], OPTIONAL[1::2], OPTIONAL], ids=["even", "odd", "all"])
def test_the_page_omits_missing_files(names: list[str], run_folder: Path) -> None:
    for name in names:
        (run_folder / name).unlink()
    assert "0.862" in seen(run_folder).words


def test_a_run_without_scores_still_has_a_page(run_folder: Path) -> None:
    for name in [*OPTIONAL, "scores.json"]:
        if name != "recipe.resolved.yaml":
            (run_folder / name).unlink()
    assert "no scores" in seen(run_folder).words


def test_the_same_folder_gives_the_same_bytes(shown_folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / shown_folder.name
    shutil.copytree(shown_folder, again)
    (again / "report.html").unlink()
    assert write_report(again).read_bytes() == (shown_folder / "report.html").read_bytes()


def test_a_damaged_file_is_reported(run_folder: Path) -> None:
    (run_folder / "freeze.json").write_text("{")
    with pytest.raises(RequestError, match=r"freeze\.json"):
        write_report(run_folder)
    with pytest.raises(RequestError, match=str(run_folder.parent)):
        write_report(run_folder.parent)


def test_adjacent_layers_with_the_same_states_share_a_row() -> None:
    def layer(name: str, trainable: bool, moved: bool) -> dict[str, Any]:
        return {"layer": name, "trainable": trainable, "changed": moved}

    held = [(f"block_{i}_{kind}", False) for i in range(1, 4) for kind in ("conv", "bn")]
    trained = [(f"block_{i}_{kind}", kind == "conv") for i in (4, 5) for kind in ("conv", "bn")]
    layers = [layer(name, on, on) for name, on in [*held, *trained, ("head", True)]]
    layers.append(layer("broken", False, True))
    phases, rows = frozen_table(Freeze.model_validate({"phases": [{"phase": "tune", "layers": layers}]}))
    assert phases == ["tune"]
    assert [(row.first, row.last, row.count, row.cells) for row in rows] == [
        ("block_1_conv", "block_3_bn", 6, ["frozen"]),
        ("block_4_conv", "head", 5, ["trained; BatchNorm frozen"]),
        ("broken", "broken", 1, ["CHANGED although frozen"]),
    ]


def test_each_check_has_a_row_with_its_outcome() -> None:
    moved = {"layer": "bn", "statistic": "moving_mean", "channel": 3, "deviations": 0.251}
    phase = {
        "phase": "tune", "faults": ["1 frozen variables moved"], "layers": [],
        "batch_norm": {"rule": "frozen", "layers": 2, "changed": 1, "largest": moved},
        "parameters": {"total": 30, "trained": 4, "blocks": [
            {"block": "stem", "total": 0, "trained": 0}, {"block": "one", "total": 26, "trained": 0},
            {"block": "head", "total": 4, "trained": 4}]},
    }  # fmt: skip
    compared = {
        "files": 8, "split": "training", "faults": [],
        "pixels": {"compared": False, "reason": "no place is named"},
        "predictions": {"differ": 0, "largest_difference": 3e-8, "allowed": 1e-4},
    }  # fmt: skip
    content = {
        "phases": [phase],
        "determinism": {"images": 0, "reason": "there are no validation images", "faults": []},
        "exports": {"saved_model": compared, "wrong": {"faults": ["other pixels"]}},
    }
    freeze = Freeze.model_validate(content)
    rows = check_rows(freeze)
    assert [(row.name, row.outcome) for row in rows] == [
        ("tune: frozen weights are unchanged", "FAULT"),
        ("tune: batch_norm frozen", "FAULT"),
        ("validation images predicted twice", "skipped"),
        ("export saved_model: pixels", "skipped"),
        ("export saved_model: predictions", "passed"),
        ("export wrong", "FAULT"),
    ]
    assert "1 of 2 BatchNorm layers changed, by up to 0.251" in rows[1].details
    assert "3.0e-08" in rows[4].details
    assert parameter_table(freeze) == (
        ["tune"],
        [("one", ["0 of 26"]), ("head", ["4 of 4"]), ("whole model", ["4 of 30"])],
    )
    assert parameter_table(Freeze.model_validate({"phases": [{"phase": "without"}]})) == ([], [])


def test_sixteen_bit_images_are_shown_in_the_window(tmp_path: Path) -> None:
    levels = np.array([[900, 1000], [2000, 3500]], np.uint16)
    Image.fromarray(np.kron(levels, np.ones((8, 8), np.uint16))).save(tmp_path / "deep.png")
    url = thumbnail(tmp_path / "deep.png", window=(1000, 3000), max_pixels=1000)
    assert url is not None
    (tmp_path / "out.png").write_bytes(base64.b64decode(url.split(",")[1]))
    shown = np.asarray(Image.open(tmp_path / "out.png"))
    assert shown[2, 2] == 0
    assert shown[2, 12] == 0
    assert shown[12, 2] in (127, 128)
    assert shown[12, 12] == 255


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_transparent_images_are_shown_on_white_in_every_format(extension: str, tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8] = (40, 60, 210, 255)
    Image.fromarray(pixels).save(tmp_path / f"image.{extension}", lossless=True)
    url = thumbnail(tmp_path / f"image.{extension}", window=None, max_pixels=1000)
    assert url is not None
    (tmp_path / "out.png").write_bytes(base64.b64decode(url.split(",")[1]))
    shown = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    assert shown[2, 2].tolist() == [40, 60, 210]
    assert shown[12, 2].tolist() == [255, 255, 255]


def test_a_split_without_calibration_has_no_calibration_table() -> None:
    assert calibration_rows(SplitScores.model_validate({"overall": {}, "classes": {}, "domains": {}})) == {}


def test_damaged_and_large_images_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    Image.new("L", (60, 60)).save(tmp_path / "large.png")
    assert thumbnail(tmp_path / "bad.png", window=None, max_pixels=1000) is None
    assert thumbnail(tmp_path / "large.png", window=None, max_pixels=1000) is None


def test_missing_values_leave_gaps_and_dollar_signs_are_text() -> None:
    rows = [{"phase": "$x^$", "epoch": 1, "loss": 1.0}, {"phase": "$x^$", "epoch": 2, "loss": None}]
    [(title, url)] = curve_charts(rows)
    assert title == "Loss by epoch"
    assert "$x^$" in base64.b64decode(url.split(",")[1]).decode()


def test_the_page_shows_thresholds_and_curves(run_folder: Path) -> None:
    from kerastl.evaluation import Predictions, score

    generator = np.random.default_rng(0)
    labels = np.arange(80, dtype=np.int32) % 2
    logits = generator.normal(size=(80, 2)).astype(np.float32)
    logits[np.arange(80), labels] += 1
    names = tuple(f"{row}.png" for row in range(80))
    splits, blank = ("val",) * 40 + ("test",) * 40, ("",) * 80
    predictions = Predictions(names, labels, logits, CLASSES, splits, blank, (HOSTILE, "b") * 40)
    (run_folder / "scores.json").write_text(json.dumps(score(predictions, resamples=20)))
    page = write_report(run_folder).read_text()
    assert HOSTILE not in page
    assert "Thresholds and calibration, test" in page
    assert "specificity of at least 0.9" in page
    for title in ("Reliability curve", "Decision curve"):
        assert f'alt="{title}; see scores.json"' in page
    assert write_report(run_folder).read_text() == page


def test_the_page_shows_images_of_both_sites(run_folder: Path) -> None:
    assert "Images of both sites" not in write_report(run_folder).read_text()
    description = json.loads((run_folder / "model.json").read_text())
    description["target_root"] = description["data_root"]
    (run_folder / "model.json").write_text(json.dumps(description))
    rows = [["red.png", label, split, group, site] for label, split, group, site in (
        ("benign", "train", "p1", "a"), ("benign", "train", "p1", "a"), (HOSTILE, "val", "p2", "a"),
        ("", "target_test", "p3", "b"))]  # fmt: skip
    write_table(run_folder / "split.csv", [["path", "label", "split", "group", "domain"], *rows])
    page = write_report(run_folder).read_text()
    sites = page[page.index("Images of both sites") : page.index("Adaptation to the target")]
    source, target = sites[: sites.index("target: b")], sites[sites.index("target: b") :]
    assert (source.count("<img"), target.count("<img")) == (2, 1), "one image per group"
    assert "source: a" in source
    assert "unlabeled" in target
    assert HOSTILE not in page


@pytest.mark.parametrize("content", [None, "", "path,label,predicted,split,group,domain,prob_a,prob_b\n"])
def test_a_report_without_predictions_is_marked_as_incomplete(run_folder: Path, content, capsys) -> None:
    write_table(run_folder / "split.csv", [["path", "label", "split", "group", "domain"]])
    assert "The report is incomplete" not in write_report(run_folder).read_text()
    file = run_folder / "predictions.csv"
    file.unlink()
    if content is not None:
        file.write_text(content)
    page = write_report(run_folder).read_text()
    assert re.search(r"The report is incomplete\. Missing in the run folder: [^<]*predictions\.csv\.", page)
    assert capsys.readouterr().err.count("Warning: The report is incomplete.") == 1


@pytest.mark.parametrize("name", ["predictions.csv", "quarantine.csv", "split.csv"])
def test_a_table_that_is_not_text_is_named(run_folder: Path, name: str) -> None:
    (run_folder / name).write_bytes(b"\0\xff\xfe")
    with pytest.raises(RequestError, match=f"{name} is damaged"):
        write_report(run_folder)


def test_small_values_of_the_monitored_metric_are_printed_with_two_digits() -> None:
    phase = summary()["phases"][0] | {"best": 1.42e-5, "earlier_best": 0.000081, "helped": True}
    facts = summary_facts(Summary(), phases=[PhaseSummary.model_validate(phase)])
    assert "val_loss 1.4e-05, better than before this phase (8.1e-05)" in dict(facts)["Phase"]
