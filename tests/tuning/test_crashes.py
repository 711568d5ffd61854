"""Trials whose processes are killed, crash or hang, for real, in Ray's own workers."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.trials import Told, ready_for, run_trials
from tune_tl.data.store import open_images
from tune_tl.experiment import Experiment, State
from tune_tl.preflight.ready import Ready
from tune_tl.record.book import Book
from tune_tl.record.ledger import Past
from tune_tl.training.trainer import train
from tune_tl.tuning.cluster import Cluster

EPOCHS = 3
# A module that Ray's workers load as they start: after the acknowledged epoch that the plan of the moment
# names for a trial, told by its learning rate, its process comes to harm, so many times.
FAULTS = """
import ctypes, json, os, pathlib, signal, time
from tune_tl.tuning import warm
warm.ready()
from tune_tl.training import trainer

HARM = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(100_000),
    "full": lambda: os.write(os.open("/dev/full", os.O_WRONLY), b"x"),
}

def harm(what):
    if what == "exception":
        raise RuntimeError("wires crossed\\nin two lines")
    HARM[what]()

train, faults = trainer.train, pathlib.Path(os.environ["FAULTS"])

def faulty(config, *given, **named):
    what, epoch, times = json.loads((faults / "plan.json").read_text()).get(f"{config.head_lr:g}", ("", 0, 0))
    count = faults / "struck" / config.key
    if epoch == 0 and strike(count, times):
        harm(what)
    for metrics in train(config, *given, **named):
        yield metrics
        if metrics.epoch == epoch and strike(count, times):
            harm(what)

def strike(count, times):
    done = len(count.read_text()) if count.exists() else 0
    if done < times:
        count.write_text("x" * (done + 1))
    return done < times

trainer.train = faulty
"""

Fault = tuple[str, int, int]  # what happens, after which epoch (0: before the first), how often
HARM: dict[float, Fault] = {  # by the learning rate of the head; those first that take long and no core
    7e-3: ("hang", 1, 9),
    8e-3: ("stop", 0, 9),
    1e-3: ("kill", 2, 1),
    2e-3: ("kill", 1, 9),
    3e-3: ("exit", 1, 1),
    4e-3: ("segfault", 2, 1),
    5e-3: ("exception", 1, 1),
    6e-3: ("exception", 2, 9),
    9e-3: ("exit", 0, 1),
    1e-2: ("none", 1, 0),
}
STALL_S = 20.0


def ready(folder: Path, rates: Iterable[float]) -> Ready:
    """A space that tries these learning rates, in this order, and nothing else."""
    first = "".join(f"  - {{head_lr: {rate}}}\n" for rate in rates)
    space = f"epochs: {EPOCHS}\nunfreeze: 0\nhead_lr: {{low: 1e-4, high: 1e-1, log: true}}\nfirst:\n{first}"
    return ready_for(folder, f"backbone: efficientnet_lite0\n{space}")


@dataclass(frozen=True)
class Faults:
    folder: Path

    def plan(self, harm: Mapping[float, Fault]) -> None:
        """From here on this is what happens, and nothing has happened yet."""
        (self.folder / "plan.json").write_text(
            json.dumps({f"{rate:g}": fault for rate, fault in harm.items()})
        )
        shutil.rmtree(self.folder / "struck", ignore_errors=True)
        (self.folder / "struck").mkdir()

    def struck(self) -> bool:
        return any((self.folder / "struck").iterdir())


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """Workers that load the module above."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults_of_a_test.py").write_text(FAULTS)
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        patch.setenv("PYTHONPATH", path)
        patch.setenv("RAY_preload_python_modules", "tune_tl.tuning.warm,faults_of_a_test")
        patch.setenv("FAULTS", str(folder))
        yield Faults(folder)


@pytest.fixture(scope="module")
def cluster(faults: Faults) -> Iterator[Cluster]:
    with Cluster(None) as made:
        yield made


@pytest.fixture(scope="module")
def harmed(faults: Faults, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """All of it, four trials at a time: two hang for a while, and the rest goes on beside them."""
    folder = tmp_path_factory.mktemp("crashes")
    wanted = Experiment(
        "x", trials=len(HARM), budget_s=None, strategy="random", seed=0, output=folder,
        cpus_per_trial=(os.cpu_count() or 1) / 4, gpus_per_trial=0.0, stall_s=STALL_S,
    )  # fmt: skip
    faults.plan(HARM)
    run_trials(wanted, ready(folder, HARM), told := Told(), cluster)
    return told, wanted.folder


@pytest.mark.parametrize("rate", [1e-3, 3e-3, 4e-3, 5e-3, 9e-3, 1e-2])
def test_a_trial_that_crashes_once_goes_on_from_its_last_epoch(
    harmed: tuple[Told, Path], rate: float
) -> None:
    told, _ = harmed
    assert told.results[rate].state is State.COMPLETED
    assert told.epochs[rate] == [1, 2, 3]  # each acknowledged once
    assert told.begun.count(rate) == 1
    _, after, times = HARM[rate]
    again = [line for line in told.said(rate) if f"tried again from epoch {after}" in line]
    assert len(again) == times


def test_it_comes_to_the_numbers_of_one_that_nothing_happened_to(harmed: tuple[Told, Path]) -> None:
    told, folder = harmed
    config = told.results[1e-3].config
    # The same trial but for what befalls it: another learning rate with the same seed would differ.
    twin = ready(folder / "twin", [])
    images = open_images(twin.dataset, 32)
    alone = [m.val_f1 for m in train(config, twin.pretrained["efficientnet_lite0"], images)]
    assert [m.val_f1 for m in told.results[1e-3].epochs] == alone


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (2e-3, r"process \d+ died: it crashed, was killed, or the machine had no memory left"),
        (6e-3, "RuntimeError: wires crossed in two lines"),
        (7e-3, f"hung: no sign of life for {STALL_S:g} s"),
        (8e-3, f"hung: no sign of life for {STALL_S:g} s"),
    ],
)
def test_a_trial_that_goes_on_crashing_or_hangs_fails_with_its_reason(
    harmed: tuple[Told, Path], rate: float, reason: str
) -> None:
    told, _ = harmed
    result = told.results[rate]
    assert result.state is State.FAILED
    assert result.reason
    assert re.fullmatch(reason, result.reason)
    assert told.epochs.get(rate, []) == list(range(1, HARM[rate][1] + 1))
    assert len(told.said(rate)) == (0 if "hung" in reason else 1)


def test_the_record_has_every_trial_once_and_is_whole(harmed: tuple[Told, Path]) -> None:
    told, folder = harmed
    Book.read(folder).require_whole()
    assert Book.read(folder).unfinished == {}
    assert len(Book.read(folder).ended) == len(told.results) == len(HARM)


def test_nothing_is_said_in_more_than_a_line(harmed: tuple[Told, Path]) -> None:
    for line in harmed[0].lines:
        assert "\n" not in line
        assert len(line) < 200


def test_a_search_ends_on_time_though_a_trial_hangs(faults: Faults, cluster: Cluster, tmp_path: Path) -> None:
    faults.plan({8e-3: HARM[8e-3]})
    hanging: list[float] = []  # since when
    told = Told()

    def clock() -> float:
        """Stands still until the trial hangs, and until that it began has been told."""
        if not hanging and 8e-3 in told.begun and faults.struck():
            hanging.append(time.monotonic())
        return time.monotonic() - hanging[0] if hanging else 0.0

    wanted = Experiment(
        "x", trials=None, budget_s=2.0, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0
    )
    run_trials(wanted, ready(tmp_path, [8e-3]), told, cluster, clock=clock)
    assert 2 <= time.monotonic() - hanging[0] < 2 + 25
    assert told.results[8e-3].best is None
    assert told.results[8e-3].reason == "budget spent"


def test_a_full_disk_in_a_trial_ends_the_search_and_not_the_trial(
    faults: Faults, cluster: Cluster, tmp_path: Path
) -> None:
    faults.plan({1e-3: ("full", 2, 9)})
    prepared = ready(tmp_path, [1e-3])
    wanted = Experiment(
        "x", trials=1, budget_s=None, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0
    )
    with pytest.raises(OSError, match="No space left") as error:
        run_trials(wanted, prepared, Told(), cluster)
    assert error.value.errno == errno.ENOSPC
    assert Book.read(wanted.folder).ended == []
    (config,) = cut_off = Book.read(wanted.folder).unfinished
    faults.plan({})
    run_trials(wanted, prepared, told := Told(), cluster, past=Past((), cut_off))
    assert told.epochs == {config.head_lr: [3]}
    assert told.results[config.head_lr].state is State.COMPLETED
