"""A small search to track, and real MLflow servers on the loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from support.waiting import wait_until
from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.tracking.description import Search
from tune_tl.tracking.tracker import Tracker

CLASSES = ("glass", "pa/per", "Pa:per")
BEST_F1S = (0.71, 0.93, 0.52, 0.84, 0.65)  # of the five trials


class Example:
    """Trials whose best epoch is the second of three, so that the last one is never the score."""

    @staticmethod
    def config(index: int) -> TrialConfig:
        return TrialConfig("mobilenet_v2", unfreeze=index if index < 4 else "all", body_lr=1e-4)

    @staticmethod
    def epoch(number: int, best: float) -> EpochMetrics:
        f1 = round(best - 0.05 * abs(number - 2), 4)
        return EpochMetrics(number, 1 / number, 2 / number, f1, f1, (f1, f1 / 2, 0.0), 120.0, 1.5)

    @classmethod
    def result(
        cls, index: int, state: State = State.COMPLETED, epochs: int = 3, reason: str | None = None
    ) -> TrialResult:
        config = cls.config(index)
        seen = tuple(cls.epoch(e, BEST_F1S[index]) for e in range(1, epochs + 1))
        return TrialResult(config.key, config, state, seen, started=1.0, ended=5.5, units=2.0, reason=reason)

    @staticmethod
    def search(folder: Path) -> Search:
        folder.mkdir(parents=True, exist_ok=True)
        return Search(
            id=uuid.uuid5(uuid.NAMESPACE_URL, folder.as_uri()).hex,
            name=folder.name,
            folder=folder,
            strategy="asha-tpe",
            dataset="trash",
            data_source="local",
            classes=CLASSES,
            settings={"seed": 7, "budget_s": 600.0},
            tags={"version.torch": "2.14"},
        )

    @classmethod
    def track(cls, tracker: Tracker, result: TrialResult) -> None:
        for metrics in result.epochs:
            tracker.epoch(result.config, metrics)
        tracker.end(result)


@pytest.fixture(scope="session")
def example() -> type[Example]:
    return Example


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to lay out a new one, and one test watches it do so."""
    folder = tmp_path_factory.mktemp("migrated")
    assert MlflowClient(f"sqlite:///{folder}/mlflow.db").search_registered_models() == []
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return _free_port


@pytest.fixture(scope="session")
def mlflow_ui() -> Callable[..., object]:
    """`with mlflow_ui(folder) as address:` runs `mlflow ui` as a user would, in that folder."""
    return _mlflow_ui


class Address(str):
    """A server's, and the server."""

    group: int

    def signal(self, number: signal.Signals) -> None:
        """To all its processes."""
        os.killpg(self.group, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _mlflow_ui(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Address]:
    port = port or _free_port()
    address = Address(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1", *arguments],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | quiet,
            start_new_session=True,  # its workers end with it, and nobody else's
        )
    address.group = server.pid
    try:
        wait_until(lambda: server.poll() is not None or _answers(address), "an answer of the server")
        assert server.poll() is None, (folder / "server.log").read_text()
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=1):
            return True
    except OSError:
        return False
