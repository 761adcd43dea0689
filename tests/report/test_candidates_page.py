"""The page names every candidate and the reason if it was rejected or excluded."""

import json

from kerastl.report import write_report

CHOICE = {
    "verdict": "adapt", "chosen": "adabn", "reason": "it ranks first",
    "candidates": {
        name: {"validators": {"class_ami": score}}
        for name, score in (("source_only", 0.1), ("adabn", 0.2), ("shot", 0.9))
    },
    "ranking": {"rejected": {"shot": "its predictions disagree with its initial predictions"}},
    "diverged": {"tent": "loss became nan"},
}  # fmt: skip


def test_the_page_states_why_a_candidate_was_rejected_or_excluded(tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    (tmp_path / "adaptation.json").write_text(json.dumps(CHOICE))
    page = write_report(tmp_path).read_text()
    assert "shot was excluded: its predictions disagree with its initial predictions" in page
    assert "tent was excluded: loss became nan" in page
    assert "adabn (selected)" in page
    assert "adabn was excluded" not in page
