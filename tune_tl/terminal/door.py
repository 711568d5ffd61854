"""Command lines whose mistakes are told in one line, and the exit codes of what takes long."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from tune_tl.errors import BadInput


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is said, and not below the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raises BadInput."""
        raise BadInput(f"{' '.join(message.split())}; see {self.prog} --help")


def exit_code(work: Callable[[], int], interrupted: str = "") -> int:
    """What `work` gives; 2 for bad input or no disk, told in one line; 130 if interrupted, by SIGTERM 143."""
    told_to_end: list[bool] = []  # by SIGTERM

    def terminated(*_: object) -> NoReturn:
        told_to_end.append(True)  # on its way the interrupt may become another one
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        return work()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        print(f"error: {f'a disk is full ({error}); make room' if full else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return 143 if told_to_end else 130
    finally:
        signal.signal(signal.SIGTERM, before)
