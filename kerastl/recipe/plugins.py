"""The parts of a recipe that name a plug-in. They are written flat: the plug-in's options lie beside its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal


@dataclass(frozen=True)
class NameOf:
    """Marks text that must be the name of a plug-in of this kind."""

    kind: str


@dataclass(frozen=True)
class Pattern:
    """Marks text that must match a regular expression as a whole; `says` is the rule in words."""

    regex: str
    says: str


@dataclass(frozen=True)
class Reader:
    """What reads the pictures.

    Args:
        name: the reader; its options stand beside it.
        options: the reader's own options.
    """

    KIND: ClassVar[str] = "reader"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("reader")]
    options: Any = None


@dataclass(frozen=True)
class Operation:
    """One change of the training pictures.

    Args:
        name: the operation; its options stand beside it.
        options: the operation's own options.
    """

    KIND: ClassVar[str] = "operation"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("operation")]
    options: Any = None


@dataclass(frozen=True)
class Mixing:
    """One way of mixing the pictures of a training batch.

    Args:
        name: the mixing; its options stand beside it.
        options: the mixing's own options.
    """

    KIND: ClassVar[str] = "mixing"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("mixing")]
    options: Any = None


@dataclass(frozen=True)
class Method:
    """One way to adapt a model to the target.

    Args:
        name: the method; its options stand beside it.
        options: the method's own options.
    """

    KIND: ClassVar[str] = "adaptation"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("adaptation")]
    options: Any = None


@dataclass(frozen=True)
class Validator:
    """One way to tell a good candidate without the target's labels.

    Args:
        name: the validator; its options stand beside it.
        options: the validator's own options.
    """

    KIND: ClassVar[str] = "validator"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("validator")]
    options: Any = None


@dataclass(frozen=True)
class Backbone:
    """The network that sees.

    Args:
        name: the network; options of its family, as `alpha`, stand beside it.
        weights: where it starts: `imagenet`, `none` (random numbers), a weights file or a run folder.
        options: the family's own options.
    """

    KIND: ClassVar[str] = "backbone"
    SHORT_WORD: ClassVar[str] = "name"
    name: Annotated[str, NameOf("backbone")]
    weights: Literal["imagenet", "none"] | Path = "imagenet"
    options: Any = None
