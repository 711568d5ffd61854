"""What a person sees while a search runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_tl.errors import BadInput
from tune_tl.experiment import Clock, EpochMetrics, Experiment, Observer, TrialConfig, TrialResult
from tune_tl.record.book import Book
from tune_tl.record.ledger import Past
from tune_tl.terminal.durations import as_clock

LINE_EVERY_S = 20.0  # off a terminal: a line at most this often
NARROW = 60  # columns of a terminal below which running trials show less
BEST_EVERY_S = 2.0  # and for a new best, once the last line is this old


class Display(Observer):
    """Observes a search and shows running and finished trials, the best so far and the time left."""

    def __init__(
        self,
        experiment: Experiment,
        console: Console,
        clock: Clock,
        ends: float | None,
        past: Past,
    ) -> None:
        self._experiment = experiment
        self._console = console
        self._clock = clock
        self._ends = ends  # on that clock; None without a budget
        self._running: dict[str, tuple[TrialConfig, EpochMetrics | None]] = {}
        self._done = len(past.ended)  # trials that an earlier run finished count
        self._failed = sum(result.failed for result in past.ended)
        # The best epoch of each trial that has not failed.
        self._bests = {r.trial: (r.best.val_f1, r.config, r.best.epoch) for r in past.ended if r.best}
        for config, epochs in past.cut_off.items():
            self._better(config, epochs)
        self._notes = past.notes
        if past.ended or past.cut_off:
            self._notes = (f"going on with {experiment.name}: {_left(past, experiment)}", *self._notes)
        self._line_at = -LINE_EVERY_S
        self._lock = threading.Lock()  # the panel is drawn in rich's thread
        self._live = Live(
            get_renderable=self._panel,
            console=console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Display:
        for note in self._notes:
            self.say(note)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the panel away."""
        self._live.stop()

    def begin(self, config: TrialConfig) -> None:
        with self._lock:
            self._running[config.key] = (config, None)
        self._line(LINE_EVERY_S)

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        better = metrics.val_f1 > max((f1 for f1, _, _ in self._bests.values()), default=-1.0)
        with self._lock:
            self._running[config.key] = (config, metrics)
            self._better(config, [metrics])
        self._line(BEST_EVERY_S if better else LINE_EVERY_S)

    def end(self, result: TrialResult) -> None:
        with self._lock:
            self._running.pop(result.trial, None)
            self._done += 1
            if result.failed:
                self._failed += 1
                self._bests.pop(result.trial, None)
        if result.failed:
            text = Text(f"trial {result.trial} failed: {result.reason}", style="red")
            self._console.print(text, soft_wrap=True)
        self._line(LINE_EVERY_S)

    def _better(self, config: TrialConfig, epochs: Iterable[EpochMetrics]) -> None:
        for metrics in epochs:
            f1, _, epoch = self._bests.get(config.key, (-1.0, config, 0))
            if (config.settled(metrics.epoch), metrics.val_f1) > (config.settled(epoch), f1):
                self._bests[config.key] = (metrics.val_f1, config, metrics.epoch)

    def say(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def _line(self, every: float) -> None:
        t = self._clock()
        if self._console.is_terminal or t - self._line_at < every:
            return
        self._line_at = t
        self._console.print(self._progress(), highlight=False, markup=False, soft_wrap=True)

    def _progress(self) -> str:
        t = self._clock()
        experiment = self._experiment
        of = f" of {experiment.trials}" if experiment.trials else ""
        done = "trial" if self._done == 1 and not of else "trials"
        parts = [as_clock(t), f"{self._done}{of} {done} done", f"{len(self._running)} running"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._bests:
            f1, config, epoch = max(self._bests.values(), key=lambda best: best[0])
            parts.append(f"best val F1 {f1:.3f} ({config.in_words}, epoch {epoch})")
        if self._ends is not None:
            parts.append(f"{as_clock(max(0.0, self._ends - t))} left")
        return " · ".join(parts)

    def _panel(self) -> Group:
        with self._lock:
            table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
            width = self._console.width
            titles = ("epoch", "val F1", "loss", "images/s")[: 4 if width >= NARROW else 2]
            room = width - sum(len(title) + 1 for title in titles) - 1
            table.add_column("running", overflow="ellipsis", no_wrap=True, max_width=max(8, room))
            for title in titles:
                table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
            for config, metrics in self._running.values():
                numbers = (
                    (f"{metrics.val_f1:.3f}", f"{metrics.train_loss:.3f}", f"{metrics.images_per_s:.0f}")
                    if metrics
                    else ("", "", "")
                )
                cells = (f"{metrics.epoch if metrics else 0}/{config.epochs}", *numbers)
                table.add_row(config.in_words, *cells[: len(table.columns) - 1])
            bar = Padding(self._bar(), 0)  # a bar alone ends no line
            return Group(bar, Text(self._progress()), table)

    def _bar(self) -> ProgressBar:
        experiment = self._experiment
        shares = [self._clock() / self._ends] if self._ends else []
        shares += [self._done / experiment.trials] if experiment.trials else []
        completed = min(1.0, max(shares, default=0.0))
        return ProgressBar(total=1.0, completed=completed, width=min(60, self._console.width))


@contextlib.contextmanager
def going_on(console: Console, command: str, folder: Path) -> Iterator[None]:
    """Whatever cuts the search in `folder` off, say what is done and what to type to go on."""
    try:
        yield
    except BadInput:
        raise
    except BaseException as error:
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        console.print(f"{what}; {_kept(folder)}. Go on with:", style="bold", soft_wrap=True)
        console.print(command, soft_wrap=True, markup=False)
        raise


def _kept(folder: Path) -> str:
    """How much is done, by the record: `3 trials done, 2 cut off; every finished epoch is kept`."""
    try:
        book = Book.read(folder)
    except (BadInput, OSError):  # of which the command that goes on will tell
        return "what is on record is kept"
    if not book.lines:
        return "no epoch was finished yet"
    return f"{_done(len(book.ended), len(book.unfinished))}; every finished epoch is kept"


def _done(ended: int, cut_off: int) -> str:
    """`3 trials done, 2 cut off`."""
    return f"{ended} trial{'' if ended == 1 else 's'} done" + (f", {cut_off} cut off" if cut_off else "")


def _left(past: Past, experiment: Experiment) -> str:
    """What a resumed search has and has to do: `3 trials done, 1 cut off, 9 epochs kept; left: 2 trials`."""
    kept = sum(len(result.epochs) for result in past.ended) + sum(map(len, past.cut_off.values()))
    said = f"{_done(len(past.ended), len(past.cut_off))}, {kept} epoch{'' if kept == 1 else 's'} kept"
    left = []
    if experiment.trials:
        more = max(0, experiment.trials - len(past.ended))
        left.append(f"{more} trial{'' if more == 1 else 's'}")
    if (ends := past.ends_at(experiment.budget_s)) is not None:
        left.append(as_clock(max(0.0, ends - past.elapsed_s)))
    return f"{said}; left: {', at most '.join(left)}" if left else said
