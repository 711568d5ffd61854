"""A clock that jumps while a search runs: nobody's time of day decides anything."""

from __future__ import annotations

import time
from itertools import pairwise

from support.invariant import Seen, breaches
from support.place import TWO_AT_A_TIME, Place, finish
from support.waiting import wait_until

# Python runs it as it starts, in the driver and in Ray's workers alike: the clock goes forward by a day when
# one file appears, and back by three when the other does.
JUMPING = """
import os.path, time
now, there, folder = time.time, os.path.exists, os.path.dirname(__file__)
time.time = lambda: now() + 86400 * (there(folder + "/forward") - 3 * there(folder + "/back"))
"""


def test_a_search_keeps_to_its_budget_though_the_clock_jumps_by_days(arena: Place, life: float) -> None:
    where = arena.elsewhere("jumping")
    (where.folder / "sitecustomize.py").write_text(JUMPING)
    record = where.folder / "runs/tiny"
    budget = max(15.0, 1.2 * life)  # time for some epochs, however busy this machine is
    begun = time.monotonic()
    command = where.command("--budget", f"{budget:.0f}s", *TWO_AT_A_TIME)
    process = where.start(command, PYTHONPATH=str(where.folder))
    for epochs, jump in ((1, "forward"), (3, "back")):
        wait_until(lambda n=epochs: len(Seen.of(record).epochs) >= n or process.poll() is not None, "epochs")
        (where.folder / jump).touch()
    jumped = len(Seen.of(record).epochs)
    done = finish(process)
    took = time.monotonic() - begun
    assert (done.code, done.err) == (0, ""), done
    assert took > budget  # and not for days: `finish` waits for minutes
    assert breaches(Seen.of(record)) == []
    assert len(Seen.of(record).epochs) > jumped >= 3
    times = [row["t"] for row in where.rows("tiny", "ledger.jsonl")]
    assert all(0 <= earlier <= later < took for earlier, later in pairwise([0.0, *times]))
    assert max(times) > budget / 2
