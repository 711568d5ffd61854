"""A tracking server that is away, hangs, or dies in the middle: never the search's problem."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from support.waiting import wait_until
from tune_tl.tracking.description import Conclusion
from tune_tl.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]


def test_a_closed_port_neither_raises_nor_waits(
    tmp_path: Path, example: Any, free_port: Callable[[], int]
) -> None:
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    begun = time.monotonic()
    tracker = Tracker(address)
    tracker.start(example.search(tmp_path / "s"))
    example.track(tracker, example.result(0))
    assert time.monotonic() - begun < 1
    wait_until(lambda: tracker.problem)
    tracker.finish(Conclusion({"val_f1": 0.7}))
    begun = time.monotonic()
    tracker.close()
    assert time.monotonic() - begun < 5
    assert tracker.problem is not None
    assert tracker.problem.startswith("MLflow at http://***@127.0.0.1:")
    assert "Connection refused" in tracker.problem
    assert tracker.problem.endswith("the ledger has everything")
    assert "secret" not in tracker.problem
    assert len(tracker.problem.splitlines()) == 1


def test_a_server_that_hangs_is_left_behind(tmp_path: Path, example: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracker.start(example.search(tmp_path / "s"))
        begun = time.monotonic()
        tracker.close(1)
        assert time.monotonic() - begun < 3
        assert tracker.problem is not None
        assert "the ledger has everything" in tracker.problem


def test_a_hanging_server_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tune_tl.tracking.description import Search
from tune_tl.tracking.tracker import Tracker
tracker = Tracker(sys.argv[1])
tracker.start(Search("1d", "s", Path(sys.argv[2]), "asha-tpe", "trash", "local", ()))
tracker.close(4)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        subprocess.run([sys.executable, "-c", code, address, str(tmp_path)], cwd=ROOT, check=True, timeout=30)


def test_a_server_that_is_killed_and_comes_back_gets_everything_once(
    tmp_path: Path,
    example: Any,
    free_port: Callable[[], int],
    mlflow_ui: Callable[..., Any],
) -> None:
    port = free_port()
    first, second = example.result(0), example.result(1)
    plot = tmp_path / "curves.png"
    plot.write_bytes(b"a picture")
    with mlflow_ui(tmp_path, port=port) as address:
        tracker = Tracker(address)
        tracker.start(example.search(tmp_path / "s"))
        tracker.epoch(first.config, first.epochs[0])
        wait_until(lambda: tracker.page)
    begun = time.monotonic()
    example.track(tracker, first)
    example.track(tracker, second)
    assert time.monotonic() - begun < 1
    wait_until(lambda: tracker.problem)
    with mlflow_ui(tmp_path, port=port) as address:
        wait_until(lambda: tracker.problem is None)
        tracker.finish(Conclusion({"val_f1": 0.93}, artifacts=[plot]))
        tracker.close(60)
        assert tracker.problem is None
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("tune_tl").experiment_id
        runs = client.search_runs([experiment])
        parents = [run.info.run_id for run in runs if "tune_tl.trial" not in run.data.tags]
        assert len(runs) == 3
        assert len(parents) == 1
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            if "tune_tl.trial" in run.data.tags:
                history = client.get_metric_history(run.info.run_id, "val_f1")
                assert [point.step for point in history] == [1, 2, 3]
        assert [item.path for item in client.list_artifacts(parents[0], "plots")] == ["plots/curves.png"]
