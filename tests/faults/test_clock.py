"""A clock that jumps while a search runs: nobody's time of day decides anything."""

from __future__ import annotations

import time
from itertools import pairwise

from support.invariant import Seen, breaches
from support.place import TWO_AT_A_TIME, Place

# Python runs it as it starts, in the driver and in Ray's workers alike.
JUMPING = """
import time
now, start = time.time, time.monotonic()
JUMPS = ((6, 1), (14, -3))  # seconds after the start, days
time.time = lambda: now() + 86400 * sum(days for after, days in JUMPS if time.monotonic() > start + after)
"""
BUDGET_S = 25.0


def test_a_search_keeps_to_its_budget_though_the_clock_jumps_by_days(arena: Place) -> None:
    where = arena.elsewhere("jumping")
    (where.folder / "sitecustomize.py").write_text(JUMPING)
    begun = time.monotonic()
    done = where.run("--budget", f"{BUDGET_S:g}s", *TWO_AT_A_TIME, PYTHONPATH=str(where.folder))
    took = time.monotonic() - begun
    assert (done.code, done.err) == (0, ""), done
    assert took > BUDGET_S  # and not for days: `run` waits for minutes
    assert breaches(Seen.of(where.folder / "runs/tiny")) == []
    times = [row["t"] for row in where.rows("tiny", "ledger.jsonl")]
    assert all(0 <= earlier <= later < took for earlier, later in pairwise([0.0, *times]))
    assert max(times) > BUDGET_S / 2
