"""Ray begun in a thread: who hears of signals and errors, and where its workers stand by then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tune_tl.tuning.cluster import Cluster


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
