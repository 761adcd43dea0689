"""What a shell and a terminal see: completion, suggestions for commands and options, quoting, and other encodings."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastl.cli import main
from kerastl.errors import set_option, shell_command
from kerastl.recipe import read_plain

SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("kerastl che", ["check"]),
        ("kerastl run folder", ["folder-classifier"]),
        ("kerastl check my", ["my.yaml"]),
        ("kerastl report runs/", ["runs/flowers-1"]),
        ("kerastl predict ", ["runs/flowers-1"]),
    ],
)
def test_commands_recipes_and_runs_are_completed(words, expected, tmp_path, monkeypatch, capsys):
    (tmp_path / "my.yaml").write_text("")
    (tmp_path / "runs" / "flowers-1").mkdir(parents=True)
    (tmp_path / "runs" / "flowers-1" / "recipe.resolved.yaml").write_text("")
    (tmp_path / "runs" / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_KERASTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.splitlines() == [f"plain,{word}" for word in expected]


def test_the_value_of_an_option_is_completed(monkeypatch, capsys):
    monkeypatch.setenv("_KERASTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "kerastl run x --data ")
    monkeypatch.setenv("COMP_CWORD", "4")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.strip() == "file,"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["chekc"], "Did you mean 'check'?"), (["train"], "Did you mean 'run'?"), (["list"], "Did you mean 'ls'?"),
        (["data", "fantom"], "Did you mean 'phantom'?"), (["run", "x", "--dat", "y"], "'--data'"),
        (["run", "x", "--epochs", "3"], "To change a recipe value: --set 'phases[0].epochs=VALUE'"),
        (["lr", "x", "--lr", "3"], "--set 'phases[0].learning_rate=VALUE'"), (["run", "x", "--gpu", "3"], "--set PATH=VALUE"),
        (["run", "x", "--val-split", "3"], "--set data.split.val_fraction=VALUE"),
        (["run", "x", "photos"], "To select images: --data PATH."), (["lr", "x", "data.batch_size=3"], "--set PATH=VALUE"),
        (["run", "x", "--data"], "Option '--data' requires an argument."),
        (["export", "x", "--format", "tflite"], "Did you mean 'litert'?"),
        (["data", "phantom", "x", "--hospital", "A"], "Did you mean 'a'?"),
        (["quickstart", "--backbone", "mobilenet"], "Did you mean 'mobilenet_v2'?"),
        (["run", "x", "--output", "y"], "Did you mean '--out'?"), (["verify", "x", "--data", "y"], "Write it without --data."),
        (["predict", "x", "--images", "y"], "Write it without --images."), (["report", "x", "--open"], "No such option '--open'."),
        (["run", "x", "--data", "a", "--data", "a"], "--data is given 2 times. Give it once."),
        (["check", "x", "--data", "a", "--set", "a=1", "--data=b"], "--data is given 2 times"),
        (["lr", "x", "--steps", "1", "--steps", "2"], "--steps is given 2 times"),
        (["weights", "fetch", "x", "--image-size-px", "1", "--image-size-px", "2"], "--image-size-px is given 2 times"),
    ],
)  # fmt: skip
def test_wrong_commands_and_options_get_one_hint(words, hint, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    error = capsys.readouterr().err
    assert (left.value.code, error.count(hint)) == (2, 1), error


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=1)
@given(
    st.lists(
        st.one_of(WORDS, st.sampled_from(["phases[0].epochs=3", "=ls", "!x", "$HOME `id`", "-", "~"])),
        min_size=60,
    )
)
def test_every_word_survives_a_shell(shell, words):
    command = shell_command("printf", "%s\\0", *words)
    assert command.isprintable()
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


@settings(max_examples=50)
@given(WORDS.filter(str.isprintable))
def test_a_printed_setting_has_the_same_value_for_yaml(text):
    flag, change = shlex.split(set_option("backbone.weights", f"/{text}"))
    assert flag == "--set"
    assert read_plain(change.removeprefix("backbone.weights=")) == f"/{text}"


LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
]


@pytest.mark.parametrize("environment", LOCALES, ids=[" ".join(each) for each in LOCALES])
def test_terminals_without_utf8_print_every_message(environment, tmp_path):
    (tmp_path / "ä…").mkdir()
    script = (
        "import sys; from kerastl.cli import main\n"
        "from kerastl.console import print_status\n"
        "print_status('\\u2026 \\udcff'); main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", script, "check", "folder-classifier", "--data", "ä…", "--set", "seed=x"]
    environment = {**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"--set seed: must be an integer" in done.stderr
