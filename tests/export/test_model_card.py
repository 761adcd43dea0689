"""The model card describes the run and contains no personal data."""

import hashlib
import json
import re

import pytest
from markdown_it import MarkdownIt

from kerastl.errors import RequestError
from kerastl.export.model_card import NO_FACTS, by_public_name, read_model_facts, render_card
from kerastl.export.postprocess import NO_POSTPROCESSING, Postprocessing, Prevalence, Threshold

ABOUT = {
    "class_names": ("cat", "dog"),
    "image_size_px": (64, 64),
    "resize": "stretch",
    "window": (20.0, 1452.0),
    "max_pixels": 1000,
    "model_sha256": "ab" * 32,
    "versions": {"kerastl": "1", "keras": "3", "tensorflow": "2"},
    "postprocessing": NO_POSTPROCESSING,
}
ODD = ["<script>alert(1)</script>", "**bold**", "[go](http://x.example)", "a|b", "`c`", "www.x.example",
       "http://x.example", "two\nlines", "&amp;", "_it_", "a\\", "\u202egpj", "- x", "# y", "<b>"]  # fmt: skip


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def scores():
    overall = {"auc": figure(0.9123, 0.85, 0.96), "accuracy": figure(0.75)}
    domains = {"St. Mary": {"auc": figure(0.8)}, "a": {"auc": figure(0.7, 0.6, 0.8)}}
    return {
        "interval": {"level": 0.95, "method": "bootstrap"},
        "val": {
            "overall": overall,
            "calibration": {
                "bins": 15,
                "temperature": {"value": 1.25, "from": "val"},
                "before": {"overall": {}},
                "after": {"overall": {}},
            },
            "operating_points": {
                "positive": "dog",
                "points": [{"fixed": "specificity", "at": 0.9, "threshold": 0.6, "overall": {}}],
            },
        },
        "test": {"overall": overall, "domains": domains},
        "label_shift": {
            "class_names": ["cat", "dog"],
            "source": {"splits": ["val"], "images": 9, "groups": 9},
            "target": {"splits": ["target_test"], "images": 9, "groups": 9},
            "classes": {
                "cat": {
                    "train": figure(0.5),
                    "source": figure(0.5),
                    "em": figure(0.25, 0.2, 0.3),
                    "bbse": figure(None),
                    "true": figure(None),
                }
            },
        },
    }


def data(splits, groups):
    size = {"smallest": 32, "median": 32, "largest": 32}
    classes = {name: count for counts in splits.values() for name, count in counts.items()}
    return {
        "path": "secret_in", "images": 4, "classes": classes, "splits": splits, "groups": groups,
        "kinds": {"png": 4}, "width_px": size, "height_px": size, "gray": 0, "images_16_bit": 0, "unreadable": 0,
        "ignored": {".secret": 1}, "warnings": ["secret_warning"],
    }  # fmt: skip


def run_in(folder):
    folder.mkdir()
    recipe = f"seed: 7\ndata: {{reader: {{path: {folder}/secret_in}}}}\nbackbone: {{name: small_cnn, weights: {folder}/secret.keras}}\n"
    (folder / "recipe.resolved.yaml").write_text(recipe)
    versions = {
        "seed": 7,
        "data_sha256": {"source": "cd" * 32},
        "weights": {"from": f"{folder}/secret.keras", "file": "secret.keras", "sha256": "ef" * 32},
        "machine": {"system": "secret_host"},
    }
    (folder / "versions.json").write_text(json.dumps(versions))
    summary = {
        "data": {
            "source": data({"train": {"cat": 2, "dog": 1}, "test": {"dog": 1}}, {"train": 2, "test": 1, "all": 2}),
            "target": data({"target_unlabelled": {"": 1}}, {}),
        },
        "headline": {
            "split": "test", "metric": "auc", "estimate": {"value": 0.9}, "images": 1, "groups": 1,
            "most_confused": None, "few_images": {"cat": 0, "dog": 1},
        },
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "scores.json").write_text(json.dumps(scores()))
    adaptation = {
        "verdict": "do_not_adapt", "chosen": "source_only", "reason": "secret_reason", "candidates": {},
    }  # fmt: skip
    (folder / "adaptation.json").write_text(json.dumps(adaptation))
    return folder


@pytest.fixture
def run(tmp_path):
    return run_in(tmp_path / "run")


def cells(card):
    return re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", as_html(card))


def as_html(card):
    return MarkdownIt("commonmark").enable("table").render(card)


def test_the_card_has_counts_scores_and_the_origin_of_the_model(run):
    card = render_card(read_model_facts(run), **ABOUT)
    table = cells(card)
    assert table[table.index("cat") : table.index("cat") + 4] == ["cat", "2", "0", "0"]
    assert table[table.index("dog") : table.index("dog") + 4] == ["dog", "1", "1", "0"]
    assert table[table.index("AUC") : table.index("AUC") + 4] == ["AUC", "0.912 (0.850 to 0.960)", "0.700 (0.600 to 0.800)", "0.800"]  # fmt: skip
    assert {"specificity", "0.900", "0.600", "0.250 (0.200 to 0.300)"} <= set(table)
    for words in ("do not adapt", "1.250", "ef" * 32, "ab" * 32, "64 x 64", "not a medical device"):
        assert words in card


def test_intervals_are_mentioned_only_if_a_score_has_one(run):
    assert "with 95% intervals" in render_card(read_model_facts(run), **ABOUT)
    values = {**scores(), "test": {"overall": {"auc": figure(0.9)}}}
    (run / "scores.json").write_text(json.dumps(values))
    assert "95%" not in render_card(read_model_facts(run), **ABOUT)


def test_the_card_counts_groups(run):
    table = cells(render_card(read_model_facts(run), **ABOUT))
    start = table.index("<em>groups</em>")
    assert table[start : start + 4] == ["<em>groups</em>", "2", "1", "\N{EN DASH}"]


def test_a_list_of_scores_is_damaged(run):
    (run / "scores.json").write_text("[]")
    with pytest.raises(RequestError, match=r"scores\.json"):
        read_model_facts(run)


def test_facts_do_not_reveal_the_data_or_the_machine(run):
    facts = read_model_facts(run)
    text = render_card(facts, **ABOUT) + str([facts.scores, facts.training])
    for word in ("secret", "Mary", str(run), run.name + "/"):
        assert word not in text


def test_the_recipe_fingerprint_does_not_depend_on_paths(run, tmp_path):
    other = run_in(tmp_path / "elsewhere")
    assert read_model_facts(other) == read_model_facts(run)
    plain = {
        "seed": 7,
        "data": {"reader": {"path": None}},
        "backbone": {"name": "small_cnn", "weights": None},
    }
    wanted = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert read_model_facts(run).training == {
        "recipe_sha256": wanted, "seed": 7, "data_sha256": {"source": "cd" * 32}, "weights_sha256": "ef" * 32,
    }  # fmt: skip
    recipe = other / "recipe.resolved.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 7", "seed: 8"))
    assert read_model_facts(other).training["recipe_sha256"] != wanted


def test_any_class_name_is_displayed_literally(run):
    card = render_card(NO_FACTS, **(ABOUT | {"class_names": ODD}))
    page = as_html(card)
    assert not re.findall(r"<(script|strong|em|a|b|code)[ >]", page.split("<h2>")[0])
    shown = [cell.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for cell in cells(card)]  # fmt: skip
    # Markdown trims a cell; what no reader can see is a space.
    assert shown[1:] == [name.replace("\n", " ").replace("\u202e", "").strip() for name in ODD]


def test_without_a_run_the_card_states_that_scores_are_unknown(tmp_path):
    card = render_card(read_model_facts(None), **ABOUT)
    assert "Unknown: no test scores" in card
    assert "Backbone" not in card
    assert render_card(read_model_facts(tmp_path), **ABOUT) == card


def test_the_card_describes_the_postprocessing(run):
    assert "are not corrected" in render_card(NO_FACTS, **ABOUT)
    postprocessing = Postprocessing(1.5, Prevalence((0.5, 0.5), (0.9, 0.1)), Threshold("dog", 0.3))
    about = ABOUT | {"postprocessing": postprocessing}
    card = render_card(NO_FACTS, **about)
    for words in ("temperature 1.5", "cat 0.9, dog 0.1", "dog is predicted from a probability"):
        assert words in card
    assert "are not corrected" not in card
    note = "The scores are those of the run: probabilities without a temperature"
    assert note in render_card(read_model_facts(run), **about)
    assert note not in render_card(read_model_facts(run), **ABOUT)


def test_identifying_site_names_are_replaced_by_numbers():
    names = ["b", "target", "Mercy", "Charité", "12", "hospital_a"]
    sites = by_public_name({name: {"auc": name} for name in names})
    assert {public: metrics["auc"] for public, metrics in sites.items()} == {
        "b": "b", "target": "target", "site 1": "12", "site 2": "Charité", "site 3": "Mercy",
        "site 4": "hospital_a",
    }  # fmt: skip


@pytest.mark.parametrize("junk", [3, "x", [1], [None], {"a": 1}, None])
def test_scores_of_another_program_are_refused_with_the_key(run, junk):
    whole = scores()
    broken = {"test": {"overall": junk}, "val": {"overall": {}, "operating_points": {"points": junk}}}
    broken |= {"label_shift": {"classes": {"cat": junk}}, "interval": {"level": junk}}
    for key, value in broken.items():
        (run / "scores.json").write_text(json.dumps(whole | {key: value}))
        with pytest.raises(RequestError, match=rf"scores\.json is damaged: .*{key}"):
            read_model_facts(run)


@pytest.mark.parametrize("junk", [3, "x", [1], [None], {"a": 1}, None])
def test_unexpected_versions_do_not_break_the_card(run, junk):
    (run / "versions.json").write_text(json.dumps({"weights": junk}))
    assert render_card(read_model_facts(run), **ABOUT).startswith("# Model card")


def test_a_score_that_is_not_a_number_is_refused(run):
    (run / "scores.json").write_text('{"test": {"overall": {"auc": {"value": NaN}}}}')
    with pytest.raises(
        RequestError, match=r"scores\.json is damaged: test\.overall\.auc\.value: must be a finite number"
    ):
        read_model_facts(run)


@pytest.mark.parametrize("name", ["scores.json", "versions.json", "adaptation.json"])
def test_a_damaged_file_of_the_run_is_named(run, name):
    (run / name).write_text("{")
    with pytest.raises(RequestError, match=name):
        read_model_facts(run)
