"""The search's record in MLflow, written behind its back: no caller ever waits for MLflow.

The driver puts events in a queue; one background thread writes them. When MLflow fails, the thread says
so once in `problem`, waits and tries the same event again, so a server that comes back catches up. What
was never written is in the ledger, and `end` brings it up to date when a search is resumed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from tune_tl.experiment import EpochMetrics, Observer, TrialConfig, TrialResult
from tune_tl.tracking.record import Findings, Record, Search
from tune_tl.tracking.store import quiet_mlflow, redacted, sqlite_file, tracking_uri

__all__ = ["Findings", "Search", "Tracker", "tracking_uri"]

EXPERIMENT = "tune_tl"
FIRST_PAUSE = 1.0  # seconds before a failed event is tried again; doubles up to the longest
LONGEST_PAUSE = 30.0
CLOSE_SECONDS = 10.0

Event = Callable[[Record], None]


class Tracker(Observer):
    """Writes one search to MLflow. No method raises for what MLflow does, and none but `close` waits.

    `experiment` is MLflow's, a shelf for searches; it is created if it is not there.
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        quiet_mlflow()
        self._uri = uri
        self._where = redacted(str(sqlite_file(uri) or uri))
        self._experiment = experiment
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._finished = False
        self.page: str | None = None  # the leaderboard's address in MLflow's pages, once it is there
        self._unwritten: str | None = None  # why events wait; None once they are written
        self._refused: str | None = None  # why MLflow will never take an event; the last one that it refused

    @property
    def problem(self) -> str | None:
        """One line about what is not in MLflow, and why; None while all is well."""
        return self._unwritten or self._refused

    def start(self, search: Search) -> None:
        """Begin or, where the search's folder is known to MLflow, continue its record."""
        self._thread = threading.Thread(
            target=self._write, args=(search, _now()), name="mlflow-tracker", daemon=True
        )
        self._thread.start()

    def begin(self, config: TrialConfig) -> None:
        # The parent is seen before the first epoch is over. Not sooner: to import MLflow takes two
        # seconds of a core, and the first trial needs every one to start.
        self._events.put(lambda record: None)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        at = _now()
        self._events.put(lambda record: record.epoch(config, metrics, at))

    def end(self, result: TrialResult) -> None:
        """Record how a trial ended, with every epoch of it that MLflow lacks.

        Harmless for a trial that is on record: a resumed search passes all of its ledger.
        """
        at = _now()
        self._events.put(lambda record: record.end(result, at))

    def finish(self, findings: Findings) -> None:
        at = _now()
        self._finished = True
        self._events.put(lambda record: record.finish(findings, at))

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds. Without `finish`, the search was interrupted."""
        if self._thread is None or self._closing.is_set():
            return
        if not self._finished:
            at = _now()
            self._events.put(lambda record: record.interrupt(at))
        self._events.put(None)
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive() and not self._unwritten:
            self._unwritten = self._line("is too slow", f"more than {timeout:g} s for what was left")

    def _write(self, search: Search, at: int) -> None:
        record: Record | None = None
        pause = FIRST_PAUSE
        event = self._events.get()
        while event is not None:
            try:
                record = record or Record(self._uri, self._experiment, search, at)
                self.page = record.page
                event(record)
            except Exception as error:
                if record and _is_refusal(error):
                    self._refused = self._line("refused a record", _reason(error))
                else:
                    self._unwritten = self._line("does not answer", _reason(error))
                    if self._closing.is_set():
                        return
                    self._closing.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    record = None  # what was written before the failure is looked up, not written again
                    continue
            self._unwritten = None
            pause = FIRST_PAUSE
            event = self._events.get()

    def _line(self, what: str, why: str) -> str:
        return f"MLflow at {self._where} {what}: {why}; the ledger has everything"


def _now() -> int:
    return int(time.time() * 1000)


def _is_refusal(error: Exception) -> bool:
    """Whether asking again cannot help."""
    code = getattr(error, "error_code", None)  # of an MlflowException
    if code is not None:
        return code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
    return isinstance(error, TypeError | ValueError | LookupError | AssertionError | FileNotFoundError)


def _reason(error: BaseException) -> str:
    """The first words of the error that started the others: MLflow wraps a refused connection in five."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = str(error).strip() or type(error).__name__
    return redacted(text.splitlines()[0])[:160]
