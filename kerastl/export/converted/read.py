"""Open a converted model and ask it for picture files: they are decoded in Python, as its runtime cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kerastl.data.decode import decoded
from kerastl.errors import RequestError, first_line
from kerastl.export.converted.find import Converted
from kerastl.export.converted.packages import check_formats
from kerastl.export.manifest import read_manifest
from kerastl.export.read_export import Opened

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ConvertedExport(Opened):
    """A converted model in its runtime.

    Args:
        ask: from pictures `[n, size, size, 3]` float32 in [0, 255] to probabilities `[n, classes]` float32.
    """

    ask: Callable[[Floats], Floats]

    def probabilities(self, encoded: Sequence[bytes]) -> Floats:
        """Return `[n, classes]` float32 for at least one whole picture file.

        Raises:
            tf.errors.InvalidArgumentError: a picture cannot be decoded.
        """
        return self.ask(decoded(encoded, self.manifest))

    def answers(self, encoded: Sequence[bytes]) -> tuple[list[str], Floats]:
        """Return for whole picture files the class that is answered, by the threshold of the manifest too, and `probabilities`.

        Raises:
            tf.errors.InvalidArgumentError: as `probabilities`.
        """
        answered, how = self.probabilities(encoded), self.manifest.how
        return how.predicted(how.taken_back(answered), self.class_names), answered


def read_converted(found: Converted) -> ConvertedExport:
    """Open a converted model.

    Raises:
        RequestError: its runtime is not installed, it is damaged, or it names other classes than its manifest.
    """
    manifest = read_manifest(found.folder)
    check_formats([found.format_name])
    opened: tuple[list[str], Callable[[Any], Any]]
    try:
        opened = found.module.opened(found.folder)
    except Exception as error:  # each runtime has errors of its own
        raise RequestError(f"{found.folder} cannot be opened: {first_line(error)}") from error
    names, ask = opened
    if tuple(names) != manifest.class_names:
        raise RequestError(
            f"{found.folder} is damaged: it answers for {names}, its manifest says "
            f"{list(manifest.class_names)}. Export the run again."
        )
    turn = Lock()

    def in_turn(images: Floats) -> Floats:
        # Neither LiteRT's interpreter nor one request of OpenVINO can be asked by two threads at a time.
        with turn:
            return cast(Floats, ask(images))

    return ConvertedExport(manifest, in_turn)
