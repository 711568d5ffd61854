"""What a killed run of a search left running, ended before the next run of that search begins.

A driver that is killed ends nothing: what Ray started for it lives on for up to a minute, and may still
write into the search's folder. So all of it carries a mark in its environment, which the folder keeps.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tune_tl.errors import BadInput
from tune_tl.storage.files import write_text

VARIABLE = "TUNE_TL_PROCESS"
FILE = ".processes"  # in the search's folder: the mark of its last run
PATIENCE = 10.0  # seconds in which a process that was sent SIGKILL has to be gone


def new_mark() -> str:
    return uuid.uuid4().hex


@contextlib.contextmanager
def marked(mark: str) -> Iterator[None]:
    """What is started in this context, and what that starts in turn, carries `mark` for life."""
    # Ray's workers show what they do as their name, and would write it over their environment.
    os.environ |= {VARIABLE: mark, "SPT_NOENV": "1"}
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def end_left(folder: Path, mark: str) -> int:
    """End what the last run of the search in `folder` left running; how many processes that were.

    Ended are this user's processes that carry the very mark that the folder keeps, which from now on is
    `mark`. Linux alone tells what a process carries; elsewhere what is left ends by itself. Raises BadInput
    if something does not end, and OSError.
    """
    kept = (folder / FILE).read_bytes().strip() if (folder / FILE).exists() else b""
    # What is damaged marks nothing.
    ended = _end(kept) if re.fullmatch(rb"[0-9a-f]{32}", kept) else 0
    write_text(folder / FILE, f"{mark}\n")
    return ended


def end(number: int, mark: bytes) -> None:
    """End the process `number` if it carries `mark`. Raises OSError if there is none."""
    handle = os.pidfd_open(number)  # before it is looked at: its number may become another's
    try:
        if _carries(Path(f"/proc/{number}"), mark):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _end(mark: bytes) -> int:
    ended: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while left := _carrying(mark):  # until there are none: one may have started another meanwhile
        for handle in left.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in left.values():
            select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            os.close(handle)
        ended |= left.keys()
        if time.monotonic() > deadline:
            raise BadInput(
                f"an earlier run of this search left process {min(left)}, which does not end; end it first"
            )
    return len(ended)


def _carrying(mark: bytes) -> dict[int, int]:
    """The processes with this mark, by number, each with a handle that stays its own."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        number = int(process.name)
        with contextlib.suppress(OSError):  # it has just ended
            if number == os.getpid() or process.stat().st_uid != os.geteuid():
                continue
            handle = os.pidfd_open(number)  # before it is looked at: its number may become another's
            if _carries(process, mark):
                found[number] = handle
            else:
                os.close(handle)
    return found


def _carries(process: Path, mark: bytes) -> bool:
    try:
        return b"%s=%s" % (VARIABLE.encode(), mark) in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
