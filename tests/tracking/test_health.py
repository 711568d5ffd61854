"""A glance at a store: what is wrong with it is known within seconds, and the glance changes nothing."""

from __future__ import annotations

import random
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tune_tl.tracking.health import Away, Unfit, check

ROOT = Path(__file__).parents[2]
PAGE = 4096
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda whole: whole[: len(whole) // 2],
    "its last page gone": lambda whole: whole[:-PAGE],
    "its header alone": lambda whole: whole[:100],
    "an overwritten header": lambda whole: random.Random(0).randbytes(100) + whole[100:],
    "zeros, as a lost power leaves": lambda whole: bytes(len(whole)),
    "random bytes": lambda whole: random.Random(0).randbytes(len(whole)),
    "a text": lambda whole: b"not a database\n" * 999,
    "a short text": lambda whole: b"{}",
    "half of one in WAL mode": lambda whole: whole[:18] + b"\2\2" + whole[20 : len(whole) // 2],
}


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> Path:
    return Path(shutil.copy(migrated, tmp_path / "mlflow.db"))


def uri(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_database_is_recognised_and_stays_as_it_is(store: Path, how: str) -> None:
    content = DAMAGE[how](store.read_bytes())
    store.write_bytes(content)
    with pytest.raises(Unfit, match="it is damaged"):
        check(uri(store))
    assert store.read_bytes() == content
    assert list(store.parent.iterdir()) == [store]


def test_whichever_page_is_overwritten(store: Path) -> None:
    whole = store.read_bytes()
    chance = random.Random(0)
    for start in range(0, len(whole), PAGE):
        store.write_bytes(whole[:start] + chance.randbytes(PAGE) + whole[start + PAGE :])
        with pytest.raises(Unfit, match="it is damaged"):
            check(uri(store))


def test_a_database_of_something_else_is_not_mlflows(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "photos.db") as other:
        other.execute("CREATE TABLE albums (name)")
    other.close()
    with pytest.raises(Unfit, match=r"not MLflow's \(albums\)"):
        check(uri(tmp_path / "photos.db"))


def test_a_store_that_is_well_empty_or_to_be_made_is_fit(store: Path) -> None:
    check(uri(store))
    store.write_bytes(b"")
    check(uri(store))
    check(uri(store.parent / "not yet" / "mlflow.db"))
    assert list(store.parent.iterdir()) == [store]


def test_a_store_in_wal_mode_is_fit_and_nothing_is_laid_beside_it(store: Path) -> None:
    database = sqlite3.connect(store)
    assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    database.close()
    check(uri(store))
    assert list(store.parent.iterdir()) == [store]


def test_a_kill_in_the_middle_of_a_transaction_is_mlflows_to_roll_back(store: Path) -> None:
    code = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("CREATE TABLE half (name)")
database.executemany("INSERT INTO half VALUES (?)", [("x" * 4000,)] * 100)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(store)], check=False)
    before = {file: file.read_bytes() for file in store.parent.iterdir()}
    assert store.with_name("mlflow.db-journal") in before
    check(uri(store))
    assert {file: file.read_bytes() for file in store.parent.iterdir()} == before


def test_what_is_no_file_that_can_be_written_may_become_one(store: Path) -> None:
    with pytest.raises(Away, match="no file"):
        check(uri(store.parent))
    with pytest.raises(Away, match="no folder"):
        check(uri(store / "mlflow.db"))


def test_a_disk_that_takes_no_writes(store: Path) -> None:
    folder = shlex.quote(str(store.parent))
    mount = f'mount --bind -o ro {folder} {folder} && exec "$@"'
    alone = ["unshare", "-m", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*alone, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount a folder read-only")
    code = "import sys; from tune_tl.tracking.health import check; check(sys.argv[1])"
    for file in (store, store.with_name("new.db")):
        command = [*alone, sys.executable, "-c", code, uri(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "Away: " in done.stderr
        assert "can be written" in done.stderr


def test_a_database_that_another_process_has_locked(store: Path) -> None:
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    with pytest.raises(Away, match="locked"):
        check(uri(store))
    assert time.monotonic() - begun < 5
    other.close()
    check(uri(store))


def test_a_server_that_hangs_or_is_not_there_is_known_within_five_seconds(
    free_port: Callable[[], int],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for address, why in (
            (f"http://127.0.0.1:{port}", "timed out"),
            (f"http://127.0.0.1:{free_port()}", "refused"),
            ("http://no-such-host.invalid:5000", "."),
        ):
            begun = time.monotonic()
            with pytest.raises(Away, match=why):
                check(address)
            assert time.monotonic() - begun < 5


def test_any_answer_of_a_server_will_do() -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_large_store_costs_no_more_than_a_second(store: Path) -> None:
    with store.open("r+b") as file:
        file.truncate(2**33)  # a hole: nothing is written
    begun = time.monotonic()
    check(uri(store))
    assert time.monotonic() - begun < 1


def test_a_glance_imports_no_mlflow(store: Path) -> None:
    code = """
import sys
from tune_tl.tracking.health import Away, check
check(sys.argv[1])
try:
    check("http://127.0.0.1:9")
except Away:
    print("mlflow" in sys.modules)
"""
    command = [sys.executable, "-c", code, uri(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
