"""Waiting for what other processes and threads do."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 240.0  # the longest that one command may take on a busy machine


def wait_until(
    holds: Callable[[], object], what: str = "what was waited for", seconds: float = SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
