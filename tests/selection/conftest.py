import pytest

from kerastl.selection import decision

RESAMPLES = 40


@pytest.fixture(scope="session")
def class_guards():
    """Return the guards of a model, computed once, because many tests share a model."""
    compute, computed = decision._class_guards, {}

    def computed_once(evidence, seed):
        key = id(evidence), seed, decision.RESAMPLES
        if key not in computed:
            # The evidence is kept, so that no other one gets its id.
            computed[key] = evidence, compute(evidence, seed)
        return computed[key][1]

    return computed_once


@pytest.fixture(autouse=True)
def fast_guards(request, monkeypatch, class_guards):
    """Use fewer resamples, except in slow tests, which verify rates of detection."""
    monkeypatch.setattr(decision, "_class_guards", class_guards)
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(decision, "RESAMPLES", RESAMPLES)
