"""What is told of the sites, on drawn features: a planted scanner, a planted prevalence, a planted shortcut."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerastl.data import Record
from kerastl.selection import Outputs
from kerastl.workflows.collect_outputs import Look
from kerastl.workflows.evaluate import rest_of, sites_of, with_after

RECIPE = SimpleNamespace(seed=3, evaluation=SimpleNamespace(resamples=100))


def outputs(seed, share, *, scanner=0.0, patients=60, labelled=True):
    generator = np.random.default_rng(seed)
    labels = np.repeat((np.arange(patients) < share * patients).astype(int), 4)
    features = generator.normal(size=(len(labels), 6)) + 1.5 * labels[:, None] + scanner
    logits = np.column_stack([np.zeros(len(labels)), features.sum(axis=1)]).astype(np.float32)
    groups = tuple(f"{seed}/{row // 4}" for row in range(len(labels)))
    return Outputs(features.astype(np.float32), logits, labels if labelled else None, groups)


def look(share, scanner):
    return Look(outputs(1, 0.5), outputs(2, share, scanner=scanner, labelled=False))


def shift(share):
    """What the estimate would be if it were right."""
    return {
        "classes": {
            name: {"em": {"value": at}, "source": {"value": 0.5}}
            for name, at in (("benign", 1 - share), ("malignant", share))
        }
    }


def images(sites=(), tells=0.5):
    """Training records; at the first of two sites the share `tells` is malignant, at the other the rest."""
    records = []
    for site, share in zip(sites, (tells, 1 - tells), strict=False):
        for number in range(40):
            label = "malignant" if number < share * 40 else "benign"
            records.append(Record(f"{site}{number}", None, label, "train", f"p{number}", site))
    classes = ("benign", "malignant")
    return SimpleNamespace(of=lambda split: records if split == "train" else [], class_names=classes)


def held_out(sites=("",)):
    records = [Record(str(row), None, domain=sites[row // 4 % len(sites)]) for row in range(240)]
    return SimpleNamespace(val=SimpleNamespace(records=records), target_splits=("target_test",))


def test_a_scanner_is_told_before_and_not_after_its_shift_is_undone():
    before, after = look(0.5, 2.0), look(0.5, 0.0)
    told = with_after(RECIPE, sites_of(RECIPE, images(), held_out(), before), after)
    assert told["target"]["before"]["low"] > 0.8
    assert told["target"]["after"]["low"] <= 0.5
    assert told["domains"] is told["label"] is None
    assert told["warnings"] == []
    alone = sites_of(RECIPE, images(), held_out(), before)
    assert alone["target"]["after"] is None
    assert with_after(RECIPE, alone, None) == alone


def test_prevalence_explains_itself_and_a_scanner_is_left_over():
    how = {"seed": 3, "resamples": 100}
    rare = rest_of(look(0.2, 0.0), shift(0.2), how)
    assert rare["explained"] is True
    assert rest_of(look(0.2, 0.0), shift(0.5), how)["rest"]["value"] > rare["rest"]["value"] + 0.05
    other = rest_of(look(0.2, 1.0), shift(0.2), how)
    assert other["explained"] is False
    assert other["rest"]["low"] > 0.5
    # A class that is taken for absent does not end in a division.
    assert rest_of(look(0.2, 0.0), shift(0.0), how)["rest"]["value"] is not None
    assert rest_of(look(0.2, 0.0), {"reason": "no"}, how) == {"explained": None, "rest": None}


def test_a_site_that_tells_the_label_is_warned_of_and_one_that_does_not_is_not():
    sites = ("north", "south")
    seen = Look(outputs(1, 0.5), None)
    told = sites_of(RECIPE, images(sites, 0.9), held_out(sites), seen)
    assert told["target"] is None
    assert told["label"]["value"] == pytest.approx(0.9, abs=0.05)
    (warning,) = told["warnings"]
    assert "AUC 0.9" in warning
    assert "features" not in warning
    assert told["domains"]["north"] == told["domains"]["south"]
    even = sites_of(RECIPE, images(sites, 0.5), held_out(sites), seen)
    assert even["label"]["shortcut"] is False
    assert even["warnings"] == []


def test_features_that_know_the_site_are_part_of_the_warning():
    sites = ("north", "south")
    val = outputs(1, 0.5)
    moved = val.features + np.where(np.arange(240) // 4 % 2, 2.0, 0.0)[:, None].astype(np.float32)
    seen = Look(Outputs(moved, val.logits, val.labels, val.groups), None)
    told = sites_of(RECIPE, images(sites, 0.9), held_out(sites), seen)
    assert told["domains"]["north"]["low"] > 0.5
    assert "features" in told["warnings"][0]
    many = tuple(f"site {number}" for number in range(31))
    crowd = SimpleNamespace(
        of=lambda _: [Record(name, None, "benign", domain=name) for name in many],
        class_names=("benign", "malignant"),
    )
    told = sites_of(RECIPE, crowd, held_out(many), seen)
    assert "31" in told["domains"]["site 0"]["reason"]
    assert told["label"] is None
