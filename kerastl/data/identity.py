"""Identity of text cells: which spellings of a class, group, domain or subgroup are the same value."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context
from functools import lru_cache
from typing import Literal

from kerastl.errors import Problem, quote

Identity = Literal["normalized", "exact"]
"""How cells are compared: after `normalize`, or exactly as they are written."""

SPELLINGS_FOOTER = (
    "Use one spelling for each value. If the values are different: --set data.reader.identity=exact "
    "(target.reader.identity for the target, identity='exact' in Python). Nothing was run."
)
SAME_VALUE = "are spellings of the same value"
MISSING = re.compile(r"[-?]*|#?n/?a|n\.a\.?|[<(\[]?(nan|none|null|nil|na|nat)[>)\]]?|\\n")
"""Normalized texts that denote a missing value."""
NUMBER = re.compile(r"([+-]?)(\d{1,100}(?:\.\d{0,100})?|\.\d{1,100})(e[+-]?\d{1,6})?")
THOUSANDS = re.compile(r"[+-]?\d{1,3}([,' ]\d{3})+(\.\d*)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
PREFIXED_NUMBER = re.compile(r"[^\W\d_]+[ #._-]*(\d+)")
LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")
EXACT_DIGITS = Context(prec=300, Emax=MAX_EMAX, Emin=MIN_EMIN)
SUBSTITUTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'")
    | {"\u2212": "-"}
    | dict.fromkeys("\u034f\u115f\u1160\u2800" + "".join(map(chr, range(0xFE00, 0xFE10))))
)
"""Characters that programs put in place of `'` and `-`, and invisible characters that are not format characters."""


@lru_cache(2**16)
def normalize(text: str) -> str:
    """Return the form in which spellings of one value are equal.

    It ignores case, Unicode forms (NFKC), invisible characters, surrounding and repeated spaces, the kind of dash or
    apostrophe, and the format of a number (`7`, `7.0`, `7e0`, `1,000`). It also ignores leading zeros (`007`, `P07`),
    which spreadsheets drop, and the `'` that preserves them. Accents and other punctuation are significant.
    """
    if text.isascii() and text.isalpha():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join("".join(map(_visible, text.translate(SUBSTITUTES))).split()).lstrip("' ")
    return _number(text) or LEADING_ZEROS.sub("", text)


def _visible(letter: str) -> str:
    """Return a letter, `-` for every kind of dash, and an empty string for invisible characters."""
    kind = unicodedata.category(letter)
    if kind == "Pd":
        return "-"
    return "" if kind in ("Cf", "Cc") and not letter.isspace() else letter


def _number(text: str) -> str | None:
    """Return the shortest form of a decimal number, or None for other text."""
    if THOUSANDS.fullmatch(text):
        text = re.sub("[,' ]", "", text)
    elif DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not NUMBER.fullmatch(text):
        return None
    number = EXACT_DIGITS.create_decimal(text)
    return str(number.normalize(EXACT_DIGITS)) if number else "0"


def is_number(text: str) -> bool:
    """Return whether a cell is a number."""
    return bool(NUMBER.fullmatch(normalize(text).lower()))


def is_missing(text: str, identity: Identity = "normalized") -> bool:
    """Return whether a cell has no value: it is empty or, unless `identity` is `exact`, a word such as `nan` or `N/A`."""
    return not text.strip() if identity == "exact" else bool(MISSING.fullmatch(normalize(text)))


def same_numbers(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the numbers that also occur after letters, with that text, e.g. `7` and `P07`."""
    first: dict[str, str] = {}
    prefixed: dict[str, str] = {}
    for text in texts:
        if match := PREFIXED_NUMBER.fullmatch(normalize(text)):
            prefixed.setdefault(normalize(match[1]), text)
        else:
            first.setdefault(normalize(text), text)
    return [(first[number], text) for number, text in prefixed.items() if number in first]


def footer_of(problems: Iterable[Problem]) -> str:
    """Return the last line of an error about names and cells. For spellings, it explains how to accept them."""
    return SPELLINGS_FOOTER if any(SAME_VALUE in str(item) for item in problems) else "Nothing was run."


def check_spellings(usage: Mapping[str, str], noun: str, identity: Identity = "normalized") -> list[Problem]:
    """Return a problem for each value with several spellings.

    Args:
        usage: Each spelling and where it is first used, e.g. `line 2`; empty if unknown.
        noun: What the values are, e.g. `column 'patient_id'`.
        identity: `exact` allows every spelling.
    """
    first: dict[str, str] = {}
    problems = []
    for text, location in usage.items() if identity == "normalized" else ():
        other = first.setdefault(normalize(text), text)
        if other != text:
            look_same = unicodedata.normalize("NFKC", other) == unicodedata.normalize("NFKC", text)
            spellings = [
                quote(ascii(spelling)[1:-1] if look_same else spelling) + (f" ({where})" if where else "")
                for spelling, where in ((other, usage[other]), (text, location))
            ]
            problems.append(Problem(noun, f"{spellings[0]} and {spellings[1]} {SAME_VALUE}"))
    return problems
