"""An `augment:` block to paste: what is safe, as strong as is safe; the rest as comments that say why."""

from __future__ import annotations

from collections.abc import Sequence

from kerastl.audit.ladder import Trial
from kerastl.audit.table import reason, short
from kerastl.audit.verdicts import Verdict
from kerastl.recipe import to_yaml

LINE_WIDTH = 10_000


def policy_yaml(verdicts: Sequence[Verdict], class_names: Sequence[str]) -> str:
    """Return the block as YAML text that a recipe can hold.

    What changes nothing on these pictures is left out, too.
    """
    kept, left = [], []
    for verdict in verdicts:
        if verdict.unchanged:
            left.append(f"  # {verdict.name}: changes nothing on these pictures")
            continue
        if verdict.safe is not None:
            why = "" if verdict.state == "safe" else f"   # {short(verdict)}"
            kept.append(f"  - {_flow(verdict.safe)}{why}")
        if verdict.state != "safe":
            above = f" above {verdict.safe.strength:g}" if verdict.safe else ""
            left.append(f"  # {verdict.name}{above} left out, {reason(verdict, class_names)}")
    if not kept:
        return "\n".join(["augment: []", *left]) + "\n"
    return "\n".join(["augment:", *kept, *left]) + "\n"


def _flow(trial: Trial) -> str:
    values: dict[str, object] = {"name": trial.name}
    for name, field in type(trial.pasted).model_fields.items():
        value = getattr(trial.pasted, name)
        if field.is_required() or value != field.default:
            values[name] = _plain(value)
    return to_yaml(values, in_one_line=True)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
