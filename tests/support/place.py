"""A place to run the whole command in, as a user does: a working directory, small images, own caches."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from support.images import three_colours
from support.waiting import SECONDS

SPACE = """
dataset: ./images
backbone: [efficientnet_lite0]
image_size: 32
epochs: 2
trials: 4
unfreeze: [0, 1]
head_lr: {low: 5e-4, high: 1e-2, log: true}
body_lr: {low: 3e-5, high: 3e-3, log: true}
augment: [none, light]
batch_size: [8, 16]
"""
HALF = (os.cpu_count() or 1) / 2  # of the machine's cores
ONE_AT_A_TIME = ("--cpus-per-trial", str(max(1.0, HALF + 0.5)))
TWO_AT_A_TIME = ("--cpus-per-trial", str(max(1.0, HALF)))


@dataclass(frozen=True)
class Place:
    """A working directory, and the environment that commands run in it see."""

    folder: Path
    space: Path
    env: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tune_tl.search", str(self.space), *arguments]

    def start(self, command: list[str], **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a Ctrl+C reaches its group, and nobody else
        )

    def run(self, *arguments: str, **env: str) -> Done:
        return finish(self.start(self.command(*arguments), **env))

    def elsewhere(self, name: str) -> Place:
        folder = self.folder.parent / name
        folder.mkdir()
        return Place(folder, self.space, self.env)

    def rows(self, search: str, file: str) -> list[dict[str, Any]]:
        path = self.folder / "runs" / search / file
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last may be in the making
        return [json.loads(line) for line in lines]

    def runs(self) -> list[Any]:
        """Every run in the MLflow store that a bare `mlflow ui` would show here."""
        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))

    def ray_processes(self) -> list[int]:
        """The processes that Ray started for commands in this place."""
        session = f"{self.env['RAY_TMPDIR']}/ray/".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if session in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue  # has just ended
        return found


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def resume_command(self) -> list[str]:
        (line,) = [line for line in self.out.splitlines() if line.startswith("python -m tune_tl.search ")]
        return [sys.executable, *shlex.split(line)[1:]]


def finish(process: subprocess.Popen[str]) -> Done:
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Done(process.returncode, out, err)


@contextlib.contextmanager
def place_in(base: Path) -> Iterator[Place]:
    """Three classes of 14 small images and a space over them, both beside the working directory."""
    base.mkdir()
    three_colours(base / "images")
    (base / "tiny.yaml").write_text(SPACE)
    (base / "work").mkdir()
    # Paths of Ray's sockets have to be short, and its key goes into the home folder.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
        env |= {"RAY_TMPDIR": short, "HOME": short, "XDG_CACHE_HOME": str(base / "cache"), "COLUMNS": "100"}
        yield Place(base / "work", base / "tiny.yaml", env)
