"""Exceptions with messages for the user. The command line prints the message and exits with `exit_code`."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")
LONGEST_QUOTE = 60
LOOK_ALIKES = str.maketrans("oil", "011")
"""Letters that are typed instead of digits."""
MIN_LETTERS, SHORT = 2, 5
"""Shortest word that is corrected, and longest word in which one wrong letter is a large part."""
PLAIN = re.compile(r"[\w./+-]+")
"""Paths and numbers that need no quotes in YAML."""
# Terms of Keras, fastai, PyTorch and other tools for each name. A term with several names means the first allowed one.
OTHER_WORDS = {
    "learning_rate": "lr base_lr max_lr rate eta",
    "batch_size": "batch batches bs",
    "image_size_px": "image_size image_shape img_size imgsz input_shape input_size target_size size resolution",
    "epochs": "num_epochs n_epochs max_epochs nb_epochs",
    "backbone": "model network arch architecture base_model encoder",
    "phases": "train training trainer fit stages steps",
    "data": "dataset datasets images input",
    "path": "dir folder directory root data_dir image_dir file filename filepath image image_path img",
    "label": "labels class category klass target diagnosis y",
    "group": "patient subject patient_id subject_id case case_id study_id mrn",
    "domain": "hospital center centre institution clinic",
    "reader": "loader dataloader path folder",
    "folder": "dir directory imagefolder image_folder image_dataset_from_directory",
    "table": "csv tsv excel dataframe df",
    "val_fraction": "val_split validation_split valid_pct val_size validation_size validation_fraction val validation",
    "test_fraction": "test_split test_size test",
    "split": "val_split validation_split valid_pct test_split test_size subset partition fold is_test is_train",
    "group_by": "groups group group_col",
    "augment": "augmentation augmentations aug augs transforms transform",
    "weights": "pretrained init",
    "seed": "random_state random_seed",
    "trainable": "freeze frozen unfreeze freeze_layers trainable_layers layers",
    "early_stopping": "patience earlystopping",
    "weight_decay": "wd decay",
    "schedule": "scheduler lr_scheduler lr_schedule",
    "precision": "mixed_precision amp fp16 dtype",
    "clip_norm": "clipnorm grad_clip gradient_clip global_clipnorm",
    "accumulate": "accumulation gradient_accumulation gradient_accumulation_steps",
    "export": "save serve output convert",
    "val_accuracy": "val_acc acc accuracy",
    "val_auc": "auc roc_auc",
    "random_flip": "flip hflip vflip fliplr flipud horizontal_flip vertical_flip random_horizontal_flip random_vertical_flip",
    "random_rotation": "rotate random_rotate degrees rotation_range",
    "random_translation": "translate shift width_shift_range height_shift_range random_affine",
    "random_contrast": "contrast",
    "random_crop_and_resize": "random_resized_crop resized_crop",
    "random_cutout": "random_erasing erasing coarse_dropout random_erase",
    "random_color_jitter": "color_jitter jitter",
    "random_color_degeneration": "color_degeneration",
    "equalization": "equalize histogram_equalization",
    "posterization": "posterize",
    "solarization": "solarize",
    "litert": "tflite tf_lite lite",
    "saved_model": "tf tensorflow serving tf_serving pb",
    "keras": "h5 hdf5",
    "out": "output output_dir out_dir outdir save_dir log_dir destination",
    "run": "train training fit",
    "check": "validate lint",
    "predict": "infer inference classify",
    "ls": "list",
    "cp": "copy init new",
    "quickstart": "demo tutorial",
}  # fmt: skip
# Words that resemble a name but have no counterpart, or only in some places.
UNSUPPORTED = (
    "loss crossentropy cross_entropy categorical_crossentropy nadam adagrad adadelta lion rmsprop momentum multi_label "
    "weights classes num_classes shuffle resize rescale normalize"
)


class KerastlError(Exception):
    """Base class of the errors that kerastl raises for the user."""

    exit_code = 1


class RequestError(KerastlError):
    """The request is invalid: a bad recipe, bad data or a missing file. Nothing was run."""

    exit_code = 1


class RunFailed(KerastlError):
    """A valid run failed: a consistency check failed, the loss became NaN, or the disk is full."""

    exit_code = 3


class PermanentFailure(RunFailed):
    """A run failed in a way that resuming would repeat: the loss became NaN, or frozen weights changed."""


class Diverged(PermanentFailure):
    """A loss or a weight became NaN or infinite.

    Args:
        what: What diverged, and where.
        remedy: The state of the model, and what to do next.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        super().__init__(f"{what} {remedy}".strip())


@dataclass(frozen=True)
class Problem:
    """One problem of a request.

    Args:
        where: Location of the problem, e.g. `line 7, training.epoch` or a file. Empty if the message states it.
        message: What is wrong, and what is allowed.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Problems(RequestError):
    """Several problems of one request, reported together.

    Args:
        subject: What has the problems, e.g. `flowers.yaml`.
        problems: At least one problem, in the order of the file.
        footer: What to type next.
        shown: Number of problems that the message lists; the rest are counted. None lists all.
    """

    def __init__(
        self, subject: str, problems: Sequence[Problem], footer: str = "", shown: int | None = None
    ) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        self.footer = footer
        self.shown = len(self.problems) if shown is None else shown
        super().__init__(subject, self.problems, footer, shown)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.subject} has {count:,} problem{'s' if count != 1 else ''}."]
        lines += ["  " + str(problem).replace("\n", "\n    ") for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  ... and {count - self.shown:,} more.")
        return "\n".join(lines + ([self.footer] if self.footer else []))


def raise_problems(
    subject: str, problems: Sequence[Problem], footer: str = "", shown: int | None = None
) -> None:
    """Raise `Problems` with these arguments, if there are any problems."""
    if problems:
        raise Problems(subject, problems, footer, shown)


def raise_request(problems: Sequence[Problem]) -> None:
    """Raise the problems of a request together, if there are any. A single one without a location stands alone."""
    if len(problems) == 1 and not problems[0].where:
        raise RequestError(problems[0].message)
    raise_problems("The request", problems, "Nothing was run.")


def message_of(error: RequestError) -> str:
    """Return the message of an error, to be listed with other problems of a request."""
    return str(error).removesuffix("Nothing was run.").rstrip()


def problems_of(where: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Problem]:
    """Call a function and return the problems that it raises."""
    try:
        function(*arguments, **options)
    except RequestError as error:
        errors = error.problems if isinstance(error, Problems) else (error,)
        return [Problem(where, str(problem)) for problem in errors]
    return []


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def report_damage(file: Path, remedy: str) -> Iterator[None]:
    """Convert any error from parsing a damaged file to a `RequestError` that names the file.

    Args:
        file: The file that the `with` block reads.
        remedy: What to do next, as a sentence.
    """
    try:
        yield
    except (KerastlError, OSError):
        raise
    except Exception as error:  # JSON alone raises five types
        reason = first_line(error)
        why = f"the key {reason} is missing" if isinstance(error, KeyError) else reason
        raise RequestError(f"{file} is damaged: {why}. {remedy}") from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None.

    The word can be the term of a different tool, a misspelling, or a part, such as `flip` for `random_flip`. Numbers must
    match: `resnet18` does not suggest `resnet152`.
    """
    typed = _plain(word[:100])
    names = {_plain(name): name for name in known}
    meant = [_plain(name) for name, words in OTHER_WORDS.items() if typed in map(_plain, words.split())]
    for plain in (typed, *meant):
        if plain in names:
            return names[plain]
    for plain, name in names.items():
        if plain.translate(LOOK_ALIKES) == typed.translate(LOOK_ALIKES):
            return name
    if meant or len(typed) < MIN_LETTERS or typed in map(_plain, UNSUPPORTED.split()):
        return None
    same_numbers = [plain for plain in names if re.findall(r"\d+", plain) == re.findall(r"\d+", typed)]
    cutoff = 0.8 if len(typed) > SHORT else 0.66
    near = difflib.get_close_matches(typed, same_numbers, n=1, cutoff=cutoff)
    starts = [name for plain, name in names.items() if plain.startswith(typed)]
    parts = [name for name in names.values() if typed in name.lower().split("_")]
    for similar in (starts, [names[plain] for plain in near], parts):
        families = {name.partition("_")[0].rstrip("0123456789") for name in similar}
        if len(families) == 1:
            return min(similar, key=lambda name: (len(name), name))
    return None


def _plain(word: str) -> str:
    return re.sub(r"[\s_.-]", "", word.lower())


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean ...? `, with a trailing space, for the nearest known word, or an empty string if none is close."""
    near = nearest(word, known)
    return f"Did you mean {quote(near)}? " if near else ""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `Did you mean ...?` with the nearest known word, or a list of the known words, or of those of its family."""
    family = [name for name in known if len(word) > SHORT and name[:SHORT] == _plain(word)[:SHORT]]
    words = f"{', '.join(family)}, ..." if 0 < len(family) < len(known) else ", ".join(known)
    return suggest(word, known).strip() or f"Known: {words}."


def nearest_column(name: str, columns: Sequence[str]) -> str | None:
    """Return the column that a name probably refers to, such as `PatientID`, or None."""
    return nearest(name, columns) or next((column for column in columns if nearest(column, [name])), None)


def missing_column(name: str, columns: Sequence[str], table: str = "the table") -> str:
    """Return the message for a column that a table lacks, with the nearest and all column names."""
    similar = nearest_column(name, columns)
    hint = f"Did you mean {quote(similar)}? " if similar else ""
    shown = ", ".join(quote(column, "") for column in columns)
    return f"{table} has no column {quote(name)}. {hint}Columns: {shown}."


def suggest_arguments(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Decorate a function so that its TypeError for an unknown argument suggests the nearest name."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        for name in kwargs:
            if name not in known:
                hint = did_you_mean(name, known)
                raise TypeError(f"{function.__qualname__}() has no argument {quote(name)}. {hint}")
        return function(*args, **kwargs)

    return checked


def join_words(words: Sequence[str], last: str = "or") -> str:
    """Join words as `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. `1 image` or `3 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


ADDRESS = re.compile(r"^([a-z][a-z0-9+]+:)/+", re.IGNORECASE)
"""The beginning of a URL. A path keeps only one of its slashes."""


def shell_quote(word: object) -> str:
    """Quote a word for bash and zsh. Unprintable characters are escaped, so that the result is one printable line."""
    text = str(word)
    if isinstance(word, Path):
        text = ADDRESS.sub(r"\1//", text)
    if text.isprintable():
        # zsh replaces a word that starts with = with the path of a command.
        return f"'{text}'" if text.startswith("=") and "'" not in text else shlex.quote(text)
    text = re.sub("[\ud800-\udc7f\udd00-\udfff]", "?", text)  # no bytes of a file name
    letters = (chr(byte) for byte in text.encode(errors="surrogateescape"))
    plain = (
        letter if " " <= letter <= "~" and letter not in "'\\" else f"\\x{ord(letter):02x}"
        for letter in letters
    )
    return f"$'{''.join(plain)}'"


def shell_command(*words: object) -> str:
    """Return a command that can be copied to bash or zsh."""
    return " ".join(map(shell_quote, words))


def set_option(key: str, value: object) -> str:
    """Return `--set KEY=VALUE` for bash or zsh. Text that YAML would read differently is quoted for YAML, too."""
    text = str(value)
    return shell_command(
        "--set", f"{key}={text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)}"
    )


def escape(text: str) -> str:
    """Escape the control characters of a text, such as those of file names, except line breaks."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


_syntax = ContextVar("syntax", default="Python")
"""Where the request comes from: `Python`, `recipe` or `command line`."""


@contextmanager
def recipe_syntax(*, is_command: bool = False) -> Iterator[None]:
    """Show settings in messages as they are written in a recipe, and options as on the command line if it is a command."""
    is_inside = _syntax.get() == "command line"
    token = _syntax.set("command line" if is_command or is_inside else "recipe")
    try:
        yield
    finally:
        _syntax.reset(token)


def in_syntax(recipe: str, python: str) -> str:
    """Return the text for recipes, or that for Python if the request comes from Python."""
    return python if _syntax.get() == "Python" else recipe


def out_option() -> str:
    """Return how another folder is chosen, on the command line or in Python."""
    return "--out DIR" if _syntax.get() == "command line" else "out=DIR"


def setting(key: str, value: Any) -> str:
    """Return a setting as it is written in a recipe, `cache: none`, or in Python, `cache='none'`."""
    plain = str(value).replace("'", "") if isinstance(value, dict) else value
    return in_syntax(f"{key}: {'none' if value is None else plain}", f"{key.rpartition('.')[2]}={value!r}")


def quote(text: str, marks: str = "'") -> str:
    """Quote text for a terminal: escape unprintable characters and shorten long text."""
    safe = escape(text[: LONGEST_QUOTE * 4]).replace("\n", r"\n")
    cut = safe if len(safe) <= LONGEST_QUOTE * 2 else safe[:LONGEST_QUOTE] + "…"
    return f"{marks}{cut}{marks}"
