"""What a search looks like in MLflow: one parent run, one nested run a trial.

A trial's curves (`train_loss`, `val_loss`, `val_accuracy`, `val_f1`, `val_f1.<class>`, ...) have a point
an epoch. MLflow's run table shows and sorts by the *last* point of a metric, and the last epoch is not
the one whose weights are kept. So a trial that ends well also gets one `best_val_f1`, its score, at the
step of its best epoch. **Sort the table by `best_val_f1`**, as the search's own view does (see view.py).
A failed trial has none, and neither has a parent, which carries its champion's `val_f1` and `test_f1`: in
a sorted table it would stand among its trials.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tune_tl.experiment import TEST_F1, VAL_F1, EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.tracking.description import Conclusion, Search
from tune_tl.tracking.runs import Run, Runs, user
from tune_tl.tracking.view import leaderboard_page, leaderboard_view

BEST_VAL_F1 = "best_val_f1"
ID_TAG = "tune_tl.id"  # the search's id, on all its runs: what they are found by
TRIAL_TAG = "tune_tl.trial"  # the trial's key
SEARCH_TAG = "tune_tl.search"  # the search's absolute folder, for people
ENDED_TAG = "tune_tl.ended"  # when, in seconds since the search's start: tells one end from another
FILES_TAG = "tune_tl.files"  # a hash of the artifacts, once all are there
PARENT_TAG = "mlflow.parentRunId"  # MLflow nests runs by it

RUNNING = "running"
INTERRUPTED = "interrupted"

# The last two are written last: where they are, all of the epoch is.
_CURVES = ("train_loss", "val_loss", "val_accuracy", "images_per_s", "seconds", VAL_F1)
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


class SearchRuns:
    """The runs of one search. Every method raises what MLflow raises, and may then be called again on a
    new SearchRuns: what is already on record is looked up and not written twice.

    `at` is the time of the event in milliseconds since 1970; MLflow takes two writes of one point at
    one time as the same point.
    """

    def __init__(self, uri: str, search: Search, at: int) -> None:
        self._search = search
        self._classes = metric_names(search.classes)
        self._mlflow = Runs(uri, search.experiment)
        self._epochs: dict[str, set[tuple[int, float]]] = {}  # on record, as `_mark` tells them apart, by run
        found: dict[str, list[Run]] = {}
        for run in self._mlflow.search(self._mine):
            found.setdefault(run.tags.get(TRIAL_TAG, ""), []).append(run)
        self._trials = {key: _only(runs) for key, runs in found.items() if key}
        self._parent = _only(found[""]) if "" in found else self._create_parent(at)
        # The process before may have died between creating a run and describing it.
        params = {"name": search.name, "strategy": search.strategy, **search.settings}
        self._parent.log(at, params=params)
        for trial in self._trials.values():
            trial.log(at, tags={PARENT_TAG: self._parent.id})
        self.page = self._show_leaderboard(uri)

    @property
    def changed(self) -> frozenset[str]:
        """The trials whose runs were written to, and "" if the parent was."""
        runs = {"": self._parent, **self._trials}
        return frozenset(key for key, run in runs.items() if run.changed)

    def resume(self, at: int) -> None:
        """The search is running."""
        _reopen(self._parent, at)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics, at: int) -> None:
        """A trial that is running has finished an epoch."""
        trial = self._run(config, at)
        _reopen(trial, at)
        self._fill(trial, [metrics], at)

    def end(self, result: TrialResult, at: int) -> None:
        """Close a trial's run, first filling in epochs it lacks; nothing if that end is on record."""
        trial = self._run(result.config, at - int(1000 * (result.ended - result.started)))
        tags = {"state": result.state.value, ENDED_TAG: f"{result.ended:.3f}"}
        if trial.status != "RUNNING" and tags.items() <= trial.tags.items():
            return
        self._fill(trial, result.epochs, at)
        scores: dict[str, tuple[float, int]] = {"cost": (result.cost, 0)}
        if result.best:
            scores[BEST_VAL_F1] = (result.best.val_f1, result.best.epoch)
        tags |= {"resource": result.resource, "reason": result.reason or ""}
        trial.log(at, metrics=scores, tags=tags)
        # One that the budget ended before its first epoch has come to nothing: no green tick.
        ended_early = result.state is State.STOPPED and not result.epochs
        trial.close("KILLED" if ended_early else _STATUS[result.state], at)

    def leave(self, config: TrialConfig, epochs: Iterable[EpochMetrics], at: int) -> None:
        """A trial was cut off after these epochs."""
        trial = self._run(config, at)
        self._fill(trial, epochs, at)
        _interrupted(trial, at)

    def finish(self, conclusion: Conclusion, at: int) -> None:
        """The search has come to its end; trials that have not are closed as interrupted."""
        self._close_trials(at)
        for key, test_f1 in conclusion.finalists.items():
            if key in self._trials:
                self._trials[key].log(at, metrics={TEST_F1: (test_f1, 0)})
        metrics = {name: (value, 0) for name, value in conclusion.metrics.items()}
        state = State.COMPLETED if metrics else State.FAILED
        self._parent.log(at, metrics=metrics, tags={**conclusion.tags, "state": state.value})
        self._keep(conclusion.artifacts, at)
        self._parent.close(_STATUS[state], at)

    def interrupt(self, at: int) -> None:
        """Mark the search and its unfinished trials as killed; a resumed search opens them again."""
        self._close_trials(at)
        _interrupted(self._parent, at)

    @property
    def _mine(self) -> str:
        return f"tags.`{ID_TAG}` = '{self._search.id}'"

    def _close_trials(self, at: int) -> None:
        """Leave no trial open, not even one that was made behind our back (see `_only`)."""
        for run in self._mlflow.search(f"{self._mine} and attributes.status = 'RUNNING'"):
            key = run.tags.get(TRIAL_TAG, "")
            known = self._trials.get(key) if key else self._parent
            if known and known.id != run.id:
                run.delete()
            elif key:
                _interrupted(known or run, at)

    def _create_parent(self, at: int) -> Run:
        folder = str(self._search.folder.absolute())
        tags = {SEARCH_TAG: folder, **self._search.tags, **self._shared_tags()}
        return self._mlflow.create(self._search.name, tags, at)

    def _show_leaderboard(self, uri: str) -> str:
        key = self._search.id[:8]
        name, value = leaderboard_view(
            key, f"tags.`{PARENT_TAG}` = '{self._parent.id}'", f"metrics.`{BEST_VAL_F1}`", _COLUMNS
        )
        self._mlflow.tag_experiment(name, value)
        return leaderboard_page(uri, self._mlflow.experiment, key)

    def _shared_tags(self) -> dict[str, str]:
        return {
            ID_TAG: self._search.id,
            "state": RUNNING,
            "search_strategy": self._search.strategy,
            "dataset": self._search.dataset,
            "data_source": self._search.data_source,
            "mlflow.source.name": "tune_tl.search",
            "mlflow.user": user(),
        }

    def _run(self, config: TrialConfig, begun: int) -> Run:
        """The trial's run, created if there is none."""
        trial = self._trials.get(config.key)
        if trial is None:
            tags = {
                TRIAL_TAG: config.key,
                PARENT_TAG: self._parent.id,
                "backbone": config.backbone,
                "unfreeze": str(config.unfreeze),
                "transfer_strategy": str(config.transfer),
                **self._shared_tags(),
            }
            name = f"{config.backbone} unfreeze={config.unfreeze} {config.key}"
            trial = self._trials[config.key] = self._mlflow.create(name, tags, begun)
        trial.log(begun, params=config.to_dict())
        return trial

    def _fill(self, trial: Run, epochs: Iterable[EpochMetrics], at: int) -> None:
        """Write the epochs that MLflow lacks; one that was trained again only if it came out otherwise."""
        if trial.id not in self._epochs:
            self._epochs[trial.id] = trial.points(VAL_F1) | trial.points("seconds")
        known = self._epochs[trial.id]
        for metrics in epochs:
            if _mark(metrics) not in known:
                values = dict(zip(self._classes, metrics.val_f1_per_class, strict=True))
                values |= {name: getattr(metrics, name) for name in _CURVES}
                trial.curves(at, metrics.epoch, values)
                known.add(_mark(metrics))

    def _keep(self, files: Sequence[Path], at: int) -> None:
        contents = hashlib.sha256()
        for file in files:
            contents.update(hashlib.sha256(file.name.encode() + b"\0" + file.read_bytes()).digest())
        if self._parent.tags.get(FILES_TAG) == contents.hexdigest():
            return
        for file in files:
            picture = file.suffix.lower() in (".png", ".svg", ".jpg")
            self._parent.keep(file, "plots" if picture else None)
        self._parent.log(at, tags={FILES_TAG: contents.hexdigest()})


def _mark(metrics: EpochMetrics) -> tuple[int, float]:
    """What tells whether MLflow has the epoch. It takes no NaN."""
    return metrics.epoch, metrics.val_f1 if math.isfinite(metrics.val_f1) else metrics.seconds


def _only(runs: Sequence[Run]) -> Run:
    """One of several runs that are the same trial's, or the search's; the others are deleted.

    A server that hung does what it was asked once it wakes, though nobody waits for that any more and it
    was asked again.
    """
    first, *others = sorted(runs, key=lambda run: (-len(run.metrics), run.id))
    for other in others:
        other.delete()
    return first


def _reopen(run: Run, at: int) -> None:
    run.reopen()
    run.log(at, tags={"state": RUNNING, "reason": ""})


def _interrupted(run: Run, at: int) -> None:
    run.log(at, tags={"state": INTERRUPTED})
    run.close("KILLED", at)


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
