"""Every command is made by one decorator: what goes wrong is one line and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tune_tl.errors import BadInput
from tune_tl.terminal.door import Parser, door


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="try")
    made.add_argument("word", nargs="?")
    return made


def ending(error: BaseException) -> int:
    @door(parser, interrupted="the same command goes on")
    def main(given: argparse.Namespace) -> int:
        raise error

    return main([])


def test_the_exit_code_is_what_the_work_gives() -> None:
    @door(parser)
    def main(given: argparse.Namespace) -> int:
        return len(given.word)

    assert main(["seven!!"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput("x is no y; give z"), 2, "error: x is no y; give z\n"),
        (OSError(errno.ENOSPC, "No space"), 2, "error: a disk is full ([Errno 28] No space); make room\n"),
        (OSError(errno.EACCES, "Permission denied"), 2, "error: [Errno 13] Permission denied\n"),
        (KeyboardInterrupt(), 130, "the same command goes on\n"),
    ],
    ids=["bad input", "full disk", "other disk", "interrupt"],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(error) == code
    assert capsys.readouterr() == ("", line)


def test_a_mistake_in_the_arguments_is_one_line_that_names_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @door(parser)
    def main(given: argparse.Namespace) -> int:
        raise AssertionError("not reached")

    assert main(["--no-such"]) == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --no-such; see try --help\n"


def test_sigterm_is_an_interrupt_with_a_code_of_its_own_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    @door(parser)
    def main(given: argparse.Namespace) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        return 0

    assert main([]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_terminal_has_no_letters_for_are_printed_escaped(encoding: str) -> None:
    program = (
        "import argparse\n"
        "from tune_tl.terminal.door import door\n"
        "@door(argparse.ArgumentParser)\n"
        "def main(given):\n"
        "    print('caf\\udce9 · é')\n"
        "    return 0\n"
        "raise SystemExit(main([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == {"ascii": b"caf\\udce9 - \\xe9\n", "utf-8": "caf\\udce9 · é\n".encode()}[encoding]


LEAVES = """
import sys
from tune_tl.terminal.door import Parser, door, leave

@door(Parser)
def main(arguments):
    for n in range(5000):
        print(n, "some words to fill what is between")
    print("done", file=open("there", "w"))
    return 0

leave(main())
"""


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("how", ["| head -1", ">&-", ">&- 2>&-", "2>&1 | head -1", "<&- >&- 2>&-"])
def test_output_that_nobody_takes_ends_nothing(tmp_path: Path, how: str, buffered: str) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} leaves.py {how}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": buffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "there").read_text() == "done\n", "and is not what was printed"
