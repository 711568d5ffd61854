"""The append-only record of a search: every acknowledged epoch and every trial's end.

Two files in the search's folder, one JSON object a line, each line flushed to disk before the call that
writes it returns: `ledger.jsonl` has a line for each acknowledged epoch, `trials.jsonl` one for each trial
that ended. The driver alone writes; everything that is shown or resumed later is read from here (book.py).

The lines of both count together, 1, 2, 3, ... in `n`, so that lines that are gone are missed, and each
carries the CRC-32 of itself, so that one that was changed is noticed.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tune_tl.experiment import Clock, EpochMetrics, Observer, TrialConfig, TrialResult
from tune_tl.storage.files import sync_folder

EPOCHS_FILE = "ledger.jsonl"
ENDS_FILE = "trials.jsonl"
CRC = b', "crc": "'


class Ledger(Observer):
    """Appends to the record of one search in `folder`, which must exist. Every method raises OSError."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._epochs = _open_whole(folder / EPOCHS_FILE)
        self._ends = _open_whole(folder / ENDS_FILE)
        sync_folder(folder)
        self._n = max(map(_last_number, (folder / EPOCHS_FILE, folder / ENDS_FILE)))

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
        line = whole[:-1] + CRC + b'%08x"}\n' % zlib.crc32(whole)
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
class Past:
    """What earlier runs of a search leave to the next."""

    ended: tuple[TrialResult, ...] = ()  # for good
    # To be gone on with before anything new, with the epochs that count.
    cut_off: Mapping[TrialConfig, tuple[EpochMetrics, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a person should know before the search goes on, a line each
    prepared_s: float = 0.0  # that went by before the first trial could start, in all runs
    elapsed_s: float = 0.0  # of search on record; this run counts on from there

    def ends_at(self, budget_s: float | None) -> float | None:
        """When the budget is spent, in seconds since the search's start; None without one.

        What preflight takes (downloads, decoding) is not taken from the trials.
        """
        return None if budget_s is None else self.prepared_s + budget_s


def _open_whole(path: Path) -> BinaryIO:
    """Open for appending, less a torn last line that the next one would be glued to."""
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    return path.open("ab", buffering=0)


def _last_number(path: Path) -> int:
    """Of the last line that has one; 0 in a file without lines."""
    for line in reversed(path.read_bytes().split(b"\n")):
        if found := re.search(rb'"n": (\d+), "crc"', line):
            return int(found[1])
    return 0
