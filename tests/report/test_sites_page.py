"""Prevalence, domain classifiers and subgroups of `scores.json` on the page and the screen."""

import json
import re

import numpy as np
import pytest

from kerastl.cli._output import print_template
from kerastl.evaluation import Predictions, score
from kerastl.report import write_report
from kerastl.runs import Adaptation, Scores

HOSTILE = '<script>alert("1")</script>'
NASTY = {"../../x": ["=1+1", HOSTILE, "\x1b[31mred", ""], "age": ["31", "57", "62", "80"]}


@pytest.fixture(scope="module")
def scores():
    generator = np.random.default_rng(0)
    labels = np.arange(400) // 2 % 2
    splits = ("val",) * 200 + ("target_test",) * 200
    labels[200:] = np.arange(200) // 2 % 10 == 0
    logits = np.column_stack([np.zeros(400), 3 * generator.normal(size=400) + 4 * labels - 2])
    predictions = Predictions(
        tuple(f"{row}.png" for row in range(400)), labels.astype(np.int32), logits.astype(np.float32),
        ("benign", HOSTILE), splits, tuple(f"p{row // 2}" for row in range(400)),
        ("a",) * 200 + ("b",) * 200,
        {name: tuple(values[row // 2 % 4] for row in range(400)) for name, values in NASTY.items()},
    )  # fmt: skip
    result = score(predictions, resamples=100, training_counts={"benign": 60, HOSTILE: 40})
    auc = {"value": 0.9, "low": 0.81, "high": 0.97}
    result["label_shift"] |= {"explained": False, "rest": auc}
    result["sites"] = {
        "layer": "pooled",
        "target": {
            "source_splits": ["val"], "target_splits": ["target_test"], "before": auc,
            "after": {"value": 0.62, "low": 0.52, "high": 0.71},
        },
        "domains": {HOSTILE: auc, "north": auc},
        "label": {"from": "train", "sites": [HOSTILE, "north"], "shortcut": True, **auc},
        "warnings": ["Among the training images the site alone predicts the label."],
    }  # fmt: skip
    return json.loads(json.dumps(result, sort_keys=True))


@pytest.fixture(scope="module")
def page(scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "scores.json").write_text(json.dumps(scores))
    return write_report(folder).read_text()


def text_of(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_the_page_shows_prevalence_and_the_effect_of_its_correction(page, scores):
    words = text_of(page)
    shift = scores["label_shift"]
    for key in ("source", "em", "bbse", "true"):
        assert f"{shift['classes']['benign'][key]['value']:.3f}" in words
    assert "0.600" in words  # of 100 training images
    assert f"{shift['correction']['difference']['brier']['value']:.3f}" in words
    outcome = shift["correction"]["difference"]["brier"]["outcome"].replace("_", " ")
    assert f"Brier score {outcome}" in words
    assert "The estimates are unreliable" in words


def test_the_page_shows_the_sites_and_warns(page):
    words = text_of(page)
    assert "target against source, before adaptation 0.900 0.810 to 0.970" in words
    assert "target against source, after adaptation 0.620 0.520 to 0.710" in words
    assert "Warning: Among the training images the site alone predicts the label." in words


def test_the_page_shows_escaped_subgroups_in_order(page):
    assert HOSTILE not in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    words = text_of(page)
    column = words[words.index("../../x value") :]
    column = column[: column.index("age value")]
    positions = [column.index(value) for value in ("=1+1", "&lt;script", "red", "not given")]
    assert positions[-1] == max(positions)
    assert "50" in column


def test_the_page_of_one_site_has_no_section_on_sites(tmp_path):
    generator = np.random.default_rng(0)
    predictions = Predictions(
        tuple("abcd"), np.arange(4, dtype=np.int32) % 2, generator.normal(size=(4, 2)), ("x", "y"),
        ("test",) * 4, ("",) * 4, ("",) * 4,
    )  # fmt: skip
    (tmp_path / "scores.json").write_text(json.dumps(score(predictions, resamples=100)))
    words = text_of(write_report(tmp_path).read_text())
    assert not [title for title in ("Sites", "Subgroups", "Prevalence") if title in words]


def test_the_screen_shows_the_same_without_control_characters(scores, capsys):
    print_template("sites.txt.jinja", scores=Scores.model_validate(scores), adaptation=None)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "\x1b" not in text
    (prevalence,) = [line for line in lines if "prevalence" in line and "at the source" in line]
    prevalences = scores["label_shift"]["classes"][HOSTILE]
    assert f"{prevalences['em']['value']:.3f} (" in prevalence
    assert f"{prevalences['true']['value']:.3f} (" in prevalence
    assert "AUC 0.900 (0.810 to 0.970) before adaptation, 0.620 (0.520 to 0.710) after" in text
    assert "Warning: Among the training images" in text
    assert "The estimates are unreliable" in text
    (subgroups,) = [line for line in lines if "by ../../x" in line]
    assert subgroups.index("[31mred") < subgroups.index("not given")
    assert "50 images" in subgroups


def test_page_and_screen_give_the_reason_for_a_missing_interval_of_the_prevalence(scores, tmp_path, capsys):
    def without_interval(estimate, reason):
        return {**estimate, "low": None, "high": None, "reason": reason}

    shift = scores["label_shift"]
    classes = {
        name: {**row, "em": without_interval(row["em"], "no interval: 7 groups at the target <few>")}
        for name, row in shift["classes"].items()
    }
    classes = {name: {**row, "bbse": {"value": None, "reason": "singular"}} for name, row in classes.items()}
    changed = scores | {"label_shift": shift | {"classes": classes}}
    (tmp_path / "scores.json").write_text(json.dumps(changed))
    words = text_of(write_report(tmp_path).read_text())
    print_template("sites.txt.jinja", scores=Scores.model_validate(changed), adaptation=None)
    for text in (words.replace("&lt;", "<").replace("&gt;", ">"), capsys.readouterr().out):
        assert "EM: no interval: 7 groups at the target <few>." in text
        assert "BBSE: singular." in text


def test_a_run_of_one_site_prints_nothing_on_sites(capsys):
    print_template("sites.txt.jinja", scores=Scores(), adaptation=None)
    assert capsys.readouterr().out == ""


NO_INTERVAL = "6 groups at one site are fewer than 10: no interval is given"
UNKNOWN = "the class prevalence of the target is unknown"


def describe_entry(scores, explained, fired):
    """Return scores and a decision with the given results of the label-shift check."""
    rest = {"value": 0.6, "low": None, "high": None, "reason": NO_INTERVAL}
    shift = scores["label_shift"] | {"explained": explained, "rest": rest}
    guard = {"fired": fired, "reason": f"{UNKNOWN} (<few> patients)", "measured": {}}
    decision = {"candidates": {}, "chosen": "source_only", "verdict": "cannot_tell", "reason": "few patients"}
    return scores | {"label_shift": shift}, decision | {"guards": {"other_prevalence": guard}}


@pytest.mark.parametrize(
    ("explained", "fired", "expected_text"),
    [
        (None, True, f"it is unknown whether the sites differ by more than prevalence ({NO_INTERVAL})"),
        (None, None, f"{UNKNOWN} (<few> patients)"),
        (True, None, f"{UNKNOWN} (<few> patients)"),
        (True, False, ""),
        (True, True, ""),
    ],
)
def test_unchecked_estimates_have_a_warning(scores, tmp_path, capsys, explained, fired, expected_text):
    changed, choice = describe_entry(scores, explained, fired)
    print_template(
        "sites.txt.jinja", scores=Scores.model_validate(changed), adaptation=Adaptation.model_validate(choice)
    )
    screen = capsys.readouterr().out
    texts = [screen]
    assert expected_text in screen
    if explained is not None and fired is not True:  # the page has the same text
        (tmp_path / "scores.json").write_text(json.dumps(changed))
        (tmp_path / "adaptation.json").write_text(json.dumps(choice))
        texts.append(text_of(write_report(tmp_path).read_text()))
        assert expected_text.replace("<", "&lt;").replace(">", "&gt;") in texts[1]
    for text in texts:
        assert ("The estimates may be unreliable" in text) == bool(expected_text)


def test_a_run_without_selection_warns_by_its_measurements(scores, capsys):
    with_descriptions = Scores.model_validate(describe_entry(scores, None, None)[0])
    print_template("sites.txt.jinja", scores=with_descriptions, adaptation=None)
    assert NO_INTERVAL in capsys.readouterr().out
