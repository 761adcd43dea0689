"""Why the prevalence that was estimated at the target cannot be relied on, where nothing could say whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def why_untold(shift: Mapping[str, Any], adaptation: Mapping[str, Any]) -> str:
    """Return why it cannot be told whether the estimates hold; empty where that was told, one way or the other.

    Args:
        shift: `label_shift` of `scores.json`.
        adaptation: `adaptation.json`; empty for a run that chose nothing.
    """
    guard = (adaptation.get("guards") or {}).get("other_prevalence")
    if guard and guard["fired"] is None:
        return str(guard["reason"])
    if "explained" in shift and shift["explained"] is None:
        reason = (shift.get("rest") or {}).get("reason")
        told = "whether the sites differ by more than prevalence cannot be told"
        return f"{told} ({reason})" if reason else told
    return ""
