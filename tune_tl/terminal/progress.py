"""How far something is that takes a while: a bar on a terminal, one line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

BAR_AFTER_S = 2.0

ShowProgress = Callable[[int, int], None]  # images done, images in all


class UpdateBar(Protocol):
    def __call__(self, done: int, total: int | None, text: str = ...) -> None: ...


@contextmanager
def bar(console: Console, text: str, *columns: ProgressColumn) -> Iterator[UpdateBar]:
    """A bar that is gone when the context ends; off a terminal nothing. The columns follow `text`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = columns or (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    off = not console.is_terminal
    with Progress("{task.description}", *columns, console=console, transient=True, disable=off) as shown:
        task = shown.add_task(text, total=None)

        def update(done: int, total: int | None, text: str = text) -> None:
            shown.update(task, completed=done, total=total, description=text)

        yield update


@contextmanager
def progress(console: Console, what: str, line: str = "") -> Iterator[ShowProgress]:
    """Takes how many of how many images are done, and shows it; off a terminal, that it has begun: `line`."""
    with bar(console, what) as update:
        begun = False

        def show(done: int, total: int) -> None:
            nonlocal begun
            update(done, total)
            if not begun and not console.is_terminal:
                console.print(line or f"{what}: {total} images", markup=False)
            begun = True

        yield show


class Announcement:
    """One line to stderr when a download starts; on a terminal a bar as well, once it has lasted."""

    def __init__(self, name: str, host: str) -> None:
        self._name, self._host = name, host
        self._began: float | None = None
        self._shown = ExitStack()
        self._update: UpdateBar | None = None
        self._done = 0
        self._total: int | None = None

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def start(self, total: int | None, have: int) -> None:
        """A try begins `have` bytes into a file of `total` bytes (None: unknown)."""
        self._total, self._done = total, have
        if self._began is None:
            self._began = time.monotonic()
            size = f" ({megabytes(total)})" if total is not None else ""
            print(f"downloading {self._name}{size} from {self._host}", file=sys.stderr)

    def advance(self, count: int) -> None:
        self._done += count
        if self._update is None and self._began is not None and time.monotonic() - self._began > BAR_AFTER_S:
            self._update = self._shown.enter_context(_download_bar(self._name))
        if self._update is not None:
            self._update(self._done, self._total)


def _download_bar(name: str) -> AbstractContextManager[UpdateBar]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    # Off a terminal none, even where colours are forced: a log gets the one line only.
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    return bar(console, name, *columns)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
