"""Commands that are measured: each its own process with its own Ray folder, watched, and ended alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.setting import ROOT, Setting

POLL_S = 0.05
PATIENCE_S = 60.0  # for a command that was interrupted to put its things in order


@dataclass
class Watched:
    """A running command and the file of JSON lines that it writes as it goes."""

    process: subprocess.Popen[bytes]
    lines: Path
    log: Path
    since: float  # when it was spawned, on this process's clock
    rows: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # seconds since spawn, line
    _read: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    def poll(self) -> bool:
        """Take in new lines; False once the command has ended and all are read."""
        running = self.process.poll() is None
        with suppress(FileNotFoundError), self.lines.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # in the making
                self._read += len(line)
                self.rows.append((self.seconds, json.loads(line)))
        return running

    def watch(self, cap_s: float = float("inf")) -> Iterator[None]:
        """A turn every few hundredths of a second until the command ends, or `cap_s` after its spawn."""
        while self.poll():
            yield
            if self.seconds > cap_s:
                return
            time.sleep(POLL_S)
        if self.process.returncode:
            said = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.returncode}:\n{said}")

    def finish(self) -> None:
        for _ in self.watch():
            pass


@contextmanager
def started(
    arguments: Sequence[str], folder: Path, lines: str, env: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Run `python arguments…` in the new folder `folder`; at the end it and all that it started is ended."""
    folder.mkdir(parents=True)
    log = folder / "output.log"
    # The paths of Ray's sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray:
        with log.open("wb") as out:
            since = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env=_environment() | {"RAY_TMPDIR": ray} | dict(env or {}),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Watched(process, folder / lines, log, since)
        finally:
            _end(process, ray)


@contextmanager
def search(
    setting: Setting, label: str, *options: str, cache: Path, lines: str = "ledger.jsonl"
) -> Iterator[Watched]:
    """`python -m tune_tl.search` as a user types it, on the setting's space and images."""
    data = () if setting.fast else ("--data", str(setting.dataset.root))
    arguments = ["-m", "tune_tl.search", str(setting.space), *data, "--name", "it", *options]
    env = {"XDG_CACHE_HOME": str(cache)}
    with started(arguments, setting.folder / label, f"runs/it/{lines}", env) as watched:
        yield watched


def _environment() -> dict[str, str]:
    """This process's, without settings of Ray, Tune and MLflow, and with this checkout to import from."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("TUNE_TL_") or not name.startswith(("RAY_", "TUNE_", "MLFLOW_", "OMP_"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes], ray: str) -> None:
    """Ctrl+C for the command; what is left of it and of its own Ray after a while is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + PATIENCE_S
    while (left := _under(ray)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _under(ray: str) -> list[int]:
    """The processes of the Ray whose folder is `ray`: its name is in their command lines or settings."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # has just ended, or is another user's
            if ray.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found
