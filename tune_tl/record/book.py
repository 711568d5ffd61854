"""The ledger of a search, read: once, whole and checked, by whoever needs any of it."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.json_files import RESULT_FILE, WAY_OUT
from tune_tl.record.ledger import CRC, ENDS_FILE, EPOCHS_FILE

_FILES = (EPOCHS_FILE, ENDS_FILE)


@dataclass(frozen=True)
class Line:
    """One line of either file, `at` seconds since the search's start."""

    n: float  # infinite where a file was not written by `Ledger`
    at: float
    config: TrialConfig
    metrics: EpochMetrics | None = None
    end: TrialResult | None = None  # without its epochs


@dataclass(frozen=True)
class Book:
    """Every line on record in `folder`, in the order in which they were written."""

    folder: Path
    lines: tuple[Line, ...]

    @classmethod
    def read(cls, folder: Path) -> Book:
        """An empty one where there is no record.

        A torn last line (the process died while writing it) was never acknowledged and is passed over;
        damage anywhere else raises BadInput naming the file and the line.
        """
        found = [*_parsed(folder / EPOCHS_FILE, _epoch), *_parsed(folder / ENDS_FILE, _end)]
        return cls(folder, tuple(sorted(found, key=lambda line: line.n)))

    @property
    def ended(self) -> list[TrialResult]:
        """The trials that ended, each once, in the order they did; one that was run again by its last run."""
        return list(self._replayed[0].values())

    @property
    def unfinished(self) -> Mapping[TrialConfig, tuple[EpochMetrics, ...]]:
        """The trials that ran when the search was cut off, with their acknowledged epochs."""
        return self._replayed[1]

    @property
    def elapsed(self) -> float:
        """Seconds of search on record; a resumed search counts on from here."""
        return max((line.at for line in self.lines), default=0.0)

    @property
    def written(self) -> float:
        """When the last line was, in seconds since 1970: when its file was; now where there is none."""
        files = [file for name in _FILES if (file := self.folder / name).exists()]
        return max((file.stat().st_mtime for file in files), default=time.time())

    def require_whole(self) -> None:
        """Raises BadInput if lines are gone from the record that no kill explains."""
        absent = [name for name in _FILES if not (self.folder / name).exists()]
        there = {int(line.n) for line in self.lines if line.n < math.inf}
        missing = [n for n in range(1, max(there, default=0)) if n not in there]
        if not absent and not missing:
            return
        if absent:
            what = f"{self.folder / absent[0]} is missing"
        else:
            empty = [name for name in _FILES if not (self.folder / name).stat().st_size]
            which = self.folder / empty[0] if empty else self._both
            what = f"{which} has lost lines: number {missing[0]} of {max(there)} is gone"
        raise BadInput(f"{what}, and trials would be run again; {WAY_OUT}")

    def require_last_lines(self) -> None:
        """Raises BadInput if others know of more than the ledger does: its last lines are gone.

        `result.json` counts the lines that it was concluded from, and a trial's TensorBoard folder is made
        when its first line is on record. One that is damaged or gone is no witness.
        """
        lost = f"and trials would be run again; {WAY_OUT}"
        try:
            counted = json.loads((self.folder / RESULT_FILE).read_text(encoding="utf-8"))["lines"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            counted = 0
        there = len(self.lines)
        if isinstance(counted, int) and counted > there:
            raise BadInput(f"{self._both} has lost its last lines ({there} are left of {counted}), {lost}")
        known = {line.config.key for line in self.lines}
        shown = {path.name[:8] for path in (self.folder / "tensorboard").glob(f"{'[0-9a-f]' * 8}-*")}
        if unknown := sorted(shown - known):
            raise BadInput(f"{self._both} has lost all lines of trial {unknown[0]}, {lost}")

    @property
    def _both(self) -> str:
        return f"{self.folder / EPOCHS_FILE} or {ENDS_FILE}"

    @cached_property
    def _replayed(self) -> tuple[dict[str, TrialResult], dict[TrialConfig, tuple[EpochMetrics, ...]]]:
        """What ended, by trial, and what did not, as one line after the other tells it."""
        ended: dict[str, TrialResult] = {}
        epochs: dict[TrialConfig, tuple[EpochMetrics, ...]] = {}
        running: dict[TrialConfig, None] = {}
        for line in self.lines:
            config = line.config
            if line.metrics:
                # A trial that was run again writes its epochs anew: the later line holds, and what the
                # earlier run had from there on is void.
                kept = (m for m in epochs.get(config, ()) if m.epoch < line.metrics.epoch)
                epochs[config] = (*kept, line.metrics)
                running[config] = None
                ended.pop(config.key, None)
            elif line.end:
                running.pop(config, None)
                ended.pop(config.key, None)
                ended[config.key] = replace(line.end, epochs=epochs.get(config, ()))
        return ended, {config: epochs[config] for config in running}


def _epoch(row: dict[str, Any]) -> Line:
    return Line(row.get("n", math.inf), float(row["t"]), _config(row), metrics=EpochMetrics.from_dict(row))


def _end(row: dict[str, Any]) -> Line:
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
    return Line(row.get("n", math.inf), float(row["ended"]), config, end=result)


def _config(row: dict[str, Any]) -> TrialConfig:
    config = TrialConfig.from_dict(row["config"])
    if config.key != row["trial"]:
        raise ValueError("a trial's key is made otherwise now: the line is of another version of tune_tl")
    return config


def _parsed(path: Path, read: Callable[[dict[str, Any]], Line]) -> Iterator[Line]:
    """What `read` makes of each line; of the last only if a newline ends it, as `Ledger` keeps it."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if not line:
            continue
        body, _, crc = line.rpartition(CRC)
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
