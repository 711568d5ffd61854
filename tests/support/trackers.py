"""A tracker that notes what it told and how long it was waited for, and the sync that completes its work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from support.on_record import ENDED, breaches
from tune_tl.experiment import TrialResult
from tune_tl.record.json_files import ResultFacts
from tune_tl.tracking.description import Conclusion, Search
from tune_tl.tracking.tracker import CLOSE_SECONDS, Tracker

ROOT = Path(__file__).parents[2]
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
PATIENCE = 60  # seconds that a test gives a loaded machine


def findings(search: Search) -> Conclusion:
    return Conclusion.of(ResultFacts.read(search.folder), [])


class Told(Tracker):
    """A tracker, and what it told the person."""

    def __init__(self, uri: str) -> None:
        self.lines: list[str] = []
        self.slowest = 0.0  # of all that a trial waited for, in seconds
        super().__init__(uri, self.lines.append)

    def track(self, results: Iterable[TrialResult]) -> None:
        for done in results:
            begun = time.monotonic()
            self.begin(done.config)
            for metrics in done.epochs:
                self.epoch(done.config, metrics)
            self.end(done)
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def closed_in(self, timeout: float = CLOSE_SECONDS) -> float:
        begun = time.monotonic()
        self.close(timeout)
        return time.monotonic() - begun


def complete(uri: str) -> None:
    """As a person does it afterwards, in the search's working directory."""
    command = [sys.executable, "-m", "tune_tl.sync", "s", "--tracking-uri", uri]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert breaches(uri, ENDED) == []
