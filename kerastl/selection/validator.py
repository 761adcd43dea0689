"""What every validator's file hands out: a function of evidence with its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kerastl.selection.evidence import Evidence


@dataclass(frozen=True)
class Validator:
    """A guess at how good a model is at the target.

    Args:
        function: takes evidence, and the options where there are any; returns the score.
        options: a frozen dataclass; None where there is nothing to choose.
        needs: evidence beside the target's images that it cannot do without: the `source`'s.
    """

    function: Callable[..., float]
    options: Any = None
    needs: Literal["source"] | None = None

    def score(self, evidence: Evidence) -> float:
        """Return the score, higher is better. Comparable between models on the same images only.

        Raises:
            RequestError: the evidence lacks what this validator needs.
        """
        if self.options is None:
            return float(self.function(evidence))
        return float(self.function(evidence, self.options))

    def using(self, options: Any) -> Validator:
        """Return the same validator with other options."""
        return replace(self, options=options)
