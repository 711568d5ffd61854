"""Hundreds of short trials while the driver and its workers are killed at random: a quarter of an hour."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from dataclasses import replace

import pytest

from support.hunt import Blow, Hunt
from support.invariant import Seen
from support.place import TWO_AT_A_TIME, Place
from support.processes import of_last_run, trial_workers

SPACE = """
dataset: ./images
backbone: [efficientnet_lite0]
image_size: 32
unfreeze: [0]
head_lr: {low: 5e-4, high: 1e-2, log: true}
weight_decay: {low: 1e-4, high: 1e-1, log: true}
batch_size: [16]
"""
TRIALS, EPOCHS = 300, 3
LIFE_S = 60.0  # the longest that a driver is left alone
EXITS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}


class Blows:
    """What strikes one process of a search: its workers every few seconds, and in the end itself."""

    def __init__(self, hunt: Hunt, dice: random.Random) -> None:
        self._hunt, self._dice = hunt, dice
        self.signal = dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        self.end = dice.uniform(0, LIFE_S)
        self.struck = False
        self.workers = 0
        self._next = dice.uniform(0, 15)

    def __call__(self, age: float) -> Blow | None:
        if self.struck:
            return None
        if age >= self.end:
            self.struck = True
            return self._driver
        if age >= self._next:
            self._next = age + self._dice.uniform(1, 15)
            return self._worker
        return None

    def _driver(self, process: subprocess.Popen[str]) -> None:
        if self.signal is signal.SIGINT:
            os.killpg(process.pid, self.signal)  # a terminal sends it to the whole group
        else:
            process.send_signal(self.signal)

    def _worker(self, process: subprocess.Popen[str]) -> None:
        there = sorted(trial_workers(self._hunt.folder))
        if there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._dice.choice(there), signal.SIGKILL)
                self.workers += 1


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_hundreds_of_trials_survive_whatever_is_killed(
    arena: Place, life: float, dice: random.Random
) -> None:
    space = arena.space.with_name("soak.yaml")
    space.write_text(SPACE)
    place = replace(arena.elsewhere("soak"), space=space)
    hunt = Hunt(place, TWO_AT_A_TIME, trials=TRIALS, epochs=EPOCHS, patience=600)
    blows: Counter[str] = Counter()
    workers = 0
    while True:
        blow = Blows(hunt, dice)
        done = hunt.live(blow)
        workers += blow.workers
        ended = len(Seen.of(hunt.folder).ends)
        print(f"{blow.workers} workers killed, {blow.signal.name} at {blow.end:.2f} s: {ended} ended")
        if done.code == 0:
            break
        assert done.code == EXITS[blow.signal], done
        blows[blow.signal.name] += 1
    print(f"{dict(blows)} of the driver, {workers} of workers")
    assert workers and blows["SIGKILL"]
    hunt.check_end()
    assert of_last_run(hunt.folder) == {}
