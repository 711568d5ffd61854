"""Ray begun in a thread: who hears of signals and errors, and where its workers stand by then."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tune_tl.errors import BadInput
from tune_tl.tuning import cluster as clusters
from tune_tl.tuning.cluster import Cluster, NotStarted, require_places


def begun() -> bool:
    return any(thread.name == "ray" for thread in threading.enumerate())


def test_nothing_starts_unasked() -> None:
    with Cluster(None):
        assert not begun()


def test_a_warning_of_a_proxy_library_is_kept_off_the_display_whatever_other_threads_do() -> None:
    code = """
import sys, warnings, tune_tl.tuning
with warnings.catch_warnings():  # as another thread may, while requests is imported
    import requests
del sys.modules["requests.adapters"]
import requests.adapters  # which warns, and the filter of requests is gone with the context
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_running_cluster_leaves_sigterm_alone_and_its_workers_are_warm(tmp_path: Path) -> None:
    import ray

    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Cluster(None) as cluster:
            cluster.start()
            assert cluster.resources(tmp_path / "ray.log")["CPU"] >= 1
            os.kill(os.getpid(), signal.SIGTERM)

            @ray.remote
            class Worker:
                def has(self, module: str) -> bool:
                    import sys

                    return module in sys.modules

            assert ray.get(Worker.remote().has.remote("tune_tl.tuning.warm"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert not ray.is_initialized()
    assert (tmp_path / "ray.log").exists()


def test_what_ray_says_while_a_bar_is_shown_stays_off_the_terminal(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from rich.console import Console
from rich.live import Live
from tune_tl.tuning.cluster import Cluster
with Cluster(None) as cluster, Live("bar", console=Console(force_terminal=True)):
    cluster.start()
    cluster.resources(Path(sys.argv[1]) / "ray.log")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "bar" in done.stdout
    assert "SIGTERM" not in done.stdout + done.stderr
    assert "ray" not in done.stdout.lower()


def test_a_start_that_fails_is_tried_again_with_more_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float | None] = []

    def init(address: str | None, output: object, wait_s: float | None) -> dict[str, float]:
        tries.append(wait_s)
        if len(tries) == 1:
            raise NotStarted("Ray did not start (slow)")
        return {"CPU": 2.0}

    monkeypatch.setattr(clusters, "_init", init)
    said: list[str] = []
    with Cluster(None) as cluster:
        assert cluster.resources(tmp_path / "ray.log", said.append) == {"CPU": 2.0}
    assert tries == [None, clusters.SECOND_TRY_S]
    assert said == ["Ray did not start (slow); trying once more, for up to 180 s"]


def test_a_second_start_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup. This could happen.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with Cluster(None) as cluster, pytest.raises(BadInput) as error:
        cluster.resources(tmp_path / "ray.log")
    assert str(error.value) == (
        "Ray did not start, in two tries (The current node timed out during startup); "
        f"{tmp_path}/ray/session_latest/logs may say why. Try again when this machine is less busy, or with "
        "RAY_TMPDIR on another disk"
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"RAY_TMPDIR": "/tmp/" + "x" * 60},
            "RAY_TMPDIR '/tmp/xxx.* is too long .* by 26 characters; set RAY_TMPDIR",
        ),
        ({"TMPDIR": "/tmp/" + "x" * 60, "RAY_TMPDIR": ""}, "^TMPDIR '/tmp/xxx.* is too long"),
        ({"RAY_TMPDIR": "/proc/1/x"}, "RAY_TMPDIR '/proc/1/x' cannot be written; set RAY_TMPDIR"),
        ({"RAY_TMPDIR": "/dev/null"}, "RAY_TMPDIR '/dev/null' cannot be written"),
    ],
)
def test_a_place_that_ray_cannot_use_is_named_beforehand(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=said):
        require_places()


def test_a_place_that_can_be_used_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/not-yet/there")
    require_places()


def test_without_a_home_that_can_be_written_there_is_a_key_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/proc/1/none")
    clusters._give_key()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_log_that_a_full_disk_has_no_room_for_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    handler = clusters._Log("/dev/full")
    handler.handle(logging.makeLogRecord({"msg": "a worker died"}))
    with contextlib.suppress(OSError):
        handler.close()
    assert capsys.readouterr().err == ""
