"""Everything that is written down about a search while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tune_tl.experiment import Clock, Experiment, Observer, TrialResult
from tune_tl.record.json_files import SearchFacts
from tune_tl.record.ledger import Ledger, Past
from tune_tl.results.ranking import finalists
from tune_tl.tracking.description import Search
from tune_tl.tracking.store import same_store
from tune_tl.tracking.tensorboard import EventFiles
from tune_tl.tracking.tracker import Tracker
from tune_tl.training.checkpoint import Checkpoints


class Observers(contextlib.ExitStack):
    """The ledger first, then what can be made from it: kept weights, MLflow, TensorBoard."""

    def __init__(self, experiment: Experiment, past: Past, clock: Clock, console: Console) -> None:
        super().__init__()
        facts = SearchFacts.read(experiment.folder)
        self.search = Search.of(experiment.folder, facts)
        self.uri = same_store(facts.tracking_uri, experiment.tracking_uri)
        self.tracker = Tracker(self.uri, lambda line: console.print(Text(line), soft_wrap=True))
        self.tracker.start(self.search)
        self.callback(self.tracker.close)
        for result in past.ended:
            self.tracker.end(result)
        for config, epochs in past.cut_off.items():
            for metrics in epochs:
                self.tracker.epoch(config, metrics)
        ledger = Ledger(experiment.folder, clock)
        self.callback(ledger.close)
        self.events = EventFiles(experiment.folder / "tensorboard")
        weights = BestWeights(experiment.checkpoints, past.ended)
        self.all: tuple[Observer, ...] = (ledger, weights, self.tracker, self.events)


class BestWeights(Observer):
    """Bounds the disk: only trials that run and those that would be finalists keep their weights."""

    def __init__(self, folder: Path, past: Iterable[TrialResult]) -> None:
        self._folder = folder
        self._best: tuple[TrialResult, ...] = ()
        for result in past:  # a process that was killed may not have come to it
            self.end(result)

    def end(self, result: TrialResult) -> None:
        Checkpoints(self._folder, result.trial).remove_states()
        contenders = (*self._best, result)
        self._best = finalists(contenders)
        for loser in contenders:
            if loser not in self._best:
                Checkpoints(self._folder, loser.trial).remove()
