"""What a search looks like in MLflow: one parent run, one nested run a trial.

A trial's curves (`train_loss`, `val_loss`, `val_accuracy`, `val_f1`, `val_f1.<class>`, ...) have a point
an epoch. MLflow's run table shows and sorts by the *last* point of a metric, and the last epoch is not
the one whose weights are kept. So a trial that ends well also gets one `best_val_f1`, its score, at the
step of its best epoch. **Sort the table by `best_val_f1`**, as the search's own view does (see view.py).
A failed trial has none, and neither has a parent, which carries its champion's `val_f1` and `test_f1`: in
a sorted table it would stand among its trials.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_tl.experiment import TEST_F1, VAL_F1, EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.tracking.runs import Runs, user
from tune_tl.tracking.view import leaderboard_page, leaderboard_view

BEST_VAL_F1 = "best_val_f1"
TRIAL_TAG = "tune_tl.trial"  # the trial's key
SEARCH_TAG = "tune_tl.search"  # the search's absolute folder, for people
ID_TAG = "tune_tl.id"  # what a resumed search is found by
ID_FILE = "mlflow-id"  # in the search's folder
PARENT_TAG = "mlflow.parentRunId"  # MLflow nests runs by it

RUNNING = "running"
INTERRUPTED = "interrupted"

_CURVES = ("train_loss", "val_loss", "val_accuracy", VAL_F1, "images_per_s", "seconds")
_COLUMNS = [
    f"metrics.`{BEST_VAL_F1}`",
    f"metrics.`{TEST_F1}`",
    "params.`backbone`",
    "params.`unfreeze`",
    "params.`augment`",
    "tags.`transfer_strategy`",
    "tags.`state`",
]
_STATUS = {State.COMPLETED: "FINISHED", State.STOPPED: "FINISHED", State.FAILED: "FAILED"}


@dataclass(frozen=True)
class Search:
    """What is said once about a search.

    `settings` become the parent's params (seed, budget, trials, ...), `tags` its tags.
    """

    name: str
    folder: Path  # runs/<name>; it keeps the id that a resumed search finds its runs by
    strategy: str
    dataset: str
    data_source: str  # local, download or sample
    classes: tuple[str, ...]  # in the dataset's class order
    settings: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    transfer: Callable[[TrialConfig], str] = lambda config: config.transfer


@dataclass(frozen=True)
class Findings:
    """What a search ends with."""

    metrics: Mapping[str, float]  # of the champion: val_f1, test_f1, ...; none if no trial finished
    tags: Mapping[str, str] = field(default_factory=dict)  # champion, ...
    finalists: Mapping[str, float] = field(default_factory=dict)  # trial -> test_f1
    artifacts: Sequence[Path] = ()  # files and folders; pictures go to plots/


@dataclass
class _Trial:
    run: str  # MLflow's id
    state: str
    epochs: set[int] | None  # on record already; None: MLflow has not been asked yet


class Record:
    """The runs of one search. Every method raises what MLflow raises, and may then be called again on a
    new Record: what is already on record is looked up and not written twice.

    `at` is the time of the event in milliseconds since 1970; MLflow takes two writes of one point at
    one time as the same point.
    """

    def __init__(self, uri: str, experiment: str, search: Search, at: int) -> None:
        self._search = search
        self._classes = metric_names(search.classes)
        self._mlflow = Runs(uri, experiment)
        self._id = _identity(search.folder)
        self._parent = self._find_parent(at) or self._create_parent(at)
        self.page = self._show_leaderboard(uri)
        self._trials = {
            run.data.tags[TRIAL_TAG]: _Trial(run.info.run_id, _state(run), None)
            for run in self._mlflow.find(PARENT_TAG, self._parent)
        }

    def epoch(self, config: TrialConfig, metrics: EpochMetrics, at: int) -> None:
        self._epochs(self._open(config, at), [metrics], at)

    def end(self, result: TrialResult, at: int) -> None:
        """Close a trial's run, first filling in epochs it lacks; nothing if it is closed already."""
        known = self._trials.get(result.trial)
        if known and known.state == result.state.value:
            return
        trial = self._open(result.config, at)
        self._epochs(trial, result.epochs, at)
        scores: dict[str, tuple[float, int]] = {"cost": (result.cost, 0)}
        if result.best:
            scores[BEST_VAL_F1] = (result.best.val_f1, result.best.epoch)
        tags = {"state": result.state.value, "resource": result.resource, "reason": result.reason or ""}
        self._mlflow.log(trial.run, at, metrics=scores, tags=tags)
        self._mlflow.close(trial.run, _STATUS[result.state], at)
        trial.state = result.state.value

    def finish(self, findings: Findings, at: int) -> None:
        for key, test_f1 in findings.finalists.items():
            if key in self._trials:
                self._mlflow.log(self._trials[key].run, at, metrics={TEST_F1: (test_f1, 0)})
        metrics = {name: (value, 0) for name, value in findings.metrics.items()}
        state = State.COMPLETED if metrics else State.FAILED
        self._mlflow.log(self._parent, at, metrics=metrics, tags=dict(findings.tags) | {"state": state.value})
        for path in findings.artifacts:
            picture = path.suffix.lower() in (".png", ".svg", ".jpg")
            self._mlflow.keep(self._parent, path, "plots" if picture else None)
        self._mlflow.close(self._parent, _STATUS[state], at)

    def interrupt(self, at: int) -> None:
        """Mark the search and its unfinished trials as killed; a resumed search opens them again."""
        running = [trial for trial in self._trials.values() if trial.state == RUNNING]
        for run in [*(trial.run for trial in running), self._parent]:
            self._mlflow.log(run, at, tags={"state": INTERRUPTED})
            self._mlflow.close(run, "KILLED", at)
        for trial in running:
            trial.state = INTERRUPTED

    def _find_parent(self, at: int) -> str | None:
        found = self._mlflow.find(ID_TAG, self._id)
        if not found:
            return None
        parent = str(found[0].info.run_id)
        self._mlflow.reopen(parent)
        self._mlflow.log(parent, at, tags={"state": RUNNING})
        return parent

    def _create_parent(self, at: int) -> str:
        search = self._search
        tags = {
            ID_TAG: self._id,
            SEARCH_TAG: str(search.folder.absolute()),
            **search.tags,
            **self._shared_tags(),
        }
        parent = self._mlflow.create(search.name, tags, at)
        params = {"name": search.name, "strategy": search.strategy, **search.settings}
        self._mlflow.log(parent, at, params=params)
        return parent

    def _show_leaderboard(self, uri: str) -> str:
        key = self._id[:8]
        name, value = leaderboard_view(
            key, f"tags.`{PARENT_TAG}` = '{self._parent}'", f"metrics.`{BEST_VAL_F1}`", _COLUMNS
        )
        self._mlflow.tag_experiment(name, value)
        return leaderboard_page(uri, self._mlflow.experiment, key)

    def _shared_tags(self) -> dict[str, str]:
        return {
            "state": RUNNING,
            "search_strategy": self._search.strategy,
            "dataset": self._search.dataset,
            "data_source": self._search.data_source,
            "mlflow.source.name": "tune_tl.search",
            "mlflow.user": user(),
        }

    def _open(self, config: TrialConfig, at: int) -> _Trial:
        """The trial's run: created, or opened again where an earlier process left or ended it."""
        trial = self._trials.get(config.key)
        if trial is None:
            tags = {
                TRIAL_TAG: config.key,
                PARENT_TAG: self._parent,
                "backbone": config.backbone,
                "unfreeze": str(config.unfreeze),
                "transfer_strategy": str(self._search.transfer(config)),
                **self._shared_tags(),
            }
            name = f"{config.backbone} unfreeze={config.unfreeze} {config.key}"
            trial = self._trials[config.key] = _Trial(self._mlflow.create(name, tags, at), RUNNING, set())
            self._mlflow.log(trial.run, at, params=config.to_dict())
        elif trial.state != RUNNING:
            self._mlflow.reopen(trial.run)
            self._mlflow.log(trial.run, at, tags={"state": RUNNING, "reason": ""})
            if trial.state == State.FAILED:  # tried again: its epochs are trained anew
                trial.epochs = set()
            trial.state = RUNNING
        if trial.epochs is None:
            trial.epochs = self._mlflow.steps(trial.run, "seconds")
            # The process before may have died between creating the run and describing it.
            self._mlflow.log(trial.run, at, params=config.to_dict())
        return trial

    def _epochs(self, trial: _Trial, epochs: Iterable[EpochMetrics], at: int) -> None:
        assert trial.epochs is not None  # _open asked
        for metrics in epochs:
            if metrics.epoch in trial.epochs:
                continue
            values = {name: getattr(metrics, name) for name in _CURVES}
            values |= dict(zip(self._classes, metrics.val_f1_per_class, strict=True))
            curve = {name: (value, metrics.epoch) for name, value in values.items()}
            self._mlflow.log(trial.run, at, metrics=curve)
            trial.epochs.add(metrics.epoch)


def _state(run: Any) -> str:
    # The tag is written before the status: one that MLflow has as running has not ended, whatever it says.
    return RUNNING if run.info.status == "RUNNING" else str(run.data.tags.get("state", INTERRUPTED))


def metric_names(classes: Sequence[str]) -> tuple[str, ...]:
    """`val_f1.<class>` for each class, in characters that MLflow takes, no two alike."""
    names: list[str] = []
    taken: set[str] = set()
    for index, label in enumerate(classes):
        name = f"{VAL_F1}.{re.sub(r'[^A-Za-z0-9_. -]', '_', label).strip() or '_'}"[:200]
        if name.casefold() in taken:  # MySQL takes A and a for one name
            name += f"_{index}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def _identity(folder: Path) -> str:
    """The search's id, kept in its folder: a folder that was deleted and made again is a new search."""
    file = folder / ID_FILE
    known = file.read_text().strip() if file.exists() else ""
    if not known:
        known = uuid.uuid4().hex
        file.write_text(known + "\n")
    return known
