"""What a search leaves in MLflow: real runs in a real SQLite store."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from support.waiting import wait_until
from tune_tl.experiment import State
from tune_tl.tracking.description import Conclusion
from tune_tl.tracking.search_runs import metric_names
from tune_tl.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds that a test gives a loaded machine; nothing takes nearly as long


class Store:
    """A fresh SQLite store, read as MLflow's own pages read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self, query: str = "", order: str = "attributes.start_time ASC") -> list[Any]:
        experiment = self.client.get_experiment_by_name("tune_tl")
        return list(self.client.search_runs([experiment.experiment_id], query, order_by=[order]))

    def parents(self) -> list[Any]:
        return [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]

    def trials(self, order: str = "attributes.start_time ASC") -> dict[str, Any]:
        found = self.runs("tags.`tune_tl.trial` LIKE '%'", order)
        keys = [run.data.tags["tune_tl.trial"] for run in found]
        assert len(keys) == len(set(keys)), "a trial has more than one run"
        return dict(zip(keys, found, strict=True))

    def curve(self, run: Any, metric: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, metric)
        return [(point.step, round(point.value, 6)) for point in points]


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> Store:
    shutil.copy(migrated, tmp_path)
    return Store(tmp_path)


@pytest.fixture(scope="module")
def results(example: Any) -> list[Any]:
    """Three completed, one stopped, one that diverged in its third epoch."""
    diverged = example.result(2, State.FAILED, reason="the loss is NaN in epoch 3")
    last = replace(diverged.epochs[-1], val_f1=math.nan, train_loss=math.nan)
    return [
        example.result(0),
        example.result(1),
        replace(diverged, epochs=(*diverged.epochs[:-1], last)),
        example.result(3, State.STOPPED, epochs=2, reason="the scheduler"),
        example.result(4),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, example: Any, results: list[Any]) -> Store:
    """A store with one whole search."""
    store = Store(tmp_path_factory.mktemp("finished"))
    for name in ("leaderboard.csv", "leaderboard.html", "curves.png"):
        (store.folder / name).write_text(name)
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    for result in results:
        example.track(tracker, result)
    tracker.finish(
        Conclusion(
            metrics={"val_f1": 0.93, "test_f1": 0.9},
            tags={"champion": results[1].trial},
            finalists={results[1].trial: 0.9, results[3].trial: 0.82},
            artifacts=[store.folder / n for n in ("leaderboard.csv", "leaderboard.html", "curves.png")],
        )
    )
    tracker.close(PATIENCE)
    assert tracker.problem is None
    return store


def test_a_search_is_one_parent_and_one_nested_run_a_trial(finished: Store, results: list[Any]) -> None:
    (parent,) = finished.parents()
    trials = finished.trials()
    assert set(trials) == {result.trial for result in results}
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}


def test_a_trials_params_are_its_config(finished: Store, results: list[Any]) -> None:
    for result in results:
        expected = {name: str(value) for name, value in result.config.to_dict().items()}
        assert finished.trials()[result.trial].data.params == expected


def test_a_trials_tags_say_what_to_group_by(finished: Store, results: list[Any]) -> None:
    tags = finished.trials()[results[4].trial].data.tags
    expected = {
        "transfer_strategy": "full",
        "backbone": "mobilenet_v2",
        "unfreeze": "all",
        "search_strategy": "asha-tpe",
        "dataset": "trash",
        "data_source": "local",
        "state": "completed",
    }
    assert {name: tags[name] for name in expected} == expected


def test_curves_have_a_point_an_epoch(finished: Store, results: list[Any]) -> None:
    run = finished.trials()[results[1].trial]
    assert finished.curve(run, "val_f1") == [(1, 0.88), (2, 0.93), (3, 0.88)]
    assert finished.curve(run, "train_loss") == [(1, 1.0), (2, 0.5), (3, 0.333333)]
    assert finished.curve(run, "val_f1.pa_per") == [(1, 0.44), (2, 0.465), (3, 0.44)]
    assert finished.curve(run, "val_f1.Pa_per_2") == [(1, 0.0), (2, 0.0), (3, 0.0)]
    for metric in ("val_loss", "val_accuracy", "images_per_s", "seconds", "val_f1.glass"):
        assert [step for step, _ in finished.curve(run, metric)] == [1, 2, 3]


def test_one_column_sorts_the_trials_by_their_best_f1(finished: Store) -> None:
    runs = finished.trials("metrics.`best_val_f1` DESC").values()
    assert [run.data.metrics.get("best_val_f1") for run in runs] == [0.93, 0.84, 0.71, 0.65, None]


def test_a_failure_is_not_a_score(finished: Store, results: list[Any]) -> None:
    run = finished.trials()[results[2].trial]
    assert run.info.status == "FAILED"
    assert run.data.tags["state"] == "failed"
    assert run.data.tags["reason"] == "the loss is NaN in epoch 3"
    assert "best_val_f1" not in run.data.metrics
    assert [step for step, _ in finished.curve(run, "val_f1")] == [1, 2]
    assert [step for step, _ in finished.curve(run, "train_loss")] == [1, 2]


def test_a_stopped_trial_keeps_what_it_reached(finished: Store, results: list[Any]) -> None:
    run = finished.trials()[results[3].trial]
    assert run.info.status == "FINISHED"
    assert run.data.tags["state"] == "stopped"
    assert run.data.metrics["best_val_f1"] == 0.84


def test_only_finalists_have_a_test_f1(finished: Store, results: list[Any]) -> None:
    tested = {key: run.data.metrics.get("test_f1") for key, run in finished.trials().items()}
    assert tested == dict.fromkeys(tested) | {results[1].trial: 0.9, results[3].trial: 0.82}


def test_the_parent_has_the_champion_and_the_settings(finished: Store, results: list[Any]) -> None:
    (parent,) = finished.parents()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"val_f1": 0.93, "test_f1": 0.9}
    assert parent.data.tags["champion"] == results[1].trial
    assert parent.data.tags["tune_tl.search"] == str(finished.folder / "s")
    assert parent.data.tags["version.torch"] == "2.14"
    assert parent.data.params == {"name": "s", "strategy": "asha-tpe", "seed": "7", "budget_s": "600.0"}


def test_pages_and_plots_are_artifacts_beside_the_database(finished: Store) -> None:
    (parent,) = finished.parents()
    kept = [item.path for item in finished.client.list_artifacts(parent.info.run_id)]
    plots = [item.path for item in finished.client.list_artifacts(parent.info.run_id, "plots")]
    assert kept == ["leaderboard.csv", "leaderboard.html", "plots"]
    assert plots == ["plots/curves.png"]
    assert parent.info.artifact_uri.startswith((finished.folder / "mlruns").as_uri())


def test_a_resumed_search_continues_its_runs(store: Store, example: Any) -> None:
    search = example.search(store.folder / "s")
    done, half = example.result(0), example.result(1)
    first = Tracker(store.uri)
    first.start(search)
    example.track(first, done)
    first.epoch(half.config, half.epochs[0])
    first.close(PATIENCE)
    status = {key: run.info.status for key, run in store.trials().items()}
    assert status == {done.trial: "FINISHED", half.trial: "KILLED"}
    assert store.parents()[0].info.status == "KILLED"

    second = Tracker(store.uri)
    second.start(search)
    second.end(done)  # out of the ledger
    example.track(second, half)  # repeats its first epoch
    example.track(second, example.result(3))
    second.finish(Conclusion({"val_f1": 0.93}))
    second.close(PATIENCE)
    assert len(store.parents()) == 1
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
    for run in store.trials().values():
        assert [step for step, _ in store.curve(run, "val_f1")] == [1, 2, 3]
        assert len(store.curve(run, "best_val_f1")) == 1


def test_a_failed_trial_that_is_tried_again_keeps_its_run(store: Store, example: Any) -> None:
    for result in (example.result(0, State.FAILED, epochs=1, reason="out of memory"), example.result(0)):
        tracker = Tracker(store.uri)
        tracker.start(example.search(store.folder / "s"))
        example.track(tracker, result)
        tracker.close(PATIENCE)
    (run,) = store.trials().values()
    assert (run.info.status, run.data.tags["state"], run.data.tags["reason"]) == ("FINISHED", "completed", "")


def test_a_search_of_another_id_is_another_search(store: Store, example: Any) -> None:
    search = example.search(store.folder / "s")
    for identity in ("a1", "b2", "a1"):
        tracker = Tracker(store.uri)
        tracker.start(replace(search, id=identity))
        tracker.close(PATIENCE)
    assert len(store.parents()) == 2


def test_epochs_that_mlflow_never_saw_come_with_the_end(store: Store, example: Any) -> None:
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    tracker.end(example.result(1))
    tracker.close(PATIENCE)
    (run,) = store.trials().values()
    assert store.curve(run, "val_f1") == [(1, 0.88), (2, 0.93), (3, 0.88)]


def test_a_search_in_which_nothing_finished_is_a_failed_run(store: Store, example: Any) -> None:
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    tracker.finish(Conclusion({}))
    tracker.close(PATIENCE)
    (parent,) = store.parents()
    assert (parent.info.status, parent.data.metrics) == ("FAILED", {})


def test_many_threads_may_report_at_once(store: Store, example: Any) -> None:
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    results = [example.result(index) for index in range(5)]
    threads = [threading.Thread(target=example.track, args=(tracker, result)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.close(PATIENCE)
    assert len(store.trials()) == 5
    for run in store.trials().values():
        assert len(store.curve(run, "val_f1")) == 3


def test_what_mlflow_refuses_is_named_and_the_rest_is_written(store: Store, example: Any) -> None:
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    wrong = replace(example.epoch(1, 0.5), val_f1_per_class=(0.5,))  # the dataset has three classes
    tracker.epoch(example.config(0), wrong)
    example.track(tracker, example.result(1))
    tracker.close(PATIENCE)
    assert tracker.problem and "refused a record" in tracker.problem
    assert store.trials()[example.config(1).key].info.status == "FINISHED"


def test_a_locked_store_holds_up_nobody_and_catches_up(store: Store, example: Any) -> None:
    tracker = Tracker(store.uri)
    tracker.start(example.search(store.folder / "s"))
    tracker.begin(example.config(0))
    wait_until(lambda: tracker.page)
    other = sqlite3.connect(store.folder / "mlflow.db", isolation_level=None, timeout=PATIENCE)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    example.track(tracker, example.result(0))
    assert time.monotonic() - begun < 1
    other.execute("ROLLBACK")
    other.close()
    tracker.close(PATIENCE)
    assert tracker.problem is None
    (run,) = store.trials().values()
    assert store.curve(run, "val_f1") == [(1, 0.66), (2, 0.71), (3, 0.66)]


def test_searches_that_begin_at_once_share_a_fresh_store_in_silence(fresh: Store) -> None:
    code = """
import sys
from pathlib import Path
from tune_tl.tracking.description import Conclusion, Search
from tune_tl.tracking.tracker import Tracker
folder = Path(sys.argv[2]); folder.mkdir()
tracker = Tracker(sys.argv[1])
tracker.start(Search(folder.name, folder.name, folder, "asha-tpe", "trash", "local", ()))
tracker.finish(Conclusion({"val_f1": 0.5}))
tracker.close(120)
sys.exit(tracker.problem)
"""
    searches = [
        subprocess.Popen(
            [sys.executable, "-c", code, fresh.uri, str(fresh.folder / name)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in ("a", "b")
    ]
    said = [search.communicate()[0] for search in searches]
    assert said == [b"", b""]
    assert [search.returncode for search in searches] == [0, 0]
    assert sorted(run.info.run_name for run in fresh.parents()) == ["a", "b"]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["a b", "a/b", "a:b"], ["a b", "a_b", "a_b_2"]),
        (["Cat", "cat"], ["Cat", "cat_1"]),
        (["münze", "紙", "  "], ["m_nze", "_", "__2"]),
    ],
)
def test_class_names_become_metric_names(classes: list[str], names: list[str]) -> None:
    assert metric_names(classes) == tuple(f"val_f1.{name}" for name in names)
