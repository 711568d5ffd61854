"""What every command is made of: its arguments in, one line for whatever goes wrong, its exit code out."""

from __future__ import annotations

import argparse
import codecs
import errno
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from tune_tl.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is said, and not below the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raises BadInput."""
        raise BadInput(f"{' '.join(message.split())}; see {self.prog} --help")


Work = Callable[[argparse.Namespace], int]


class Program(Protocol):
    """A command: the words of its command line, this process's own without any, to its exit code."""

    def __call__(self, words: Sequence[str] | None = None) -> int: ...


def door(parser: Callable[[], argparse.ArgumentParser], interrupted: str = "") -> Callable[[Work], Program]:
    """Makes a program of what works on parsed arguments and gives an exit code.

    Bad input and a disk that fails are told in one line: 2. An interrupt gives 130, SIGTERM 143, after the
    line `interrupted`.
    """

    def decorate(work: Work) -> Program:
        @functools.wraps(work)
        def program(words: Sequence[str] | None = None) -> int:
            terminated: list[bool] = []

            def on_sigterm(*_: object) -> NoReturn:
                terminated.append(True)  # on its way the interrupt may become another one
                raise KeyboardInterrupt

            main = threading.current_thread() is threading.main_thread()  # the only one that may ask
            before = signal.signal(signal.SIGTERM, on_sigterm) if main else None
            _open_streams()
            try:
                code = work(parser().parse_args(words))
                sys.stdout.flush()
                return code
            except BadInput as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            except OSError as error:
                full = f"a disk is full ({error}); make room"
                print(f"error: {full if error.errno in FULL else error}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                if interrupted:
                    print(interrupted, file=sys.stderr)
                return 143 if terminated else 130
            finally:
                if main:
                    signal.signal(signal.SIGTERM, before)

        return program

    return decorate


# What is printed where there is no such character, in a terminal of another language or of none.
_PLAIN = {"·": "-", "…": "...", "→": "->", "─": "-", "≤": "<=", "≥": ">="}


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(plain), error.end


codecs.register_error("tune_tl.plain", _plainly)


class _Patient(io.FileIO):
    """Standard output or error, whose reader may leave: what is written then is lost, and nothing else."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def _open_streams() -> None:
    """Have standard output and error take whatever is printed, closed, ended or of few characters.

    A descriptor that is closed would become the next file that is opened, and be printed to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):
            encoding, at_once = "utf-8", True
            if stream:
                stream.flush()
                encoding, at_once = stream.encoding, stream.line_buffering or stream.write_through
            buffered = io.BufferedWriter(_Patient(descriptor, "wb", closefd=False))
            made = io.TextIOWrapper(buffered, encoding, "tune_tl.plain", line_buffering=at_once)
            setattr(sys, name, made)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tune_tl.plain")


def leave(code: int) -> NoReturn:
    """End the process at once: nothing is left to do, and threads of libraries would be waited for."""
    sys.stdout.flush()
    os._exit(code)
