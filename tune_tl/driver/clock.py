"""The time of a search: it counts on over all of its runs, and nobody can set it."""

from __future__ import annotations

import time

from tune_tl.record.ledger import Past


class SearchClock:
    """Seconds since the search's start, those of earlier runs of it included."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), 0.0

    def __call__(self) -> float:
        return self._before + time.monotonic() - self._began

    def go_on_from(self, past: Past) -> None:
        self._before = past.elapsed_s
