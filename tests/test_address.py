"""A search on a Ray cluster that is there already: `--address`."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.images import three_colours

SPACE = """
dataset: ./images
backbone: [efficientnet_lite0]
image_size: 32
epochs: 1
trials: 2
head_lr: {low: 1e-3, high: 1e-2, log: true}
"""


@dataclass(frozen=True)
class Cluster:
    address: str
    env: dict[str, str]
    logs: Path

    def search(self, folder: Path, address: str, **env: str) -> subprocess.CompletedProcess[str]:
        three_colours(folder / "images")
        (folder / "tiny.yaml").write_text(SPACE)
        command = [sys.executable, "-m", "tune_tl.search", "tiny.yaml", "--address", address]
        return subprocess.run(
            command, cwd=folder, env=self.env | env, capture_output=True, text=True, timeout=150
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head on loopback with a key of its own, in its own folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Paths of Ray's sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
        env |= {"HOME": short, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        start = f"start --head --block --num-cpus 2 --port {port} --node-ip-address 127.0.0.1"
        quiet = f"--include-dashboard false --disable-usage-stats --temp-dir {short}/r"
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *start.split(), *quiet.split()],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while not list(Path(short).glob("r/session_latest/logs/raylet.out")) or not _answers(port):
                assert head.poll() is None and time.monotonic() < deadline, "the head did not come up"
                time.sleep(0.1)
            yield Cluster(f"127.0.0.1:{port}", env, Path(short) / "r/session_latest/logs")
        finally:
            os.killpg(head.pid, signal.SIGKILL)  # asked to end, it takes half a minute
            head.wait(60)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_trials_run_on_the_cluster_that_the_address_names(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.search(tmp_path, cluster.address)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "runs/tiny/trials.jsonl").read_text().splitlines()) == 2
    assert list(cluster.logs.glob("worker-*")), "its workers"
    sessions = {p for p in cluster.logs.parents[1].glob("session_*") if not p.is_symlink()}
    assert len(sessions) == 1, "and no cluster of the search's own"


def test_a_cluster_takes_no_search_without_its_key(cluster: Cluster, tmp_path: Path) -> None:
    key = {
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_NUM_REDIS_GET_RETRIES": "2",
    }  # seconds it is tried for
    done = cluster.search(tmp_path, cluster.address, **key)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: no Ray cluster at {cluster.address} (")
    assert "RAY_AUTH_TOKEN" in line
