"""The outcome of each phase, compared with a search through the rows of the history."""

import pytest
from array_dataset import plain_phase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerastl.training import fit
from kerastl.training.checkpoint import BestEpoch, TrainingState

losses = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(losses, min_size=1, max_size=4))
def test_a_summary_names_the_best_epoch_and_whether_the_phase_helped(phases: list[list[float]]) -> None:
    state, best, seen = TrainingState(), None, list[float]()
    for index, values in enumerate(phases):
        earlier = min(seen, default=None)
        for value in values:
            state.epochs += 1
            state.rows.append({"phase": f"p{index}", "epoch": state.epochs, "val_loss": value})
            if best is None or value < best.value:
                best = BestEpoch(value, state.epochs, [], "val_loss")
        seen += values
        state.phase_epochs = len(values)
        phase = plain_phase(f"p{index}", epochs=len(values))
        state.add_phase(phase, best, {"trained": 3, "total": 10})
        summary = state.history().phases[-1]
        assert (summary.trained, summary.frozen, summary.epochs) == (3, 7, len(values))
        assert summary.best == min(values)
        assert summary.earlier_best == earlier
        assert summary.helped == (None if earlier is None else min(values) < earlier)
        assert state.rows[summary.kept_epoch - 1]["val_loss"] == min(seen)
        assert state.rows[summary.kept_epoch - 1]["phase"] == summary.kept_phase


def test_a_phase_that_runs_out_of_patience_in_its_last_epoch_trained_for_all_epochs() -> None:
    rows = [{"phase": "only", "epoch": epoch, "val_loss": 1.0} for epoch in (1, 2)]
    state = TrainingState(epochs=2, phase_epochs=2, stopped="early_stopping", rows=rows)
    state.add_phase(plain_phase("only", epochs=2), None, {"trained": 3, "total": 10})
    assert state.history().phases[-1].stopped == "all_epochs"


def test_a_phase_that_stops_early_reports_why(model, train, val) -> None:
    phases = [
        plain_phase("first", epochs=2),
        plain_phase("second", epochs=6, learning_rate=0.5, early_stopping=1),
        plain_phase("third", epochs=1, keep="last"),
    ]
    first, second, third = fit(model, train, val=val, phases=phases).phases
    assert (first.stopped, first.helped, first.epochs) == ("all_epochs", None, 2)
    assert second.stopped == "early_stopping"
    assert second.epochs < 6
    assert second.earlier_best == first.best
    assert (third.kept_phase, third.kept_epoch) == ("third", first.epochs + second.epochs + 1)


@pytest.mark.parametrize("epochs", [1, 3])
def test_without_validation_images_the_last_epoch_is_kept(model, train, epochs: int) -> None:
    (phase,) = fit(model, train, phases=[plain_phase("only", epochs=epochs)]).phases
    assert (phase.best, phase.helped, phase.kept_epoch) == (None, None, epochs)
