"""MLflow goes away, hangs, is locked, full or damaged: no trial waits, it is said, and all is there later."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from support.disks import with_disk
from support.on_record import CUT_OFF, ENDED, breaches, config, epoch, write_search
from support.trackers import ENV, PATIENCE, Told, complete, findings
from support.waiting import wait_until
from tune_tl.record.json_files import SearchFacts
from tune_tl.tracking.description import Search
from tune_tl.tracking.health import check
from tune_tl.tracking.tracker import CLOSE_SECONDS, Tracker


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """A search that is on record already; what it tells a tracker is what a test lets it tell."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/s"
    write_search(folder, ENDED)
    return Search.of(folder, SearchFacts.read(folder))


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated, tmp_path / 'mlflow.db')}"


def test_a_closed_port_is_known_at_once_and_sync_completes_the_record(
    search: Search, store: str, free_port: Callable[[], int]
) -> None:
    begun = time.monotonic()
    tracker = Told(f"http://me:secret@127.0.0.1:{free_port()}")
    tracker.start(search)
    wait_until(lambda: tracker.lines, seconds=5)
    assert time.monotonic() - begun < 5
    tracker.track(ENDED)
    tracker.finish(findings(search))
    assert tracker.closed_in() < CLOSE_SECONDS
    assert tracker.slowest < 0.1
    assert len(tracker.lines) == 1  # however often it was tried
    assert tracker.lines[0].startswith("MLflow at http://***@127.0.0.1:")
    assert tracker.lines[0].endswith("Connection refused; the ledger has everything")
    assert tracker.problem and "it lacks 4 of 4 trials, the ledger has everything" in tracker.problem
    complete(store)


def test_a_search_whose_server_is_away_never_imports_mlflow(search: Search) -> None:
    code = """
import sys, time
from pathlib import Path
from tune_tl.tracking.description import Search
from tune_tl.tracking.tracker import Tracker
tracker = Tracker("http://127.0.0.1:9")
tracker.start(Search("1d", "s", Path(sys.argv[1]), "asha-tpe", "trash", "local", ()))
tracker.begin(None)
while not tracker.problem: time.sleep(0.01)
tracker.close()
print("mlflow" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(search.folder)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_server_that_hangs_and_goes_on_gets_everything_once(
    tmp_path: Path, search: Search, mlflow_ui: Callable[..., Any]
) -> None:
    """What it was asked while it hung it does when it wakes, and it is asked again."""
    with mlflow_ui(tmp_path) as address:
        tracker = Told(address)
        tracker.start(search)
        tracker.track(ENDED[:1])
        wait_until(lambda: tracker.page)
        address.signal(signal.SIGSTOP)
        tracker.track(ENDED[1:])
        wait_until(lambda: tracker.problem)
        address.signal(signal.SIGCONT)
        wait_until(lambda: tracker.problem is None)
        tracker.finish(findings(search))
        tracker.close(PATIENCE)
        assert tracker.problem is None
        assert tracker.slowest < 0.1
        said, back = tracker.lines
        assert "does not answer" in said
        assert back == f"MLflow at {address} answers again and is brought up to date"
        assert breaches(address, ENDED) == []


def test_a_server_that_hangs_for_good_ends_with_the_search(
    tmp_path: Path, search: Search, mlflow_ui: Callable[..., Any]
) -> None:
    with mlflow_ui(tmp_path) as address:
        tracker = Told(address)
        tracker.start(search)
        tracker.track(ENDED[:1])
        wait_until(lambda: tracker.page)
        address.signal(signal.SIGSTOP)
        tracker.track(ENDED[1:])
        tracker.finish(findings(search))
        assert tracker.closed_in() < CLOSE_SECONDS + 1
        assert tracker.slowest < 0.1
        assert tracker.problem
    with mlflow_ui(tmp_path) as address:
        complete(address)


def test_a_server_that_is_killed_for_good_leaves_a_record_that_sync_completes(
    tmp_path: Path, search: Search, mlflow_ui: Callable[..., Any]
) -> None:
    with mlflow_ui(tmp_path) as address:
        tracker = Told(address)
        tracker.start(search)
        for metrics in ENDED[0].epochs:
            tracker.epoch(ENDED[0].config, metrics)
        wait_until(lambda: tracker.page)
        address.signal(signal.SIGKILL)
    tracker.track(ENDED[1:])
    assert tracker.closed_in() < CLOSE_SECONDS  # as Ctrl+C does
    assert tracker.slowest < 0.1
    assert len(tracker.lines) == 1
    with mlflow_ui(tmp_path) as address:
        complete(address)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """By another process, as a backup or a person with `sqlite3` does it."""
    code = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
other.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"locked\n"
        yield
        other.communicate()


def test_a_store_that_stays_locked_is_completed_once_it_is_free(
    tmp_path: Path, search: Search, store: str
) -> None:
    with locked(tmp_path / "mlflow.db"):
        begun = time.monotonic()
        tracker = Told(store)
        tracker.start(search)
        wait_until(lambda: tracker.lines, seconds=5)
        assert time.monotonic() - begun < 5
        tracker.track(ENDED)
        tracker.finish(findings(search))
        assert tracker.closed_in() < CLOSE_SECONDS + 1
        assert tracker.slowest < 0.1
        assert "database is locked" in tracker.lines[0]
    complete(store)


def test_a_store_that_is_locked_in_the_middle_does_not_hold_up_the_end(
    tmp_path: Path, search: Search, store: str
) -> None:
    tracker = Told(store)
    tracker.start(search)
    tracker.track(ENDED[:1])
    wait_until(lambda: tracker.page)
    with locked(tmp_path / "mlflow.db"):
        tracker.track(ENDED[1:])
        tracker.finish(findings(search))
        assert tracker.closed_in(2) < 3
        assert tracker.slowest < 0.1
        assert tracker.problem and "is too slow" in tracker.problem
    complete(store)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "header": lambda whole: random.Random(0).randbytes(100) + whole[100:],
    "pages": lambda whole: whole[: len(whole) // 2] + random.Random(0).randbytes(len(whole) // 2),
    "text": lambda whole: b"not a database\n" * 999,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_store_that_is_damaged_is_never_written_to(
    tmp_path: Path, search: Search, store: str, how: str
) -> None:
    file = tmp_path / "mlflow.db"
    content = DAMAGE[how](file.read_bytes())
    file.write_bytes(content)
    begun = time.monotonic()
    tracker = Told(store)
    tracker.start(search)
    wait_until(lambda: tracker.lines, seconds=5)
    assert time.monotonic() - begun < 5
    tracker.track(ENDED)
    tracker.finish(findings(search))
    assert tracker.closed_in() < 1
    assert tracker.slowest < 0.1
    (line,) = tracker.lines
    assert line.startswith(f"MLflow at {file} is left alone: it is damaged (")
    assert "move it away, then run python -m tune_tl.sync s" in line
    assert file.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "runs"]
    file.rename(tmp_path / "away.db")
    complete(store)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_store_that_is_damaged_in_the_middle_is_left_alone_from_then_on(
    tmp_path: Path, search: Search, store: str, how: str
) -> None:
    tracker = Told(store)
    tracker.start(search)
    tracker.track(ENDED[:1])
    wait_until(lambda: tracker.page)
    tracker.epoch(config(1), epoch(1, 1))
    wait_until(lambda: written(store, "val_f1") == len(ENDED[0].epochs) + 1)  # and nothing is on its way
    file = tmp_path / "mlflow.db"
    with file.open("r+b") as opened:
        content = DAMAGE[how](opened.read())
        opened.seek(0)
        opened.write(content)
        opened.truncate()
    tracker.track(ENDED[1:])
    wait_until(lambda: tracker.lines)
    left = {path: path.read_bytes() for path in tmp_path.glob("mlflow.db*")}
    tracker.track(ENDED[1:])
    tracker.finish(findings(search))
    assert tracker.closed_in() < 1
    assert tracker.slowest < 0.1
    (line,) = tracker.lines
    assert f"{file} is left alone: it is damaged (" in line
    assert {path: path.read_bytes() for path in tmp_path.glob("mlflow.db*")} == left
    complete(f"sqlite:///{tmp_path}/other.db")


ON_A_SMALL_DISK = """
import shutil, sys, time
from pathlib import Path
import json
from support.on_record import ENDED, breaches
from support.trackers import Told, complete, findings
from tune_tl.record.json_files import SearchFacts
from tune_tl.tracking.description import Search
disk, folder = Path(sys.argv[1]), Path(sys.argv[2])
search = Search.of(folder, SearchFacts.read(folder))
uri = f"sqlite:///{shutil.copy(sys.argv[3], disk)}"
tracker = Told(uri)
tracker.start(search)
tracker.track(ENDED[:1])
while not tracker.page: time.sleep(0.01)
with (disk / "ballast").open("wb", buffering=0) as ballast:
    try:
        while True: ballast.write(bytes(1024))
    except OSError:
        pass
tracker.track(ENDED[1:])
while not tracker.lines: time.sleep(0.01)
if sys.argv[4] == "freed":
    (disk / "ballast").unlink()
    while tracker.problem: time.sleep(0.01)
tracker.finish(findings(search))
told = {"said": tracker.lines[0], "seconds": tracker.closed_in(), "slowest": tracker.slowest}
told["problem"] = tracker.problem
(disk / "ballast").unlink(missing_ok=True)
if tracker.problem:
    complete(uri)
print(json.dumps(told | {"breaches": breaches(uri, ENDED)}))
"""


@pytest.mark.parametrize("end", ["freed", "full"])
def test_a_disk_that_is_full(tmp_path: Path, search: Search, migrated: Path, end: str) -> None:
    disk = tmp_path / "disk"
    script = [sys.executable, "-c", ON_A_SMALL_DISK, str(disk), str(search.folder), str(migrated), end]
    done = subprocess.run(
        [*with_disk(disk, "size=4m"), *script],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert "disk is full" in told["said"]
    assert told["seconds"] < CLOSE_SECONDS + 1
    assert told["slowest"] < 0.1
    assert bool(told["problem"]) == (end == "full")
    assert told["breaches"] == []


def test_a_trial_that_nobody_takes_up_again_is_closed_with_the_search(search: Search, store: str) -> None:
    """The process of the first run is killed; the second has no time for the trial that was cut off."""
    code = """
import sys, time
from pathlib import Path
from support.on_record import CUT_OFF, ENDED
from support.trackers import Told
from tune_tl.record.json_files import SearchFacts
from tune_tl.tracking.description import Search
folder = Path(sys.argv[2])
tracker = Told(sys.argv[1])
tracker.start(Search.of(folder, SearchFacts.read(folder)))
tracker.track(ENDED[:2])
for config, epochs in CUT_OFF.items():
    tracker.epoch(config, epochs[0])
time.sleep(60)
"""
    command = [sys.executable, "-c", code, store, str(search.folder)]
    with subprocess.Popen(command, env=ENV) as first:
        wait_until(lambda: written(store, "val_f1") >= len(ENDED[0].epochs) + len(ENDED[1].epochs) + 1)
        first.kill()
    assert len(breaches(store, ENDED[:2], CUT_OFF, parent="KILLED")) >= 3  # two runs are RUNNING
    second = Told(store)
    second.start(search)
    for done in ENDED[:2]:
        second.end(done)
    for cut, epochs in CUT_OFF.items():
        for metrics in epochs:
            second.epoch(cut, metrics)
    second.track(ENDED[2:])
    second.finish(findings(search))
    second.close(PATIENCE)
    assert second.problem is None
    assert breaches(store, ENDED, CUT_OFF) == []


def written(uri: str, metric: str) -> int:
    with sqlite3.connect(f"file:{uri.removeprefix('sqlite:///')}?mode=ro", uri=True) as database:
        (count,) = database.execute("select count(*) from metrics where key = ?", [metric]).fetchone()
    database.close()
    return int(count)


@pytest.mark.parametrize("healer", ["the search", "sync"])
def test_runs_that_a_server_made_when_nobody_waited_any_more_are_put_away(
    search: Search, store: str, healer: str
) -> None:
    """A second run of a trial and of the search, as a request leaves them that was given up and repeated."""
    tracker = Told(store)
    tracker.start(search)
    tracker.track(ENDED[:2])
    wait_until(lambda: written(store, "best_val_f1") == 2)
    client = MlflowClient(store)
    shelf = client.get_experiment_by_name("garbage").experiment_id
    twins = client.search_runs([shelf], f"params.unfreeze = '{ENDED[1].config.unfreeze}'")
    twins += [run for run in client.search_runs([shelf]) if "tune_tl.trial" not in run.data.tags]
    assert len(twins) == 2
    for run in twins:
        client.create_run(shelf, run.info.start_time, run.data.tags)
    if healer == "the search":
        tracker.track(ENDED[2:])
        tracker.finish(findings(search))
        tracker.close(PATIENCE)
        assert breaches(store, ENDED) == []
    else:
        tracker.close(PATIENCE)
        complete(store)


def test_a_person_is_told_by_no_trial(search: Search, free_port: Callable[[], int]) -> None:
    threads: list[threading.Thread] = []
    tracker = Tracker(
        f"http://127.0.0.1:{free_port()}", lambda line: threads.append(threading.current_thread())
    )
    tracker.start(search)
    tracker.begin(config(0))
    wait_until(lambda: threads)
    tracker.close()
    assert threading.main_thread() not in threads


MAKE = """
import os, sys
import mlflow
from tune_tl.tracking.runs import Runs
for uri in sys.stdin:
    if child := os.fork():  # for each store a process of its own, with all imported
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        Runs(uri.strip(), "x").create("run", {}, 0)
        os._exit(0)
"""


@pytest.fixture
def maker() -> Iterator[subprocess.Popen[str]]:
    command, pipe = [sys.executable, "-c", MAKE], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.communicate()


def test_a_store_that_was_being_made_when_its_process_was_killed_is_made_again(
    tmp_path: Path, maker: subprocess.Popen[str]
) -> None:
    assert maker.stdin and maker.stdout

    def make(file: Path, kill_at: float | None = None) -> None:
        """Killed once the store has so many bytes, if it comes so far."""
        file.parent.mkdir(exist_ok=True)
        maker.stdin.write(f"sqlite:///{file}\n")
        maker.stdin.flush()
        process = int(maker.stdout.readline())
        while kill_at is not None and not select.select([maker.stdout], [], [], 0.002)[0]:
            if file.exists() and file.stat().st_size >= kill_at:
                os.kill(process, signal.SIGKILL)
                break
        code = int(maker.stdout.readline())
        assert code == 0 if kill_at is None else code in (0, -signal.SIGKILL)

    whole = tmp_path / "whole.db"
    make(whole)
    for n in range(3):
        file = tmp_path / str(n) / "mlflow.db"
        make(file, whole.stat().st_size * (n + 1) / 4)
        check(f"sqlite:///{file}")
        make(file)
        assert {path.name for path in file.parent.iterdir()} <= {"mlflow.db", "mlruns"}
