"""What a moved picture shows where it has nothing to show. No TensorFlow."""

from __future__ import annotations

from typing import Literal

FillMode = Literal["reflect", "wrap", "nearest", "constant"]
"""Outside of a row a b c d: `reflect` d c b a, `wrap` a b c d, `nearest` a or d, `constant` black."""
