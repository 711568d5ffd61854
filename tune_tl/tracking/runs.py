"""A thin, repeatable layer over MLflow's client: one experiment, its runs, and nothing but batches.

MLflow is imported when a `Runs` is made, in the tracker's thread: the import takes longer than `--help`.
"""

from __future__ import annotations

import getpass
import hashlib
import math
import re
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from tune_tl.tracking.store import sqlite_file

_METRICS_A_BATCH = 1000  # MLflow's limit
_LONGEST_TAG = 5000  # characters


class Runs:
    """The runs of one experiment, which is created if it is not there."""

    def __init__(self, uri: str, experiment: str) -> None:
        import mlflow

        with _only_one_creator(uri):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self.experiment = _experiment(self.client, experiment, uri)

    def create(self, name: str, tags: Mapping[str, str], at: int) -> str:
        run = self.client.create_run(self.experiment, start_time=at, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def find(self, tag: str, value: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{tag}` = '{value}'", max_results=1000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def steps(self, run_id: str, metric: str) -> set[int]:
        return {point.step for point in self.client.get_metric_history(run_id, metric)}

    def log(
        self,
        run_id: str,
        at: int,
        *,
        metrics: Mapping[str, tuple[float, int]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write `metrics`, name -> (value, step). A NaN is not a number to show or sort by: left out."""
        from mlflow.entities import Metric, Param, RunTag

        points = [
            Metric(name, float(value), at, step)
            for name, (value, step) in (metrics or {}).items()
            if math.isfinite(value)
        ]
        self.client.log_batch(
            run_id,
            points[:_METRICS_A_BATCH],
            [Param(name, str(value)) for name, value in (params or {}).items()],
            [RunTag(name, value[:_LONGEST_TAG]) for name, value in (tags or {}).items()],
        )
        for start in range(_METRICS_A_BATCH, len(points), _METRICS_A_BATCH):
            self.client.log_batch(run_id, points[start : start + _METRICS_A_BATCH])

    def tag_experiment(self, name: str, value: str) -> None:
        self.client.set_experiment_tag(self.experiment, name, value)

    def reopen(self, run_id: str) -> None:
        self.client.update_run(run_id, status="RUNNING")

    def close(self, run_id: str, status: str, at: int) -> None:
        """Set `status`: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status, end_time=at)

    def keep(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all that is in it, among the run's artifacts."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), folder or path.name)
        else:
            self.client.log_artifact(run_id, str(path), folder)


def _experiment(client: Any, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    database = sqlite_file(uri)
    # MLflow's own choice is ./mlruns of whoever creates the experiment; beside the database it is found
    # again. In the default case the two are one.
    artifacts = (database.parent / "mlruns" / re.sub(r"\W", "_", name)).as_uri() if database else None
    return str(client.create_experiment(name, artifact_location=artifacts))


def _only_one_creator(uri: str) -> AbstractContextManager[Any]:
    """Hold while a SQLite store is opened: two processes migrating one fresh file break it."""
    database = sqlite_file(uri)
    if database is None:
        return nullcontext()
    digest = hashlib.sha256(str(database).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"tune_tl-{user()}-{digest}.lock", timeout=60)


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
