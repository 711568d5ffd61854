"""Why a trial failed, in one line, from what Ray writes about it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ray.tune.experiment import Trial

_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT})\]")


def reason(trial: Trial) -> str:
    """Why a trial failed: from the text that Ray has just written. Raises OSError if that is a full disk."""
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown, see ray.log"
    text = text.rpartition("Failure # ")[2].partition("\n")[2].rstrip()
    # Of a traceback, what follows the last line of code.
    message = " ".join(re.split(r"\n[ ^~]+\S[^\n]*\n(?=\S)", "\n" + text)[-1].split())
    if found := _FULL.search(message):
        raise OSError(int(found[1]), os.strerror(int(found[1])))
    if "actor died" in text or "actor is dead" in text:
        return _death(text)
    return message[:300] or "unknown, see ray.log"


def _death(text: str) -> str:
    """What ended a process, of the paragraph that Ray writes about it: it does not know more."""
    if "its worker process has died" in text:
        number = re.search(r"pid: (\d+)", text)
        process = f"process {number[1]}" if number else "its process"
        return f"{process} died: it crashed, was killed, or the machine had no memory left"
    return " ".join(text.rpartition("The actor is dead because ")[2].split())[:200]
