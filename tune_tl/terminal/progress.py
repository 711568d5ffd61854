"""What a download says of itself on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

BAR_AFTER_S = 2.0


class Announcement:
    """One line to stderr when a download starts; on a terminal a bar as well, once it has lasted."""

    def __init__(self, name: str, host: str) -> None:
        self._name, self._host = name, host
        self._began: float | None = None
        self._bar: Progress | None = None
        self._done = 0
        self._total: int | None = None

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int | None, have: int) -> None:
        """A try begins `have` bytes into a file of `total` bytes (None: unknown)."""
        self._total, self._done = total, have
        if self._began is None:
            self._began = time.monotonic()
            size = f" ({megabytes(total)})" if total is not None else ""
            print(f"downloading {self._name}{size} from {self._host}", file=sys.stderr)

    def advance(self, count: int) -> None:
        self._done += count
        if self._bar is None and self._began is not None and time.monotonic() - self._began > BAR_AFTER_S:
            self._bar = _bar(self._name)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, total=self._total)


def _bar(name: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    # `disable` where stderr is no terminal: a log gets the one line only.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    bar.add_task(name, total=None)
    bar.start()
    return bar


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how many of how many images are done, and shows it; off a terminal, that it has begun."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        told: list[int] = []

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not told and not console.is_terminal:
                console.print(f"{what}: {total} images", markup=False)
            told.append(done)

        yield show
