"""Trials on a Ray that the caller has, begun and ended by this process, without the command around them."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console

from support.images import three_colours
from tune_tl.experiment import Clock, EpochMetrics, Experiment, Observer, TrialConfig, TrialResult
from tune_tl.preflight.ready import Ready, check
from tune_tl.record.ledger import Ledger, Past
from tune_tl.spaces import reading
from tune_tl.tuning.cluster import Cluster
from tune_tl.tuning.tuner import tune_trials


@dataclass
class Told(Observer):
    """What observers were told, by trial's learning rate."""

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

    def said(self, lr: float) -> list[str]:
        key = self.results[lr].trial
        return [line for line in self.lines if key in line]


def ready_for(folder: Path, space: str) -> Ready:
    """Three colours of noise, `folder`/images, and what a preflight makes of them and this space."""
    three_colours(folder / "images")
    (folder / "tiny.yaml").write_text(f"dataset: ./images\nimage_size: 32\nbatch_size: 8\n{space}")
    return check(reading.load(str(folder / "tiny.yaml"))[0], None, console=Console(file=StringIO()))


def run_trials(
    wanted: Experiment,
    ready: Ready,
    observer: Observer,
    cluster: Cluster,
    *,
    past: Past | None = None,
    clock: Clock | None = None,
) -> None:
    """A search from its first trial to its last, with its record kept as the command keeps it.

    Without a `clock` its seconds are those from now on.
    """
    start = time.monotonic()
    clock = clock or (lambda: time.monotonic() - start)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Ledger(wanted.folder, clock)) as book:
        try:
            tune_trials(
                wanted,
                ready,
                [book, observer],
                cluster=cluster,
                past=past or Past(),
                clock=clock,
                ends=wanted.budget_s,
            )
        finally:
            for handler in logging.getLogger("ray").handlers:  # a cluster has one search, these have several
                handler.close()
