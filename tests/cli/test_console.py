"""Status lines, facts and progress on terminals of any kind."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerastl import console

WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(WORDS, min_size=1, max_size=40), st.integers(20, 200))
def test_facts_fit_on_a_terminal_without_losing_words(words: list[str], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        (text,) = console.format_facts([("Title", " ".join(words))], stream=Terminal())
        assert text.split() == ["Title", *words]
        lines = text.splitlines()
        assert all(len(line) <= max(width, 40) or len(line.split()) == 1 for line in lines[1:])
        assert console.format_facts([("Title", " ".join(words))], stream=io.StringIO()) == [
            f"{'Title':<12}{' '.join(words)}"
        ]


def test_a_step_shows_a_spinner_on_a_terminal_and_a_line_elsewhere(monkeypatch, capsys) -> None:
    with console.status("Writing the report"), console.status("quick", prints_line=False):
        pass
    assert capsys.readouterr().err == "Writing the report\n"
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.status("Outer"):
        for _ in console.track(range(3), "inner"):
            console.print_status("a line")
    shown = terminal.getvalue()
    assert "Outer" in shown
    assert "inner" in shown
    assert shown.count("a line") == 3
    monkeypatch.setenv("TERM", "dumb")
    with console.status("Plain"):
        pass
    assert terminal.getvalue().endswith("Plain\n")
    assert shown.isascii() or not any("\u2800" <= letter <= "\u28ff" for letter in shown)


def test_quiet_hides_everything(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.quiet(), console.status("Outer"):
        assert list(console.track(range(3), "inner")) == [0, 1, 2]
        console.print_facts([("Data", "photos")])
    assert terminal.getvalue() == ""


PRINT = """
from kerastl import console
console.print_facts([("Data", "caf\\u00e9: 3 images")])
with console.status("R\\u00e9sum\\u00e9"):
    pass
"""


@pytest.mark.parametrize("variables", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_without_utf_8_shows_escapes(variables: dict[str, str]) -> None:
    environment = {**os.environ, **variables, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, check=True)
    assert rb"Data        caf\xe9: 3 images" in done.stderr or "café".encode() in done.stderr


LOAD = """
import sys, kerastl
kerastl.Phase("head", epochs=1)
assert "tensorflow" not in sys.modules
kerastl.fit
import tensorflow as tf
tf.reduce_sum(tf.ones([2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", [None, "3", "0"])
def test_tensorflow_writes_no_log_lines_unless_they_are_requested(level: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    if level:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, check=True)
    assert (done.stderr == b"") == (level != "0")


def test_control_characters_of_names_are_escaped(capsys):
    console.print_status("Ignored \x1b[31mred\r, \u202egpj and a\u200bb, but not é or 猫\nor lines")
    assert capsys.readouterr().err == (
        "Ignored \\x1b[31mred\\r, \\u202egpj and a\\u200bb, but not é or 猫\nor lines\n"
    )
