"""Trials whose processes are killed, crash, hang or run out of memory, for real, in Ray's own workers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tune_tl.data.store import open_images
from tune_tl.experiment import EpochMetrics, Experiment, Observer, State, TrialConfig, TrialResult
from tune_tl.preflight.ready import Ready, check
from tune_tl.record.book import Book
from tune_tl.record.ledger import Ledger, Past
from tune_tl.spaces import reading
from tune_tl.training.trainer import train
from tune_tl.tuning.cluster import Cluster
from tune_tl.tuning.tuner import tune_trials

EPOCHS = 3
# A module that Ray's workers load as they start: after the acknowledged epoch that the environment names
# for a trial, known by its learning rate, its process comes to harm, so many times.
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

train = trainer.train

def faulty(config, *given, **named):
    what, epoch, times = json.loads(os.environ["FAULTS"]).get(f"{config.head_lr:g}", ("", 0, 0))
    count = pathlib.Path(os.environ["FAULTS_AT"]) / config.key
    if epoch == 0 and strike(count, times):
        harm(what)
    for metrics in train(config, *given, **named):
        yield metrics
        if metrics.epoch == epoch and strike(count, times):
            harm(what)

def strike(count, times):
    done = len(count.read_text()) if count.exists() else 0
    count.write_text("x" * (done + 1))
    return done < times

trainer.train = faulty
"""

# learning rate of the head -> what happens, after which epoch (0: before the first), how often
HARM = {
    1e-3: ("kill", 2, 1),
    2e-3: ("kill", 1, 9),
    3e-3: ("exit", 1, 1),
    4e-3: ("segfault", 2, 1),
    5e-3: ("exception", 1, 1),
    6e-3: ("exception", 2, 9),
    7e-3: ("hang", 1, 9),
    8e-3: ("stop", 0, 9),
    9e-3: ("exit", 0, 1),
    1e-2: ("none", 1, 0),
}
STALL_S = 20.0


@dataclass
class Diary(Observer):
    """What observers see, by trial's learning rate."""

    def __post_init__(self) -> None:
        self.lines: list[str] = []
        self.begun: list[float] = []
        self.epochs: dict[float, list[int]] = {}
        self.results: dict[float, TrialResult] = {}

    def begin(self, config: TrialConfig) -> None:
        self.begun.append(config.head_lr)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        self.epochs.setdefault(config.head_lr, []).append(metrics.epoch)

    def end(self, result: TrialResult) -> None:
        assert result.config.head_lr not in self.results
        self.results[result.config.head_lr] = result

    def say(self, text: str) -> None:
        self.lines.append(text)

    def lines_of(self, lr: float) -> list[str]:
        key = self.results[lr].trial
        return [line for line in self.lines if key in line]


def ready_for(folder: Path, rates: list[float]) -> Ready:
    """Noise in three colours and a space that tries these learning rates, in this order, and nothing else."""
    random = np.random.default_rng(0)
    for label, colour in {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}.items():
        (folder / "images" / label).mkdir(parents=True)
        for n in range(14):
            pixels = random.normal(colour, 60, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{n}.png")
    first = "".join(f"  - {{head_lr: {rate}}}\n" for rate in rates)
    (folder / "tiny.yaml").write_text(
        f"dataset: ./images\nbackbone: efficientnet_lite0\nimage_size: 32\nbatch_size: 8\nepochs: {EPOCHS}\n"
        f"unfreeze: 0\nhead_lr: {{low: 1e-4, high: 1e-1, log: true}}\nfirst:\n{first}"
    )
    space, _ = reading.load(str(folder / "tiny.yaml"))
    return check(space, None, console=Console(file=StringIO()))


def search(wanted: Experiment, ready: Ready, past: Past | None = None, diary: Diary | None = None) -> Diary:
    start, diary = time.monotonic(), diary or Diary()
    wanted.folder.mkdir(parents=True, exist_ok=True)

    def clock() -> float:
        return time.monotonic() - start

    with contextlib.closing(Ledger(wanted.folder, clock)) as book, Cluster(None) as cluster:
        tune_trials(
            wanted,
            ready,
            [book, diary],
            cluster=cluster,
            past=past or Past(),
            clock=clock,
            ends=wanted.budget_s,
        )
    return diary


@pytest.fixture(scope="module")
def harm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Workers that load the module above; faults are named in the environment before a Ray starts."""
    folder = tmp_path_factory.mktemp("harm")
    (folder / "faults_of_a_test.py").write_text(FAULTS)
    (folder / "struck").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        patch.setenv("PYTHONPATH", path)
        patch.setenv("RAY_preload_python_modules", "tune_tl.tuning.warm,faults_of_a_test")
        patch.setenv("FAULTS", json.dumps({f"{rate:g}": harm for rate, harm in HARM.items()}))
        patch.setenv("FAULTS_AT", str(folder / "struck"))
        yield folder


@pytest.fixture(scope="module")
def harmed(harm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Diary, Path]:
    folder = tmp_path_factory.mktemp("crashes")
    wanted = Experiment(
        "x", trials=len(HARM), budget_s=None, strategy="random", seed=0, output=folder,
        gpus_per_trial=0.0, stall_s=STALL_S,
    )  # fmt: skip
    return search(wanted, ready_for(folder, list(HARM))), wanted.folder


@pytest.mark.parametrize("rate", [1e-3, 3e-3, 4e-3, 5e-3, 9e-3, 1e-2])
def test_a_trial_that_crashes_once_goes_on_from_its_last_epoch(
    harmed: tuple[Diary, Path], rate: float
) -> None:
    diary, _ = harmed
    assert diary.results[rate].state is State.COMPLETED
    assert diary.epochs[rate] == [1, 2, 3]  # each acknowledged once
    assert diary.begun.count(rate) == 1
    _, after, times = HARM[rate]
    again = [line for line in diary.lines_of(rate) if f"tried again from epoch {after}" in line]
    assert len(again) == times


def test_it_comes_to_the_numbers_of_one_that_nothing_happened_to(harmed: tuple[Diary, Path]) -> None:
    diary, folder = harmed
    config = diary.results[1e-3].config
    # The same trial but for what befalls it: another learning rate with the same seed would differ.
    ready = ready_for(folder / "twin", [])
    images = open_images(ready.dataset, 32)
    alone = [m.val_f1 for m in train(config, ready.pretrained["efficientnet_lite0"], images)]
    assert [m.val_f1 for m in diary.results[1e-3].epochs] == alone


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
    harmed: tuple[Diary, Path], rate: float, reason: str
) -> None:
    diary, _ = harmed
    result = diary.results[rate]
    assert result.state is State.FAILED
    assert result.reason
    assert re.fullmatch(reason, result.reason)
    assert diary.epochs.get(rate, []) == list(range(1, HARM[rate][1] + 1))
    assert len(diary.lines_of(rate)) == (0 if "hung" in reason else 1)


def test_the_record_has_every_trial_once_and_is_whole(harmed: tuple[Diary, Path]) -> None:
    diary, folder = harmed
    Book.read(folder).require_whole()
    assert Book.read(folder).unfinished == {}
    assert len(Book.read(folder).ended) == len(diary.results) == len(HARM)


def test_nothing_is_said_in_more_than_a_line(harmed: tuple[Diary, Path]) -> None:
    for line in harmed[0].lines:
        assert "\n" not in line
        assert len(line) < 200


def test_a_search_ends_on_time_though_a_trial_hangs(harm: Path, tmp_path: Path) -> None:
    ready = ready_for(tmp_path, [8e-3])
    (harm / "struck").rename(harm / "struck before")
    (harm / "struck").mkdir()
    wanted = Experiment(
        "x", trials=None, budget_s=30.0, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0
    )
    start = time.monotonic()
    diary = search(wanted, ready)
    assert time.monotonic() - start < 30 + 25
    assert diary.results[8e-3].best is None
    assert diary.results[8e-3].reason == "budget spent"


def test_a_full_disk_in_a_trial_ends_the_search_and_not_the_trial(
    harm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTS", json.dumps({"0.001": ["full", 2, 9]}))
    ready = ready_for(tmp_path, [1e-3])
    wanted = Experiment(
        "x", trials=1, budget_s=None, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0
    )
    with pytest.raises(OSError, match="No space left") as error:
        search(wanted, ready)
    assert error.value.errno == errno.ENOSPC
    assert Book.read(wanted.folder).ended == []
    (config,) = cut_off = Book.read(wanted.folder).unfinished
    monkeypatch.setenv("FAULTS", "{}")
    diary = search(wanted, ready, Past((), cut_off))
    assert diary.epochs == {config.head_lr: [3]}
    assert diary.results[config.head_lr].state is State.COMPLETED


BALLOON = """
import sys
weight = bytearray(int(sys.argv[1]))
weight[:: 4096] = b"x" * len(weight[:: 4096])
print("up", flush=True)
sys.stdin.read()
"""


def memory() -> tuple[int, int]:
    """Bytes in all and in use, as Ray counts them."""
    from ray._private.utils import get_system_memory, get_used_memory

    return get_system_memory(), get_used_memory()


def test_a_trial_that_ray_ends_to_save_memory_goes_on_and_fewer_run_side_by_side(
    harm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, used = memory()
    room = 5 << 30  # what the trials themselves need, and whatever else runs here
    if used + 2 * room > 0.9 * total:
        pytest.skip("needs 10 GB of free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(used + room) / total:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setenv("FAULTS", "{}")
    ready = ready_for(tmp_path, [1e-3, 2e-3, 3e-3])
    wanted = Experiment(
        "x", trials=3, budget_s=None, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0,
        cpus_per_trial=max(0.5, (os.cpu_count() or 1) / 2),
    )  # fmt: skip
    balloon: list[subprocess.Popen[str]] = []

    class Blow(Diary):
        def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
            super().epoch(config, metrics)
            if not balloon:
                command = [sys.executable, "-c", BALLOON, str(room)]
                balloon.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                assert balloon[0].stdout
                balloon[0].stdout.readline()

        def say(self, text: str) -> None:
            super().say(text)
            balloon[0].kill()

    try:
        diary = search(wanted, ready, diary=Blow())
    finally:
        for process in balloon:
            process.kill()
            process.communicate()
    assert diary.lines == ["memory ran out and Ray ended a trial: 1 at a time from here on"]
    assert [(r.state, len(r.epochs)) for r in diary.results.values()] == [(State.COMPLETED, EPOCHS)] * 3
    assert all(epochs == [1, 2, 3] for epochs in diary.epochs.values())
