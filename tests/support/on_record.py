"""A search's folder as a search leaves it, and whether MLflow tells the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.book import Book
from tune_tl.record.ledger import Ledger
from tune_tl.results.scores import score

CLASSES = ("glass", "paper")
EPOCHS = 3
STATUS = {State.COMPLETED: "FINISHED", State.STOPPED: "FINISHED", State.FAILED: "FAILED"}
CutOff = Mapping[TrialConfig, Sequence[EpochMetrics]]


def config(index: int) -> TrialConfig:
    return TrialConfig("mobilenet_v2", unfreeze=index, body_lr=1e-4 if index else None, epochs=EPOCHS)


def epoch(index: int, number: int) -> EpochMetrics:
    """The second is the best."""
    f1 = round(0.9 - 0.01 * index - 0.05 * abs(number - 2), 4)
    return EpochMetrics(number, 1 / number, 2 / number, f1, f1, (f1, f1 / 2), 120.0, 1.5 + number)


def result(index: int, state: State = State.COMPLETED) -> TrialResult:
    epochs = tuple(epoch(index, n) for n in range(1, EPOCHS + 1 if state is State.COMPLETED else EPOCHS))
    reason = {State.COMPLETED: None, State.STOPPED: "the scheduler", State.FAILED: "the loss is NaN"}[state]
    begun = 10.0 * index
    return TrialResult(config(index).key, config(index), state, epochs, begun, begun + 9, reason=reason)


ENDED = [result(0), result(1, State.STOPPED), result(2, State.FAILED), result(3)]
CUT_OFF = {config(4): [epoch(4, 1), epoch(4, 2)]}


def write_search(
    folder: Path, ended: Iterable[TrialResult], cut_off: CutOff | None = None, *, concluded: bool = True
) -> dict[str, Any]:
    """What is in `search.json`. A search that is `concluded` has its `result.json` and its report's files."""
    folder.mkdir(parents=True)
    now, tested = 0.0, score([0, 1, 1, 0], [0, 1, 0, 0], CLASSES)
    ended, ledger = list(ended), Ledger(folder, lambda: now)
    for done in ended:
        for metrics in done.epochs:
            now += 0.5
            ledger.epoch(done.config, metrics)
        now = done.ended
        ledger.end(done)
    for config, epochs in (cut_off or {}).items():
        for metrics in epochs:
            now += 0.5
            ledger.epoch(config, metrics)
    ledger.close()
    facts: dict[str, Any] = {
        "id": "".join(f"{ord(c):02x}" for c in folder.name.rjust(16))[:32],
        "name": folder.name,
        "space": "garbage",
        "strategy": "asha-tpe",
        "seed": 7,
        "trials": 20,
        "budget_s": None,
        "epochs": EPOCHS,
        "dataset": {"name": "trash", "source": "local", "fingerprint": "ab12", "images": 9, "classes": 2},
        "class_names": CLASSES,
        "left_out": {"vgg16": "no weights"},
        "versions": {"torch": "2.14"},
    }
    (folder / "search.json").write_text(json.dumps(facts))
    if concluded:
        best = max((r for r in ended if r.best), key=lambda r: r.val_f1 or 0, default=None)
        concluding = {
            "champion": best and best.trial,
            "val_f1": best and best.val_f1,
            "test_f1": best and tested.f1,
            "test_f1_ci": best and list(tested.ci),
            "test_scores": {best.trial: tested.to_dict()} if best else {},
            "lines": len(Book.read(folder).lines),
        }
        (folder / "result.json").write_text(json.dumps(concluding))
        (folder / "leaderboard.html").write_text("<h1>The leaderboard</h1>")
        (folder / "curves.png").write_bytes(b"a picture")
    return facts


def breaches(
    uri: str,
    ended: Iterable[TrialResult],
    cut_off: CutOff | None = None,
    *,
    parent: str | None = "FINISHED",
    experiment: str = "garbage",
) -> list[str]:
    """What MLflow tells otherwise than it was; `parent` is the status of the search's own run."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    trials = [run for run in runs if "tune_tl.trial" in run.data.tags]
    found = [f"{run.info.run_name} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    parents = [run for run in runs if run not in trials]
    if [run.info.status for run in parents] != [parent]:
        found.append(f"the search has the runs {[run.info.status for run in parents]}")
    expected = {r.trial: (STATUS[r.state], r.state.value, r.epochs) for r in ended}
    expected |= {c.key: ("KILLED", "interrupted", tuple(epochs)) for c, epochs in (cut_off or {}).items()}
    numbers = Counter(run.data.tags["tune_tl.trial"] for run in trials)
    if numbers != Counter(expected.keys()):
        found.append(f"runs a trial: {dict(numbers)}, not one for each of {sorted(expected)}")
    for run in trials:
        status, state, epochs = expected.get(run.data.tags["tune_tl.trial"], ("", "", ()))
        if (run.info.status, run.data.tags["state"]) != (status, state):
            found.append(f"{run.info.run_name} is {run.info.status}, {run.data.tags['state']}, not {status}")
        if run.data.tags["mlflow.parentRunId"] not in [p.info.run_id for p in parents]:
            found.append(f"{run.info.run_name} is nobody's")
        if len(run.data.params) < 10:
            found.append(f"{run.info.run_name} has only the params {sorted(run.data.params)}")
        for metric in ("val_f1", "train_loss", "seconds"):
            history = client.get_metric_history(run.info.run_id, metric)
            points = sorted((point.step, point.value) for point in history)
            if points != [(m.epoch, getattr(m, metric)) for m in epochs]:
                found.append(f"{run.info.run_name} has {metric} {points}")
        for metric, count in run.data.metrics.items():
            if metric in ("cost", "best_val_f1", "test_f1"):
                count = len(client.get_metric_history(run.info.run_id, metric))
                if count != 1:
                    found.append(f"{run.info.run_name} has {count} points of {metric}")
    return found
