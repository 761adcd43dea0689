"""Domain shift on simulated features: a scanner shift, a prevalence shift and a shortcut to the label."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kerastl.data import Record
from kerastl.selection import Outputs
from kerastl.workflows.collect_outputs import HeldOutOutputs
from kerastl.workflows.evaluate import add_adapted, score_residual_shift, score_sites

BOOTSTRAP = {"seed": 3, "resamples": 100}


def outputs(seed, share, *, scanner=0.0, patients=60, labeled=True):
    generator = np.random.default_rng(seed)
    labels = np.repeat((np.arange(patients) < share * patients).astype(int), 4)
    features = generator.normal(size=(len(labels), 6)) + 1.5 * labels[:, None] + scanner
    logits = np.column_stack([np.zeros(len(labels)), features.sum(axis=1)]).astype(np.float32)
    groups = tuple(f"{seed}/{row // 4}" for row in range(len(labels)))
    return Outputs(features.astype(np.float32), logits, labels if labeled else None, groups)


def held_out_outputs(share, scanner):
    return HeldOutOutputs(outputs(1, 0.5), outputs(2, share, scanner=scanner, labeled=False))


def label_shift(share):
    """Return estimates that are equal to the true prevalence."""
    return {
        "classes": {
            name: {"em": {"value": prevalence}, "source": {"value": 0.5}}
            for name, prevalence in (("benign", 1 - share), ("malignant", share))
        }
    }


def datasets(sites=(), malignant=0.5):
    """Return training records: a share `malignant` at the first of two sites, the rest at the other."""
    records = []
    for site, share in zip(sites, (malignant, 1 - malignant), strict=False):
        for number in range(40):
            label = "malignant" if number < share * 40 else "benign"
            records.append(
                Record(f"{site}{number}", Path(f"{site}{number}"), label, "train", f"p{number}", site)
            )
    classes = ("benign", "malignant")
    return SimpleNamespace(in_split=lambda split: records if split == "train" else [], class_names=classes)


def held_out(sites=("",)):
    records = [Record(str(row), Path(str(row)), domain=sites[row // 4 % len(sites)]) for row in range(240)]
    target = SimpleNamespace(records=[Record("target", Path("none"), split="target_test")])
    return SimpleNamespace(val=SimpleNamespace(records=records), target=target)


def test_a_scanner_shift_is_measured_before_and_after_it_is_removed():
    before, after = held_out_outputs(0.5, 2.0), held_out_outputs(0.5, 0.0)
    scored = add_adapted(score_sites(datasets(), held_out(), before, BOOTSTRAP), after, BOOTSTRAP)
    assert scored["target"]["before"]["low"] > 0.8
    assert scored["target"]["after"]["low"] <= 0.5
    assert scored["domains"] is scored["label"] is None
    assert scored["warnings"] == []
    alone = score_sites(datasets(), held_out(), before, BOOTSTRAP)
    assert alone["target"]["after"] is None
    assert add_adapted(alone, None, BOOTSTRAP) == alone


def test_prevalence_explains_a_prevalence_shift_but_not_a_scanner_shift():
    how = {"seed": 3, "resamples": 100}
    rare = score_residual_shift(held_out_outputs(0.2, 0.0), label_shift(0.2), how)
    assert rare["explained"] is True
    assert (
        score_residual_shift(held_out_outputs(0.2, 0.0), label_shift(0.5), how)["rest"]["value"]
        > rare["rest"]["value"] + 0.05
    )
    other = score_residual_shift(held_out_outputs(0.2, 1.0), label_shift(0.2), how)
    assert other["explained"] is False
    assert other["rest"]["low"] > 0.5
    # An estimated prevalence of 0 does not cause a division by zero.
    assert (
        score_residual_shift(held_out_outputs(0.2, 0.0), label_shift(0.0), how)["rest"]["value"] is not None
    )
    assert score_residual_shift(held_out_outputs(0.2, 0.0), {"reason": "no"}, how) == {
        "explained": None,
        "rest": None,
    }


def test_a_site_that_predicts_the_label_causes_a_warning():
    sites = ("north", "south")
    before = HeldOutOutputs(outputs(1, 0.5), None)
    scored = score_sites(datasets(sites, 0.9), held_out(sites), before, BOOTSTRAP)
    assert scored["target"] is None
    assert scored["label"]["value"] == pytest.approx(0.9, abs=0.05)
    (warning,) = scored["warnings"]
    assert "AUC 0.9" in warning
    assert "features" not in warning
    assert scored["domains"]["north"] == scored["domains"]["south"]
    even = score_sites(datasets(sites, 0.5), held_out(sites), before, BOOTSTRAP)
    assert even["label"]["shortcut"] is False
    assert even["warnings"] == []


def test_the_warning_states_whether_features_separate_the_sites():
    sites = ("north", "south")
    val = outputs(1, 0.5)
    moved = val.features + np.where(np.arange(240) // 4 % 2, 2.0, 0.0)[:, None].astype(np.float32)
    before = HeldOutOutputs(Outputs(moved, val.logits, val.labels, val.groups), None)
    scored = score_sites(datasets(sites, 0.9), held_out(sites), before, BOOTSTRAP)
    assert scored["domains"]["north"]["low"] > 0.5
    assert "features" in scored["warnings"][0]
    many = tuple(f"site {number}" for number in range(31))
    many_sites = SimpleNamespace(
        in_split=lambda _: [Record(name, Path(name), "benign", domain=name) for name in many],
        class_names=("benign", "malignant"),
    )
    scored = score_sites(many_sites, held_out(many), before, BOOTSTRAP)
    assert "31" in scored["domains"]["site 0"]["reason"]
    assert scored["label"] is None
