"""`kerastl predict`: answers for files and folders, as a table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerastl.errors import RequestError

if TYPE_CHECKING:
    from kerastl.export.predict_files import Answer, Predictor

NOTHING_READ = 1


@click.command()
@click.argument("model", metavar="RUN|EXPORT", type=click.Path(path_type=Path))
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here, not to stdout.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.pass_context
def command(
    context: click.Context, model: Path, paths: tuple[Path, ...], out: Path | None, as_json: bool
) -> None:
    """Predict the class of picture files, and of the pictures in folders and below.

    Writes a CSV with path, predicted, problem and a column prob_<class> for each class. A file that gives
    no picture has a row with its problem, and a line on stderr; exit code 1 when no file gave one.

    \b
    Example:
      kerastl predict runs/folder-classifier-1 photos --out answers.csv
    """
    if out is not None and not out.absolute().parent.is_dir():
        raise RequestError(f"There is no folder {out.absolute().parent} to write {out.name} into.")
    if out is not None and out.exists():
        raise RequestError(f"{out} exists already and is left as it is. Name another: --out FILE")
    from kerastl.cli._quiet import load_tensorflow
    from kerastl.export import find_pictures, predict_files
    from kerastl.progress import say, track

    files = list(find_pictures(paths))
    if not files:
        raise RequestError(
            "No picture was found: the folders hold no file with a picture's suffix."
        )
    load_tensorflow()
    predictor = _open(model)
    answers = track(predict_files(predictor, files), "predicting", total=len(files))
    counts = _Counts()
    _write(counts.watched(answers), predictor.class_names, out, as_json)
    if counts.bad:
        say(f"{counts.bad} of {len(files)} files could not be read.")
    if counts.good == 0:
        context.exit(NOTHING_READ)


class _Counts:
    """How many files gave a picture, counted while answers pass by; problems go to stderr."""

    good = 0
    bad = 0

    def watched(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        from kerastl.progress import say

        for answer in answers:
            if answer.problem:
                self.bad += 1
                say(f"Cannot read {answer.path}: {answer.problem}")
            else:
                self.good += 1
            yield answer


def _open(model: Path) -> Predictor:
    from kerastl.evaluation.source_model import find_model
    from kerastl.evaluation.trained import DESCRIPTION, load_trained
    from kerastl.export import find_converted, find_export, read_converted, read_export

    if not (model / DESCRIPTION).is_file() and find_export(model) is not None:
        return read_export(model)
    if not (model / DESCRIPTION).is_file() and (converted := find_converted(model)) is not None:
        return read_converted(converted)
    return load_trained(find_model(model))


def _write(
    answers: Iterator[Answer], class_names: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Write answers as they come to stdout, or whole or not at all to a file."""
    if out is None:
        _write_to(sys.stdout, answers, class_names, as_json)
        return
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with staged.open("w", encoding="utf-8", newline="") as file:
            _write_to(file, answers, class_names, as_json)
        staged.replace(out)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def _write_to(
    file: Any, answers: Iterator[Answer], class_names: Sequence[str], as_json: bool
) -> None:
    from kerastl.runs import csv_line

    if as_json:
        for answer in answers:
            file.write(json.dumps(_as_object(answer, class_names), ensure_ascii=False) + "\n")
        return
    file.write(csv_line(["path", "predicted", "problem", *(f"prob_{one}" for one in class_names)]))
    for answer in answers:
        numbers = [f"{one:.6g}" for one in answer.probabilities] or [""] * len(class_names)
        file.write(csv_line([answer.path, answer.predicted, answer.problem, *numbers]))


def _as_object(answer: Answer, class_names: Sequence[str]) -> dict[str, Any]:
    if answer.problem:
        return {"path": answer.path, "problem": answer.problem}
    probabilities = dict(zip(class_names, answer.probabilities, strict=True))
    return {"path": answer.path, "predicted": answer.predicted, "probabilities": probabilities}
