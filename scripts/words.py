"""Check the wording of the repository: unwanted phrases, and words outside the vocabulary of the field.

Usage:
    python scripts/words.py            Fail on an unwanted phrase, or if a file has more uses of a word than its limit.
    python scripts/words.py --update   Lower the limits to the current counts, after words were replaced.

The limits are in scripts/words.json: the uses that remain in each file. A limit is never raised by this script.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

UNWANTED = re.compile(
    r"comes? later|\bTODO\b|\bFIXME\b|\bXXX\b|NotImplementedError|type: ignore|pragma: no cover"
    r"|\.\./shared|shared/assets|\bFACTS\b|\bDESIGN\b|\bDECISIONS\b|HOUSE_STYLE|\bissue #?\d+|/work/|/root/|/tmp/"
    r"|\b[Tt]he article\b"
)
"""Promises, paths of a machine, and references to documents that a reader does not have."""
WORDS = re.compile(
    r"\b(pictures?|learnt|unlearnt|learns? from|mend(s|ed|ing)?|at hand|nobody|somebody|surer|surest|strayed"
    r"|judg(e|es|ed|ing)|(is|are|was|were|be|not|as) told|cannot tell(?! whether)|tells (what|how|which|who|whether|it|of)"
    r"|to tell|tell (how|what|who|which)|whose images|stands? (in|beside|there|at)|goes? on with|went on with"
    r"|began with|torn apart|may move|proofs? of|in silence|heeds?|will not do|beside (it|them|the|what)"
    r"|answered (by|as|with))\b",
    re.IGNORECASE,
)
"""Words that the documentation of Keras or scikit-learn would not use in this sense."""
NAME_PARTS = {
    "picture", "pictures", "told", "untold", "learnt", "judge", "judged", "judging", "whose", "strayed", "begun", "glimpse",
    "surer", "mend",
}  # fmt: skip
"""Parts of identifiers, for the same reason."""
LIMITS = Path("scripts/words.json")
NO_PHRASES = ("tests/", ".ci/", "scripts/words.py", "LICENSE")
NO_WORDS = ("tests/golden/", ".ci/", "scripts/words.py", "scripts/words.json", "LICENSE")
TEXT = (".md", ".yaml", ".html", ".jinja", ".css", ".toml")


def main() -> int:
    """Print each finding and return 1 if there is any."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    texts = {}
    for name in listed.splitlines():
        try:
            texts[name] = Path(name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
    uses = {name: used for name, text in texts.items() if (used := _uses(name, text))}
    counts = {name: sum(used.values()) for name, used in uses.items()}
    limits = json.loads(LIMITS.read_text(encoding="utf-8")) if LIMITS.is_file() else dict(counts)
    if "--update" in sys.argv:
        lowered = {name: min(count, limits.get(name, 0)) for name, count in sorted(counts.items())}
        kept = {name: limit for name, limit in lowered.items() if limit}
        LIMITS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    findings = [
        f"{name}:{number}: '{match.group()}'"
        for name, text in texts.items()
        if not name.startswith(NO_PHRASES)
        for number, line in enumerate(text.splitlines(), 1)
        if (match := UNWANTED.search(line))
    ]
    findings += [
        f"{name}: {count} uses of {', '.join(sorted(uses[name]))}; at most {limits.get(name, 0)} are allowed"
        for name, count in sorted(counts.items())
        if count > limits.get(name, 0)
    ]
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


def _uses(name: str, text: str) -> Counter[str]:
    """Count the words in prose, and in the identifiers of Python files."""
    if name.startswith(NO_WORDS):
        return Counter()
    if not name.endswith(".py"):
        return _words(text) if name.endswith(TEXT) else Counter()
    found: Counter[str] = Counter()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            found += _words(token.string)
    for node in ast.walk(ast.parse(text)):
        identifier = {
            ast.FunctionDef: "name", ast.ClassDef: "name", ast.arg: "arg", ast.Name: "id", ast.Attribute: "attr",
        }.get(type(node))  # fmt: skip
        if identifier and not (isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)):
            parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", getattr(node, identifier))
            found.update({part.lower() for part in parts} & NAME_PARTS)
    return found


def _words(text: str) -> Counter[str]:
    return Counter(match.group().lower() for match in WORDS.finditer(text))


if __name__ == "__main__":
    sys.exit(main())
