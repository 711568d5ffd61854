"""Which trials hang: those whose process has got nowhere for too long.

A long epoch is told from one that hangs by a sign of life: each trial has a small file, which its own process
touches whenever it has got somewhere (a batch, a chunk of images). The driver looks whether that changes, by
its own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

from tune_tl.tuning import orphans, privates

BEAT_S = 1.0  # between two looks, in the trial and in the driver


@contextlib.contextmanager
def alive(file: Path) -> Iterator[None]:
    """Keep the sign of life of this process in `file` while the context lasts."""
    from tune_tl.training import pulse

    over = threading.Event()

    def beat() -> None:
        last = -1
        while not over.wait(BEAT_S):
            if (now := pulse.beats()) != last:
                with contextlib.suppress(OSError):
                    os.utime(file)  # for which no disk is too full
                last = now

    file.parent.mkdir(parents=True, exist_ok=True)
    mark = os.environ.get(orphans.VARIABLE)
    file.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "mark": mark}))
    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError):
            file.unlink()


@dataclass
class _Process:
    """A trial that runs."""

    trial: Trial
    sign: int  # of life, as it was last
    since: float


class Watch:
    """Looks, in the driver, at the signs of life in `folder`, files named by their trials' keys."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self._folder, self._limit = folder, limit_s
        self._running: dict[str, _Process] = {}
        self._looked = time.monotonic()

    def begin(self, key: str, trial: Trial) -> None:
        """A trial starts, or starts again."""
        with contextlib.suppress(OSError):
            (self._folder / key).unlink()  # of an earlier run, whose process may be another's by now
        self._running[key] = _Process(trial, 0, time.monotonic())

    def over(self, key: str) -> None:
        """It has no process any more."""
        self._running.pop(key, None)

    def hung(self) -> list[str]:
        """Those that hang; cheap, to be asked all the time."""
        now = time.monotonic()
        if now - self._looked < BEAT_S:
            return []
        self._looked = now
        for key, process in self._running.items():
            if (sign := self._sign(key)) != process.sign:
                process.sign, process.since = sign, now
        return [key for key, process in self._running.items() if now - process.since > self._limit]

    def end(self, key: str) -> None:
        """End the process of a trial that hangs, for good."""
        privates.end_for_good(self._running.pop(key).trial)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            sign: dict[str, Any] = json.loads((self._folder / key).read_text())
            if sign["host"] == socket.gethostname():
                orphans.end(sign["pid"], sign["mark"].encode())  # one that is stopped does not hear Ray

    def _sign(self, key: str) -> int:
        try:
            return (self._folder / key).stat().st_mtime_ns
        except OSError:
            return 0
