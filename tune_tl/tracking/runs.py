"""A thin, repeatable layer over MLflow's client: one experiment, its runs, and nothing but batches.

MLflow is imported when a `Runs` is made, in the tracker's thread: the import takes longer than `--help`.
"""

from __future__ import annotations

import getpass
import glob
import hashlib
import math
import re
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from tune_tl.tracking.health import Stuck
from tune_tl.tracking.store import redacted, sqlite_file

_METRICS_A_BATCH = 1000  # MLflow's limit
_LONGEST_TAG = 5000  # characters


class Run:
    """One run, and what MLflow has of it, which is not written again."""

    def __init__(self, client: Any, run: Any) -> None:
        self._client = client
        self.id = str(run.info.run_id)
        self.status = str(run.info.status)
        self.tags: dict[str, str] = dict(run.data.tags)
        self._params: dict[str, str] = dict(run.data.params)
        self.metrics: dict[str, float] = dict(run.data.metrics)  # the latest value of each
        self.changed = False  # by this process

    def log(
        self,
        at: int,
        *,
        metrics: Mapping[str, tuple[float, int]] | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write what is new of `metrics`, name -> (value, step), and of `tags`.

        A NaN is not a number to show or sort by: left out. A param is written once: MLflow lets none change.
        """
        points = {n: v for n, v in (metrics or {}).items() if self.metrics.get(n) != v[0]}
        new_params = {n: str(v) for n, v in (params or {}).items() if n not in self._params}
        kept = {n: v[:_LONGEST_TAG] for n, v in (tags or {}).items()}
        kept = {n: v for n, v in kept.items() if self.tags.get(n, "") != v}
        self._write(at, points, new_params, kept)

    def curves(self, at: int, step: int, values: Mapping[str, float]) -> None:
        """Write a point a metric, those named last at last; a NaN is left out."""
        self._write(at, {name: (value, step) for name, value in values.items()}, {}, {})

    def points(self, metric: str) -> set[tuple[int, float]]:
        """Step and value of every point that MLflow has of a metric."""
        return {(point.step, point.value) for point in self._client.get_metric_history(self.id, metric)}

    def reopen(self) -> None:
        if self.status != "RUNNING":
            self._client.update_run(self.id, status="RUNNING")
            self.status, self.changed = "RUNNING", True

    def close(self, status: str, at: int) -> None:
        """Set `status`: FINISHED, FAILED or KILLED."""
        if self.status != status:
            self._client.set_terminated(self.id, status, end_time=at)
            self.status, self.changed = status, True

    def keep(self, file: Path, folder: str | None = None) -> None:
        """Store a file among the run's artifacts."""
        self._client.log_artifact(self.id, str(file), folder)
        self.changed = True

    def delete(self) -> None:
        """Put it where MLflow's pages show it no more; a person can bring it back."""
        self._client.delete_run(self.id)

    def _write(
        self,
        at: int,
        metrics: Mapping[str, tuple[float, int]],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        finite = {name: point for name, point in metrics.items() if math.isfinite(point[0])}
        if not (finite or params or tags):
            return
        points = [Metric(name, float(value), at, step) for name, (value, step) in finite.items()]
        self._client.log_batch(
            self.id,
            points[:_METRICS_A_BATCH],
            [Param(name, value) for name, value in params.items()],
            [RunTag(name, value) for name, value in tags.items()],
        )
        for start in range(_METRICS_A_BATCH, len(points), _METRICS_A_BATCH):
            self._client.log_batch(self.id, points[start : start + _METRICS_A_BATCH])
        self.metrics |= {name: value for name, (value, _) in finite.items()}
        self._params |= params
        self.tags |= tags
        self.changed = True


class Runs:
    """The runs of one experiment, which is created if it is not there."""

    def __init__(self, uri: str, experiment: str) -> None:
        import mlflow

        with _only_one_creator(uri):
            _make_whole(uri)
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            self.experiment = _experiment(self._client, experiment, uri)

    def create(self, name: str, tags: Mapping[str, str], at: int) -> Run:
        run = self._client.create_run(self.experiment, start_time=at, tags=dict(tags), run_name=name)
        created = Run(self._client, run)
        created.changed = True
        return created

    def search(self, query: str) -> list[Run]:
        """Every run that MLflow's filter `query` selects."""
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            found += [Run(self._client, run) for run in page]
            token = page.token
            if not token:
                return found

    def tag_experiment(self, name: str, value: str) -> None:
        self._client.set_experiment_tag(self.experiment, name, value)


def _experiment(client: Any, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":  # and no other may have its name
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        command = f"MLFLOW_TRACKING_URI={shlex.quote(redacted(uri))} {restore}"
        raise Stuck(f"its experiment {name!r} is deleted; `{command}` brings it back")
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


def _make_whole(uri: str) -> None:
    """Make a SQLite store that is not there, complete in one rename.

    MLflow lays its tables out in a hundred steps, and takes no database that a kill left between two.
    """
    import mlflow

    database = sqlite_file(uri)
    if database is None or (database.exists() and database.stat().st_size):
        return
    for left in database.parent.glob(f"{glob.escape(database.name)}.part*"):
        left.unlink()
    database.parent.mkdir(parents=True, exist_ok=True)
    part = database.with_name(f"{database.name}.part")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{part}")
    client.search_experiments(max_results=1)
    with suppress(AttributeError):
        client._tracking_client.store.engine.dispose()  # else open as long as this process
    part.replace(database)


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
