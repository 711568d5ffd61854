"""The disk that a search writes to is full: at any write it stops with a clear line, and goes on later."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.invariant import Seen, breaches, lost
from support.place import TWO_AT_A_TIME, Done, Place, finish
from support.waiting import wait_until

TRIALS, EPOCHS = 3, 3


class SmallDisk:
    """A disk of `size` bytes of its own under the search's output folder, and a way to run commands there."""

    def __init__(self, place: Place, size: int) -> None:
        self.place = place
        runs = place.folder / "runs"
        runs.mkdir()
        mount = f'mount -t tmpfs -o size={size} none "$1" && echo mounted && exec sleep 1000'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", mount, "sh", str(runs)], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != "mounted\n":
            self.close()
            pytest.skip("needs to mount a disk of its own")
        self.runs = Path(f"/proc/{self._holder.pid}/root{runs}")
        self.folder = self.runs / "tiny"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        size = ("--trials", str(TRIALS), "--epochs", str(EPOCHS))
        command = self.place.command(*size, *TWO_AT_A_TIME, *arguments)
        there = [*self._inside, "env", "-C", str(self.place.folder), *command]
        return self.place.start(there)

    def fill(self, but: int = 0) -> None:
        """To the last byte, or until `but` bytes are left, as it is now."""
        left = os.statvfs(self.runs).f_bavail * os.statvfs(self.runs).f_frsize - but
        with contextlib.suppress(OSError), (self.runs / "ballast").open("ab", buffering=0) as file:
            while left > 0:
                left -= file.write(bytes(min(left, 1 << 20)))

    def grow(self) -> None:
        (self.runs / "ballast").unlink(missing_ok=True)
        remount = ["mount", "-o", "remount,size=1g", str(self.place.folder / "runs")]
        subprocess.run([*self._inside, *remount], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-m"]


@contextlib.contextmanager
def disk(arena: Place, name: str, size: int) -> Iterator[SmallDisk]:
    made = SmallDisk(arena.elsewhere(name), size)
    try:
        yield made
    finally:
        made.close()


def require_clear(done: Done) -> None:
    """The command said what is wrong, and did not end as if all were well."""
    assert done.code == 2, done
    assert "Traceback" not in done.out + done.err
    *_, said = done.err.splitlines()
    assert said.startswith("error: ")
    assert "a disk is full" in said


def require_goes_on(small: SmallDisk, before: Seen) -> None:
    small.grow()
    begun = (small.folder / "search.json").exists()
    done = finish(small.start(*(["--resume"] if begun else ["--name", "tiny"])))
    assert done.code == 0, done
    after = Seen.of(small.folder)
    assert lost(before, after) == []
    assert breaches(after, trials=TRIALS) == []


@pytest.mark.parametrize("lines", [1, 4])
def test_a_disk_that_fills_up_ends_the_search_which_goes_on_later(arena: Place, lines: int) -> None:
    with disk(arena, f"full after {lines}", 256 << 20) as small:
        process = small.start()
        wait_until(lambda: len(Seen.of(small.folder).epochs) >= lines, "epochs on record")
        # Again and again: a search that goes on removes weights, and has room.
        wait_until(lambda: small.fill() or process.poll() is not None, "its end on a full disk")
        done = finish(process)
        before = Seen.of(small.folder)
        require_clear(done)
        assert "every finished epoch is kept. Go on with:" in done.out
        require_goes_on(small, before)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_disk_that_is_full_at_any_write(arena: Place, dice: random.Random) -> None:
    for attempt in range(12):
        size = int(4096 * 2 ** dice.uniform(0, 11))  # to 8 MB
        with disk(arena, f"full {attempt}", size) as small:
            done = finish(small.start("--name", "tiny"))
            print(f"{size} bytes: exit {done.code}")
            before = Seen.of(small.folder)
            if done.code:
                require_clear(done)
            require_goes_on(small, before) if done.code else None
