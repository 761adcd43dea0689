"""What was frozen, as a short table: neighbouring layers that fared alike in every phase share a row."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

NORM = re.compile(r"(^|_)(bn|batch_?norm\w*|norm\w*)(_|\d|$)", re.IGNORECASE)
ABSENT = "absent"


@dataclass
class LayerRow:
    """Neighbouring layers that fared alike.

    Args:
        first, last: names of layers.
        count: number of layers with weights.
        others: a word a phase, for layers that are no BatchNorm; None: there is none in the row.
        norms: the same for BatchNorm.
    """

    first: str
    last: str
    count: int = 0
    others: tuple[str, ...] | None = None
    norms: tuple[str, ...] | None = field(default=None)

    def takes(self, name: str, words: tuple[str, ...]) -> bool:
        """Add a layer when it fared like those of its kind in the row."""
        is_norm = bool(NORM.search(name))
        known = self.norms if is_norm else self.others
        if known is not None and known != words:
            return False
        if is_norm:
            self.norms = words
        else:
            self.others = words
        self.last, self.count = name, self.count + 1
        return True

    @property
    def cells(self) -> list[str]:
        """One text a phase."""
        if self.others is None or self.norms is None or self.others == self.norms:
            return list(self.others or self.norms or ())
        pairs = zip(self.others, self.norms, strict=True)
        return [one if one == norm else f"{one}; BatchNorm {norm}" for one, norm in pairs]


def frozen_table(freeze: dict[str, Any]) -> tuple[list[str], list[LayerRow]]:
    """Return the names of the phases and the rows for the content of `freeze.json`."""
    phases = [phase for phase in freeze.get("phases", []) if isinstance(phase, dict)]
    by_phase = [{layer["layer"]: layer for layer in phase.get("layers", [])} for phase in phases]
    rows: list[LayerRow] = []
    for name in dict.fromkeys(name for layers in by_phase for name in layers):
        words = tuple(_word(layers.get(name)) for layers in by_phase)
        if not rows or not rows[-1].takes(name, words):
            rows.append(LayerRow(name, name))
            rows[-1].takes(name, words)
    return [str(phase.get("phase", "")) for phase in phases], rows


def cached_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line for each phase that learnt from what the frozen layers had made once."""
    return [
        f"{phase['phase']}: the layers up to {kept['behind']} saw each picture once; what they made of it was kept as "
        f"{kept['precision']}, {kept['bytes'] / 1e6:,.1f} MB"
        + (
            f", in {kept['views']} augmented views of each training picture"
            if kept["views"] > 1
            else ""
        )
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (kept := phase.get("cache"))
    ]


def rounded_lines(freeze: dict[str, Any]) -> list[str]:
    """Return one line for each phase whose frozen layers did not compute in float32: what that changed."""
    return [
        f"{phase['phase']}: the layers up to {trunk['behind']} computed in {trunk['precision']}; "
        + _changed(trunk)
        for phase in freeze.get("phases", [])
        if isinstance(phase, dict) and (trunk := phase.get("trunk"))
    ]


def _changed(trunk: dict[str, Any]) -> str:
    exact, rounded = trunk["float32"], trunk["rounded"]
    if not exact:
        return "there were no validation pictures to tell what that changed"
    words = {"val_balanced_accuracy": "balanced accuracy", "val_auc": "AUC", "val_loss": "loss"}
    told = [
        f"{word} {rounded[name]:.4f}, in float32 {exact[name]:.4f}"
        for name, word in words.items()
        if exact.get(name) is not None and rounded.get(name) is not None
    ]
    return f"on the validation pictures, with the weights that were kept: {'; '.join(told)}"


def _word(layer: dict[str, Any] | None) -> str:
    if layer is None:
        return ABSENT
    if layer.get("trainable"):
        return "trained" if layer.get("moved") else "trainable, did not move"
    if layer.get("moved"):
        return "MOVED though frozen"
    return "statistics followed" if layer.get("statistics_moved") else "frozen"
