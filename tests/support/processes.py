"""The processes of this machine, and what they carry in their environment."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tune_tl.tuning.orphans import FILE, VARIABLE


def carrying(entry: str) -> dict[int, str]:
    """Processes with `entry` (NAME=value) in their environment, by number, and what they call themselves."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # has just ended
            if entry.encode() in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(process.name)] = words.decode(errors="replace").strip()
    return found


def of_last_run(folder: Path) -> dict[int, str]:
    """What runs of what Ray started for the last run of the search in `folder`."""
    file = folder / FILE
    return carrying(f"{VARIABLE}={file.read_text().strip()}") if file.exists() else {}


def trial_workers(folder: Path) -> list[int]:
    """Those of them in which trials run."""
    return [pid for pid, name in of_last_run(folder).items() if name.startswith("ray::ImplicitFunc")]
