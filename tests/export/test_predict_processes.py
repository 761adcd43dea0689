"""Several processes: answers in order, errors told, none left behind. No TensorFlow: what they ask is drawn."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from kerastl.errors import RequestError, RunFailed
from kerastl.export.predicting.processes import answer_in_processes
from kerastl.export.predicting.work import Answered


@dataclass(frozen=True)
class DrawnWork:
    """Tells each path and the process that read it; some names make it fail."""

    fails: str = ""

    def open(self) -> Callable[[Sequence[Path]], Answered]:
        if self.fails == "open":
            raise RequestError("the export is damaged")

        def ask(paths: Sequence[Path]) -> Answered:
            if self.fails in [path.name for path in paths]:
                os.kill(os.getpid(), signal.SIGSEGV)
            if any(path.name == "odd.png" for path in paths):
                raise ValueError("shapes differ\nand a long story")
            time.sleep(0.01 * (int(paths[0].stem) % 3))
            return Answered("".join(f"{path} {os.getpid()}\n" for path in paths), len(paths))

        return ask


def batches(count: int) -> list[list[Path]]:
    return [[Path(f"{2 * number}.png"), Path(f"{2 * number + 1}.png")] for number in range(count)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_come_in_order_from_processes_that_end() -> None:
    with closing(answer_in_processes(DrawnWork(), batches(40), 2)) as answers:
        lines = [line.split() for one in answers for line in one.text.splitlines()]
    assert [name for name, _ in lines] == [f"{number}.png" for number in range(80)]
    pids = {int(pid) for _, pid in lines}
    assert os.getpid() not in pids
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_dies_is_told_with_its_files() -> None:
    with (
        closing(answer_in_processes(DrawnWork(fails="9.png"), batches(40), 2)) as answers,
        pytest.raises(RunFailed, match=r"signal 11 over 2 files from 8\.png to 9\.png"),
    ):
        list(answers)


@pytest.mark.slow
def test_what_goes_wrong_there_is_told_as_it_would_be_here() -> None:
    with pytest.raises(RequestError, match="the export is damaged"):
        list(answer_in_processes(DrawnWork(fails="open"), batches(4), 2))
    with pytest.raises(RunFailed, match=r"ValueError: shapes differ$"):
        list(answer_in_processes(DrawnWork(), [[Path("odd.png")]], 1))


@pytest.mark.slow
def test_who_stops_asking_leaves_no_process() -> None:
    answers = answer_in_processes(DrawnWork(), batches(1000), 2)
    pid = int(next(answers).text.split()[1])
    answers.close()
    assert not is_alive(pid)
