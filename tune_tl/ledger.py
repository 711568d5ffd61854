"""The append-only record of a search: every acknowledged epoch and every trial's end.

Two files in the search's folder, one JSON object a line, each line flushed to disk before `append`
returns: `ledger.jsonl` has a line for each acknowledged epoch, `trials.jsonl` one for each trial that
ended. The driver alone writes; everything that is shown or resumed later is read from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tune_tl.experiment import BadInput, Clock, EpochMetrics, Observer, State, TrialConfig, TrialResult

T = TypeVar("T")

EPOCHS_FILE = "ledger.jsonl"
ENDS_FILE = "trials.jsonl"


class Ledger(Observer):
    """Appends to the record of one search in `folder`, which must exist."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._epochs = _open_whole(folder / EPOCHS_FILE)
        self._ends = _open_whole(folder / ENDS_FILE)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        """Record one epoch, acknowledged now."""
        row = {
            "t": round(self._clock(), 3),
            "trial": config.key,
            "config": config.to_dict(),
            **metrics.to_dict(),
        }
        _append(self._epochs, row)

    def end(self, result: TrialResult) -> None:
        row = {
            "trial": result.trial,
            "state": result.state.value,
            "reason": result.reason,
            "started": round(result.started, 3),
            "ended": round(result.ended, 3),
            "resource": result.resource,
            "units": result.units,
            "config": result.config.to_dict(),
        }
        _append(self._ends, row)

    def close(self) -> None:
        self._epochs.close()
        self._ends.close()


def read(folder: Path) -> list[TrialResult]:
    """The trials that ended, each once, in the order they did.

    A torn last line (the process died while writing it) was never acknowledged and is passed over;
    damage anywhere else raises BadInput naming the file and the line.
    """
    epochs: dict[str, dict[int, EpochMetrics]] = {}
    for trial, metrics in _rows(folder / EPOCHS_FILE, lambda r: (r["trial"], EpochMetrics.from_dict(r))):
        # A trial that was run again writes its epochs anew: the later line holds, and what the earlier
        # run had from there on is void.
        kept = {n: m for n, m in epochs.get(trial, {}).items() if n < metrics.epoch}
        epochs[trial] = {**kept, metrics.epoch: metrics}

    def result(row: dict[str, Any]) -> TrialResult:
        return TrialResult(
            trial=row["trial"],
            config=TrialConfig.from_dict(row["config"]),
            state=State(row["state"]),
            epochs=tuple(epochs.get(row["trial"], {}).values()),
            started=row["started"],
            ended=row["ended"],
            resource=row["resource"],
            units=row["units"],
            reason=row["reason"],
        )

    # A failed trial that was run again stands by its last run.
    return list({ended.trial: ended for ended in _rows(folder / ENDS_FILE, result)}.values())


def unfinished(folder: Path) -> list[TrialConfig]:
    """The trials with acknowledged epochs that have not ended: they ran when the search was cut off."""
    ended = set(_rows(folder / ENDS_FILE, lambda r: r["trial"]))
    seen = _rows(folder / EPOCHS_FILE, lambda r: (r["trial"], TrialConfig.from_dict(r["config"])))
    return list({trial: config for trial, config in seen if trial not in ended}.values())


def elapsed(folder: Path) -> float:
    """Seconds of search on record; a resumed search counts on from here."""
    epochs = _rows(folder / EPOCHS_FILE, lambda r: float(r["t"]))
    return max([*epochs, *_rows(folder / ENDS_FILE, lambda r: float(r["ended"]))], default=0.0)


def _open_whole(path: Path) -> TextIO:
    """Open for appending, less a torn last line that the next one would be glued to."""
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    return path.open("a", encoding="utf-8")


def _append(file: TextIO, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, allow_nan=True) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _rows(path: Path, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """What `read` makes of each line; of the last only if a newline ends it, as `_open_whole` keeps it."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if not line:
            continue
        try:
            row = read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}:{number}: not a line of a ledger ({error!r})") from None
        yield row
