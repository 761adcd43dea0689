"""The one error of a file that gives no picture."""

from __future__ import annotations

NO_MEMORY = "it needs more memory than there is"


class UnreadableError(Exception):
    """One file gives no picture; the text says why, without the file's name.

    Args:
        reason: in words a person understands.
        lasting: the very same bytes will be refused again, so that the answer may be kept. False where the
            disk, the memory or a permission refused: that may be over by the next run.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
