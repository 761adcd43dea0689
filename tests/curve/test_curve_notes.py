"""What a curve notes of its runs from scratch, in the right number."""

import pytest
from curves_drawn import hospitals

from kerastl.runs import Run
from kerastl.workflows import Job, Plan
from kerastl.workflows.label_budget import _notes


@pytest.mark.parametrize(
    ("epochs", "numbers", "said"),
    [
        (1, (0, 2), "1 of 1 run from scratch had not come to a plateau after 1 epoch ("),
        (2, (0, 1, 2), "2 of 2 runs from scratch had not come to a plateau after 2 epochs ("),
    ],
)
def test_runs_and_epochs_are_counted(tmp_path, epochs, numbers, said):
    plan = Plan(hospitals(), numbers, (7,), epochs)
    for number in numbers[1:]:
        folder = tmp_path / "runs" / Job("scratch", 7, number).name
        folder.mkdir(parents=True)
        (folder / "history.jsonl").write_text('{"loss": 0.5}\n' * epochs)
    note = next(iter(_notes(plan, Run(tmp_path), {})))
    assert said in note
