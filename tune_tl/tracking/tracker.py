"""The search's record in MLflow, written behind its back: no caller ever waits for MLflow.

The driver puts events in a queue; one background thread writes them. When MLflow fails, the thread says
so once, waits and tries the same event again, so a server that comes back catches up. A database that is
damaged is left alone from then on. What was never written is in the ledger: a resumed search brings it,
and `tune_tl.sync` does at any time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from tune_tl.experiment import EpochMetrics, Observer, TrialConfig, TrialResult
from tune_tl.tracking import health
from tune_tl.tracking.description import Conclusion, Search
from tune_tl.tracking.search_runs import SearchRuns
from tune_tl.tracking.store import quiet_mlflow, shown

FIRST_PAUSE = 1.0  # seconds before a failed event is tried again; doubles up to the longest
LONGEST_PAUSE = 30.0
CLOSE_SECONDS = 10.0

Event = Callable[[SearchRuns], None]


class Tracker(Observer):
    """Writes one search to MLflow. No method raises for what MLflow does, and none but `close` waits.

    `say` is told, in the tracker's thread, one line when MLflow fails and one when it is back.
    """

    def __init__(self, uri: str, say: Callable[[str], None] = lambda line: None) -> None:
        quiet_mlflow()
        self._uri = uri
        self._where = f"MLflow at {shown(uri)}"
        self._tell = say
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._finished = False
        self._ended = self._written = 0  # trials; those whose end MLflow has
        self.page: str | None = None  # the leaderboard's address in MLflow's pages, once it is there
        self._unwritten: str | None = None  # why events wait; None once they are written
        self._told = False  # that events wait
        self._refused: str | None = None  # why MLflow will never take an event; the last one that it refused

    @property
    def problem(self) -> str | None:
        """One line about what is not in MLflow, and why; None while all is well."""
        why = self._unwritten or self._refused
        if why is None:
            return None
        lacks = self._ended - self._written
        missing = f"it lacks {lacks} of {self._ended} trials, " if lacks else ""
        return f"{why}; {missing}the ledger has everything"

    def start(self, search: Search) -> None:
        """Begin or, where MLflow knows the search's id, continue its record.

        Within five seconds it is known whether MLflow can be reached.
        """
        self._thread = threading.Thread(
            target=self._write, args=(search, _now()), name="mlflow-tracker", daemon=True
        )
        self._thread.start()

    def begin(self, config: TrialConfig) -> None:
        # The parent is seen before the first epoch is over. Not sooner: to import MLflow takes two
        # seconds of a core, and the first trial needs every one to start.
        self._events.put(lambda runs: None)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        at = _now()
        self._events.put(lambda runs: runs.epoch(config, metrics, at))

    def end(self, result: TrialResult) -> None:
        """Record how a trial ended, with every epoch of it that MLflow lacks.

        Harmless for a trial that is on record: a resumed search passes all of its ledger.
        """
        at = _now()
        self._ended += 1

        def event(runs: SearchRuns) -> None:
            runs.end(result, at)
            self._written += 1

        self._events.put(event)

    def finish(self, conclusion: Conclusion) -> None:
        at = _now()
        self._finished = True
        self._events.put(lambda runs: runs.finish(conclusion, at))

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds. Without `finish`, the search was interrupted."""
        if self._thread is None or self._closing.is_set():
            return
        if not self._finished:
            at = _now()
            self._events.put(lambda runs: runs.interrupt(at))
        self._events.put(None)
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive() and not self._unwritten:
            self._unwritten = f"{self._where} is too slow: more than {timeout:g} s for what was left"
        if not self._finished and self._unwritten and not self._told:
            self._tell(str(self.problem))

    def _write(self, search: Search, at: int) -> None:
        runs: SearchRuns | None = None
        pause = FIRST_PAUSE
        event: Event | None = _look
        while event is not None:
            try:
                if runs is None:
                    health.check(self._uri)
                if event is not _look:
                    runs = runs or self._open(search, at)
                    event(runs)
            except Exception as error:
                if why := health.unfit(error):
                    way_out = f"move it away, then run {search.sync_command}"
                    self._wait(f"is left alone: {why}; {way_out}")
                    return
                stuck = health.stuck(error, self._uri)
                if stuck or runs is None or not health.is_refusal(error):
                    self._wait(
                        f"takes nothing: {stuck}" if stuck else f"does not answer: {health.reason(error)}"
                    )
                    if self._closing.is_set():
                        return
                    self._closing.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    runs = None  # what was written before the failure is looked up, not written again
                    continue
                self._refused = f"{self._where} refused a record: {health.reason(error)}"
            self._go_on()
            pause = FIRST_PAUSE
            event = self._events.get()

    def _open(self, search: Search, at: int) -> SearchRuns:
        runs = SearchRuns(self._uri, search, at)
        runs.resume(at)
        self.page = runs.page
        return runs

    def _wait(self, why: str) -> None:
        self._unwritten = f"{self._where} {why}"
        if not self._told and not self._closing.is_set():
            self._told = True
            self._tell(str(self.problem))

    def _go_on(self) -> None:
        self._unwritten = None
        if self._told:
            self._told = False
            self._tell(f"{self._where} answers again and is brought up to date")


def _look(runs: SearchRuns) -> None:
    """The first event: to see whether MLflow is there at all, and no more."""


def _now() -> int:
    return int(time.time() * 1000)
