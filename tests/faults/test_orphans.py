"""What a killed run left running is ended before the search goes on, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.hunt import Hunt, sigkill
from support.invariant import Seen
from support.place import TWO_AT_A_TIME, Place
from support.processes import carrying, of_last_run
from support.waiting import wait_until
from tune_tl.tuning.orphans import FILE, VARIABLE, end_left, marked, new_mark

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that live until the test ends, if nothing ends them before."""
    started = []

    def run(*command: str, mark: str | None = None, user: int | None = None) -> subprocess.Popen[bytes]:
        env = os.environ | ({VARIABLE: mark} if mark else {})
        process = subprocess.Popen(command or ("sleep", "600"), env=env, user=user)
        started.append(process)
        # Until it has the program that was asked for, it is a copy of this one.
        wait_until(lambda: mark is None or process.pid in carrying(f"{VARIABLE}={mark}"), "the start")
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_processes_with_the_mark_that_the_folder_keeps_are_ended(tmp_path: Path, start: Start) -> None:
    mark = new_mark()
    assert end_left(tmp_path, mark) == 0  # a new search
    left = [start(mark=mark) for _ in range(3)]
    deaf = start("sh", "-c", "trap '' TERM INT HUP; while :; do sleep 0.05; done", mark=mark)
    # What the last one starts is ended too, and may or may not be there when they are counted.
    assert end_left(tmp_path, new_mark()) >= 4
    assert {process.wait() for process in (*left, deaf)} == {-signal.SIGKILL}
    assert carrying(f"{VARIABLE}={mark}") == {}


def test_nobody_elses_processes_are(tmp_path: Path, start: Start) -> None:
    mark = new_mark()
    end_left(tmp_path, mark)
    mine = start(mark=mark)
    others = [start(), start(mark=new_mark()), start(mark=f"{mark}0"), start(mark=mark[:-1])]
    others.append(start("env", f"NOT_{VARIABLE}={mark}", "sleep", "600"))
    others.append(start("sh", "-c", f"sleep 600; # {VARIABLE}={mark}"))
    if os.geteuid() == 0:
        others.append(start(mark=mark, user=65534))
    assert end_left(tmp_path, new_mark()) == 1
    assert mine.wait() == -signal.SIGKILL
    assert [process.poll() for process in others] == [None] * len(others)


def test_a_run_ends_neither_itself_nor_what_it_has_started(tmp_path: Path, start: Start) -> None:
    mark = new_mark()
    end_left(tmp_path, mark)
    left = start(mark=mark)
    code = f"""
        import os, pathlib, subprocess
        from tune_tl.tuning.orphans import end_left, marked, new_mark
        with marked(ours := new_mark()):
            child = subprocess.Popen(["sleep", "600"])
        print(end_left(pathlib.Path({str(tmp_path)!r}), ours), child.poll())
        child.kill()
        """
    env = os.environ | {VARIABLE: mark}  # it was itself started by what the search had started
    run = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1 None\n"
    assert left.wait() == -signal.SIGKILL


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"0123456789abcdef", b"x" * 32])
def test_a_mark_that_was_damaged_marks_nothing(tmp_path: Path, start: Start, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    bystanders = [start(), start(mark="0123456789abcdef")]
    assert end_left(tmp_path, mark := new_mark()) == 0
    assert (tmp_path / FILE).read_text() == f"{mark}\n"
    assert [process.poll() for process in bystanders] == [None, None]


def test_only_what_is_started_in_the_context_is_marked(start: Start) -> None:
    with marked(mark := new_mark()):
        inside = start()
    outside = start()
    wait_until(lambda: inside.pid in carrying(f"{VARIABLE}={mark}"), "the mark")
    assert outside.pid not in carrying(f"{VARIABLE}={mark}")


RAY = """
import ray, sys
ray.init(include_dashboard=False, num_cpus=1, object_store_memory=100 << 20, log_to_driver=False)
@ray.remote
class Counter:
    n = 0
    def more(self):
        self.n += 1
        return self.n
counter = Counter.remote()
for _ in sys.stdin:
    print(ray.get(counter.more.remote()), flush=True)
"""


@pytest.mark.usefixtures("life")
def test_no_process_of_a_killed_driver_lives_on_beside_the_next(arena: Place) -> None:
    hunt = Hunt(arena.elsewhere("orphans"), TWO_AT_A_TIME)
    unrelated = subprocess.Popen(
        [sys.executable, "-c", RAY],
        env=arena.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert unrelated.stdin and unrelated.stdout

    def ask() -> str:
        unrelated.stdin.write("\n")
        unrelated.stdin.flush()
        return unrelated.stdout.readline()

    mark = ""
    beside: list[dict[int, str]] = []  # what the killed run had left, once the next one had the folder

    def look(age: float) -> None:
        if not beside and kept.read_text().strip() != mark:
            beside.append(carrying(f"{VARIABLE}={mark}"))

    try:
        assert ask() == "1\n"
        hunt.live(lambda age: sigkill if Seen.of(hunt.folder).epochs else None)
        mark = (kept := hunt.folder / FILE).read_text().strip()
        left = of_last_run(hunt.folder)
        for pid in left:  # most would go in a few seconds; stopped, they stay
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        assert any(name.startswith("ray::") for name in left.values())
        done = hunt.live(look)
        assert (done.code, done.err) == (0, "")
        assert beside == [{}]
        hunt.check_end()
        assert ask() == "2\n"
    finally:
        for pid in carrying(f"{VARIABLE}={mark}"):
            os.kill(pid, signal.SIGKILL)
        unrelated.kill()
        unrelated.communicate()
