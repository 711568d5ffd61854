"""The append-only record of a search: every acknowledged epoch and every trial's end.

Two files in the search's folder, one JSON object a line, each line flushed to disk before the call that
writes it returns: `ledger.jsonl` has a line for each acknowledged epoch, `trials.jsonl` one for each trial
that ended. The driver alone writes; everything that is shown or resumed later is read from here.

The lines of both count together, 1, 2, 3, ... in `n`, so that lines that are gone are missed, and each
carries the CRC-32 of itself, so that one that was changed is noticed.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from tune_tl.errors import BadInput
from tune_tl.experiment import Clock, EpochMetrics, Observer, State, TrialConfig, TrialResult
from tune_tl.record.facts import RESULT_FILE
from tune_tl.storage.files import sync_folder

EPOCHS_FILE = "ledger.jsonl"
ENDS_FILE = "trials.jsonl"
_CRC = b', "crc": "'


class Ledger(Observer):
    """Appends to the record of one search in `folder`, which must exist. Every method raises OSError."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._epochs = _open_whole(folder / EPOCHS_FILE)
        self._ends = _open_whole(folder / ENDS_FILE)
        sync_folder(folder)
        self._n = max((int(line.n) for line in _lines(folder) if line.n < math.inf), default=0)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        """Record one epoch, acknowledged now."""
        row = {
            "t": round(self._clock(), 3),
            "trial": config.key,
            "config": config.to_dict(),
            **metrics.to_dict(),
        }
        self._append(self._epochs, row)

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
        self._append(self._ends, row)

    def close(self) -> None:
        self._epochs.close()
        self._ends.close()

    def _append(self, file: BinaryIO, row: dict[str, Any]) -> None:
        whole = json.dumps(row | {"n": self._n + 1}).encode()
        line = whole[:-1] + _CRC + b'%08x"}\n' % zlib.crc32(whole)
        before = file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)  # half a line would be glued to the next one
            raise
        self._n += 1


@dataclass(frozen=True)
class _Line:
    """One line of either file, `at` seconds since the search's start."""

    n: float  # infinite where a file was not written by `Ledger`
    at: float
    config: TrialConfig
    metrics: EpochMetrics | None = None
    end: TrialResult | None = None  # without its epochs


@dataclass(frozen=True)
class Past:
    """What earlier runs of a search leave to the next."""

    ended: tuple[TrialResult, ...] = ()  # for good
    # To be gone on with before anything new, with the epochs that count.
    cut_off: Mapping[TrialConfig, tuple[EpochMetrics, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a person should know before the search goes on, a line each
    prepared_s: float = 0.0  # that went by before the first trial could start, in all runs


def read(folder: Path) -> list[TrialResult]:
    """The trials that ended, each once, in the order they did; one that was run again by its last run.

    A torn last line (the process died while writing it) was never acknowledged and is passed over;
    damage anywhere else raises BadInput naming the file and the line.
    """
    return list(_replay(folder)[0].values())


def unfinished(folder: Path) -> dict[TrialConfig, tuple[EpochMetrics, ...]]:
    """The trials that ran when the search was cut off, with their acknowledged epochs. Raises as `read`."""
    return _replay(folder)[1]


def elapsed(folder: Path) -> float:
    """Seconds of search on record; a resumed search counts on from here."""
    return max((line.at for line in _lines(folder)), default=0.0)


def lines(folder: Path) -> int:
    """How many lines are on record."""
    return len(_lines(folder))


def require_whole(folder: Path) -> None:
    """Raises BadInput if lines are gone from the record that no kill explains."""
    gone = [name for name in (EPOCHS_FILE, ENDS_FILE) if not (folder / name).exists()]
    there = {int(line.n) for line in _lines(folder) if line.n < math.inf}
    missing = [n for n in range(1, max(there, default=0)) if n not in there]
    if not gone and not missing:
        return
    if gone:
        what = f"{folder / gone[0]} is missing"
    else:
        empty = [name for name in (EPOCHS_FILE, ENDS_FILE) if not (folder / name).stat().st_size]
        which = folder / empty[0] if empty else f"{folder / EPOCHS_FILE} or {ENDS_FILE}"
        what = f"{which} has lost lines: number {missing[0]} of {max(there)} is gone"
    raise BadInput(
        f"{what}, and trials would be run again; restore it, or start a search under another --name"
    )


def _replay(
    folder: Path,
) -> tuple[dict[str, TrialResult], dict[TrialConfig, tuple[EpochMetrics, ...]]]:
    """What ended, by trial, and what did not, as one line after the other tells it."""
    ended: dict[str, TrialResult] = {}
    epochs: dict[TrialConfig, tuple[EpochMetrics, ...]] = {}
    running: dict[TrialConfig, None] = {}
    for line in _lines(folder):
        config = line.config
        if line.metrics:
            # A trial that was run again writes its epochs anew: the later line holds, and what the earlier
            # run had from there on is void.
            kept = (m for m in epochs.get(config, ()) if m.epoch < line.metrics.epoch)
            epochs[config] = (*kept, line.metrics)
            running[config] = None
            ended.pop(config.key, None)
        elif line.end:
            running.pop(config, None)
            ended.pop(config.key, None)
            ended[config.key] = replace(line.end, epochs=epochs.get(config, ()))
    return ended, {config: epochs[config] for config in running}


def _lines(folder: Path) -> list[_Line]:
    """The lines of both files, in the order in which they were written."""
    found = [*_parsed(folder / EPOCHS_FILE, _epoch), *_parsed(folder / ENDS_FILE, _end)]
    return sorted(found, key=lambda line: line.n)


def _epoch(row: dict[str, Any]) -> _Line:
    return _Line(row.get("n", math.inf), float(row["t"]), _config(row), metrics=EpochMetrics.from_dict(row))


def _end(row: dict[str, Any]) -> _Line:
    config = _config(row)
    result = TrialResult(
        trial=config.key,
        config=config,
        state=State(row["state"]),
        epochs=(),
        started=float(row["started"]),
        ended=float(row["ended"]),
        resource=str(row["resource"]),
        units=float(row["units"]),
        reason=None if row["reason"] is None else str(row["reason"]),
    )
    return _Line(row.get("n", math.inf), float(row["ended"]), config, end=result)


def _config(row: dict[str, Any]) -> TrialConfig:
    config = TrialConfig.from_dict(row["config"])
    if config.key != row["trial"]:
        raise ValueError("a trial's key is made otherwise now: the line is of another version of tune_tl")
    return config


def _open_whole(path: Path) -> BinaryIO:
    """Open for appending, less a torn last line that the next one would be glued to."""
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    return path.open("ab", buffering=0)


def _parsed(path: Path, read: Callable[[dict[str, Any]], _Line]) -> Iterator[_Line]:
    """What `read` makes of each line; of the last only if a newline ends it, as `_open_whole` keeps it."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if not line:
            continue
        body, _, crc = line.rpartition(_CRC)
        try:
            if body and crc != b'%08x"}' % zlib.crc32(body + b"}"):
                raise ValueError("its checksum is another")
            values = json.loads(line)
            if not body and "n" in values:
                raise ValueError("its checksum is gone")
            row = read(values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise BadInput(
                f"{path}:{number}: not a line of a ledger ({error!r}); restore the file from a copy of it"
            ) from None
        yield row


def require_told(folder: Path) -> None:
    """Raises BadInput if others know of more than the ledger does: its last lines are gone.

    `result.json` counts the lines that it was concluded from, and a trial's TensorBoard folder is made
    when its first line is on record. One that is damaged or gone is no witness.
    """
    both = f"{folder / EPOCHS_FILE} or {ENDS_FILE}"
    lost = f"and trials would be run again; {RESTORE}"
    try:
        told = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))["lines"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        told = 0
    there = lines(folder)
    if isinstance(told, int) and told > there:
        raise BadInput(f"{both} has lost its last lines ({there} are left of {told}), {lost}")
    known = {*(r.trial for r in read(folder)), *(c.key for c in unfinished(folder))}
    shown = {path.name[:8] for path in (folder / "tensorboard").glob(f"{'[0-9a-f]' * 8}-*")}
    if gone := sorted(shown - known):
        raise BadInput(f"{both} has lost all lines of trial {gone[0]}, {lost}")


RESTORE = "restore it, or start a search under another --name"
