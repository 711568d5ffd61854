"""A search that is run until something strikes it, and again, with the invariant checked after each blow."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.invariant import Seen, breaches, lost, mlflow_breaches
from support.place import Done, Place
from support.waiting import SECONDS

NAME = "hunted"
TRIALS, EPOCHS = 5, 4
STATE = re.compile(r"([0-9a-f]{8})-(\d+)\.safetensors")

Blow = Callable[[subprocess.Popen[str]], None]


def sigkill(process: subprocess.Popen[str]) -> None:
    process.kill()


@dataclass
class Hunt:
    """One search of `trials` trials of `epochs` epochs in `place`, over as many processes as it takes."""

    place: Place
    arguments: tuple[str, ...] = ()
    trials: int = TRIALS
    epochs: int = EPOCHS
    retried: bool = False
    patience: float = SECONDS  # for one process
    # Trials and epochs that were trained, as their states tell; and those that had been acknowledged before.
    trained: set[tuple[str, int]] = field(default_factory=set)
    again: set[tuple[str, int]] = field(default_factory=set)
    seen: Seen = field(default_factory=Seen)  # when the last process began, or was struck

    @property
    def folder(self) -> Path:
        return self.place.folder / "runs" / NAME

    def run(self, strike: Callable[[float], Blow | None] = lambda age: None, *, resume: bool) -> Done:
        """Run until the command ends. `strike` is asked all the time, with the process's age in seconds."""
        size = ("--trials", str(self.trials), "--epochs", str(self.epochs))
        given = ("--name", NAME, *size, *self.arguments, *(["--resume"] if resume else []))
        self.seen = Seen.of(self.folder)
        self._listed = self._states()
        begun = time.monotonic()
        process = self.place.start(self.place.command(*given), PYTHONFAULTHANDLER="1")
        try:
            while process.poll() is None and (age := time.monotonic() - begun) < self.patience:
                self._look()
                if blow := strike(age):
                    seen = Seen.of(self.folder)
                    self._look()  # what had been acknowledged only since the last blow could well be trained
                    self.seen = seen
                    blow(process)
                else:
                    time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGABRT)  # if it still runs: what its threads do goes to its errors
        out, err = process.communicate()
        print(err, end="")  # shown if the test fails
        assert process.returncode != -signal.SIGABRT, f"does not end, after {self.patience:g} s"
        self._look()
        return Done(process.returncode, out, err)

    def live(self, strike: Callable[[float], Blow | None] = lambda age: None) -> Done:
        """Run the search, or go on with it, and look whether what it had acknowledged is still there."""
        before = Seen.of(self.folder)
        begun = self.folder.exists() and any(not file.name.startswith(".") for file in self.folder.iterdir())
        done = self.run(strike, resume=begun)
        after = Seen.of(self.folder)
        assert lost(before, after) + lost(self.seen, after) == [], done
        assert breaches(after, retried=self.retried) == [], done
        return done

    def _look(self) -> None:
        """Note which epochs were trained since the last look: a state is written after each."""
        states = self._states()
        new = {key for file, key in states.items() if file not in self._listed}
        self._listed = states
        if new:
            known, ended = self.seen.acknowledged(), self.seen.ended()
            self.again |= {(trial, epoch) for trial, epoch in new if epoch <= known[trial] or trial in ended}
            self.trained |= new

    def finish(self) -> Done:
        """Run it to its end, in peace, and look at all that it leaves behind."""
        done = self.live()
        assert (done.code, done.err) == (0, ""), done
        self.check_end()
        return done

    def check_end(self) -> None:
        after = Seen.of(self.folder)
        assert breaches(after, trials=self.trials, retried=self.retried) == []
        assert mlflow_breaches(self.place.folder / "mlflow.db", after) == []
        assert self.again == set()

    def _states(self) -> dict[tuple[str, int, int], tuple[str, int]]:
        """The states there are, each as it was written: file, inode and time -> trial and epoch."""
        found = {}
        folder = self.folder / "checkpoints"
        for entry in os.scandir(folder) if folder.exists() else ():
            if match := STATE.fullmatch(entry.name):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue  # too old by now
                found[entry.name, stat.st_ino, stat.st_mtime_ns] = (match[1], int(match[2]))
        return found
