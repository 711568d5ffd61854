"""What has to hold of a search's folder whatever was killed, read from the lines of its record as they are.

Nothing of tune_tl is imported: what writes and reads the record is what is on trial.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

EPOCHS, ENDS = "ledger.jsonl", "trials.jsonl"
CRC = b', "crc": "'


@dataclass(frozen=True)
class Seen:
    """The lines of a record at one moment: every one of them was acknowledged by then."""

    epochs: tuple[bytes, ...] = ()
    ends: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Seen:
        # The ends first: read the other way round, a trial could seem to end before its last epoch.
        ends = _lines(folder / ENDS)
        return cls(_lines(folder / EPOCHS), ends)

    def acknowledged(self) -> Counter[str]:
        """How many epochs of each trial."""
        return Counter(json.loads(line)["trial"] for line in self.epochs)

    def ended(self) -> set[str]:
        return {json.loads(line)["trial"] for line in self.ends}

    def last(self) -> bytes:
        """The line that was written last."""
        return max((*self.epochs, *self.ends), key=lambda line: int(json.loads(line)["n"]))

    def running(self) -> dict[str, int]:
        """The trials that have begun and not ended, with the number of their epochs."""
        ended = self.ended()
        return {trial: epochs for trial, epochs in self.acknowledged().items() if trial not in ended}


def _lines(file: Path) -> tuple[bytes, ...]:
    content = file.read_bytes() if file.exists() else b""
    return tuple(content.split(b"\n")[:-1])  # what no newline ends was never acknowledged


def lost(before: Seen, after: Seen) -> list[str]:
    """The acknowledged lines that are no longer there as they were."""
    return [
        f"line {number} of {file} was {line!r}, now {new[number - 1] if number <= len(new) else None!r}"
        for file, old, new in ((EPOCHS, before.epochs, after.epochs), (ENDS, before.ends, after.ends))
        for number, line in enumerate(old, 1)
        if number > len(new) or new[number - 1] != line
    ]


def breaches(seen: Seen, *, trials: int | None = None, retried: bool = False) -> list[str]:
    """What is wrong with a record; of a search that is done if it says how many `trials` that had.

    `retried`: failed trials may have been run again.
    """
    found = [f"its crc is another: {line!r}" for line in (*seen.epochs, *seen.ends) if not _sound(line)]
    rows = [json.loads(line) | {"file": EPOCHS} for line in seen.epochs]
    rows += [json.loads(line) | {"file": ENDS} for line in seen.ends]
    for file in (EPOCHS, ENDS):
        numbers = [row["n"] for row in rows if row["file"] == file]
        if numbers != sorted(numbers):
            found.append(f"the lines of {file} are out of order: {numbers}")
    rows.sort(key=lambda row: row["n"])
    if [row["n"] for row in rows] != list(range(1, len(rows) + 1)):
        found.append(f"lines are gone or there twice: {[row['n'] for row in rows]}")
    times = [row["t"] if row["file"] == EPOCHS else row["ended"] for row in rows]
    found += [f"time goes back from {a} to {b}" for a, b in pairwise(times) if b < a]
    courses: dict[str, _Course] = {}
    for row in rows:
        course = courses.setdefault(row["trial"], _Course(row["config"]["epochs"], retried))
        if wrong := course.take(row):
            found.append(f"trial {row['trial']}: {wrong} (line {row['n']})")
    if trials is not None:
        found += [f"trial {trial} never ended" for trial, course in courses.items() if course.end is None]
        if len(courses) != trials:
            found.append(f"{len(courses)} trials where there should be {trials}")
    return found


@dataclass
class _Course:
    """One trial, as its lines tell it."""

    wanted: int  # epochs
    retried: bool
    epochs: int = 0
    end: str | None = None

    def take(self, row: dict[str, Any]) -> str | None:
        """What is wrong with the next line."""
        if self.end:
            # What failed may be run again if asked to, and what had no time for an epoch always is.
            if not (self.end == "failed" and self.retried) and not (
                self.end == "stopped" and not self.epochs
            ):
                return f"goes on after it was {self.end}"
            self.epochs, self.end = 0, None
        if row["file"] == EPOCHS:
            if row["epoch"] != self.epochs + 1:
                return f"epoch {row['epoch']} follows {self.epochs}"
            self.epochs += 1
            return None
        self.end = row["state"]
        fits = {"completed": self.epochs == self.wanted, "stopped": self.epochs < self.wanted, "failed": True}
        return None if fits[row["state"]] else f"{row['state']} after {self.epochs} of {self.wanted} epochs"


def _sound(line: bytes) -> bool:
    whole, found, crc = line.rpartition(CRC)
    return bool(found) and crc == b'%08x"}' % zlib.crc32(whole + b"}")


def mlflow_breaches(database: Path, seen: Seen) -> list[str]:
    """What is wrong with the MLflow store of a search that is done, if it is the only one in there."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as store:
        status = dict(store.execute("select run_uuid, status from runs"))
        tagged = store.execute("select run_uuid, value from tags where key = 'tune_tl.trial'")
        trial = {run: key for run, key in tagged if run in status}
        points = store.execute("select run_uuid, step from metrics where key = 'val_f1'")
        drawn = Counter((trial[run], step) for run, step in points if run in trial)
    store.close()
    found = [f"run {run} of {trial.get(run)} is RUNNING" for run in status if status[run] == "RUNNING"]
    runs = Counter(trial.values())
    found += [f"trial {key} has {number} runs" for key, number in runs.items() if number != 1]
    if len(status) != len(runs) + 1:
        found.append(f"{len(status)} runs for {len(runs)} trials and their parent")
    if runs.keys() != seen.ended():
        found.append(f"the record and MLflow know different trials: {runs.keys() ^ seen.ended()}")
    rows = [json.loads(line) for line in seen.epochs]
    wanted = Counter({(row["trial"], row["epoch"]): 1 for row in rows})
    for point in drawn.keys() | wanted.keys():
        if drawn[point] != wanted[point]:
            found.append(f"epoch {point[1]} of trial {point[0]} has {drawn[point]} points")
    return found
