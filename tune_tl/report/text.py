"""The leaderboard for a terminal: rich renderables that stay readable at 80 columns and without colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tune_tl.experiment import State, TrialConfig
from tune_tl.results import comparison
from tune_tl.results.comparison import By
from tune_tl.results.ranking import Leaderboard, Row, unit
from tune_tl.results.scores import TestScore
from tune_tl.terminal.durations import amount, in_words

BANNER = "drawn sample images, not photographs"
WIDE = 118  # columns from which the ranked trials show everything on one line each
TABLE = 72  # columns from which tables lose nothing; below, each row is a few lines


def text(board: Leaderboard, by: By | str = By.STRATEGY, top: int | None = None) -> RenderableType:
    """The search, its ranked trials (the `top` best of them), those without a score, and the comparison."""
    parts: list[RenderableType] = [heading(board)]
    if board.rows:
        parts += ["", Ranked(board.rows[:top])]
    if top is not None and len(board.rows) > top:
        parts.append(Text(f"… and {len(board.rows) - top} more, all of them in leaderboard.csv", style="dim"))
    if board.unranked:
        parts += ["", unranked(board)]
    if board.rows or board.unranked:
        title = f"By {'transfer strategy' if By(by) is By.STRATEGY else by}"
        parts += ["", groups(comparison.compare(board, By(by)), title)]
    if verdict := comparison.verdict(board):
        parts += ["", Text(verdict, style="bold")]
    return Group(*parts, "", *(Text(line, style="dim") for line in notes(board)))


def searches(boards: Iterable[Leaderboard]) -> RenderableType:
    """Several searches side by side."""
    boards = list(boards)
    table = groups(comparison.compare_searches(boards), "By search")
    if len({board.about.dataset.get("fingerprint") for board in boards}) > 1:
        note = "Not all searches saw the same images: compare scores only within one dataset."
        return Group(table, Text(note, style="dim"))
    return table


def heading(board: Leaderboard) -> Text:
    """Four lines: the search, the dataset, the champion, its scores."""
    about, dataset = board.about, board.about.dataset
    line = Text(about.name or "search", style="bold")
    trials = len(board.rows) + len(board.unranked)
    facts = [f"{trials} trial{'s' * (trials != 1)}", f"{board.failed} failed" if board.failed else ""]
    facts += [f"{len(board.unfinished)} unfinished" if board.unfinished else "", about.strategy]
    facts += [in_words(about.wall_s) if about.wall_s is not None else ""]
    line.append("  " + " · ".join(filter(None, facts)), style="not bold")
    if dataset:
        counts = [f"{dataset[k]} {k}" for k in ("images", "classes") if k in dataset]
        line.append(f"\n{dataset.get('name', 'dataset')}: ", style="not bold")
        line.append(", ".join([*counts, str(dataset.get("source", ""))]).strip(", "), style="not bold")
    if about.drawn:
        line.append(f"  ! {BANNER}", style="bold red")
    if champion := board.champion:
        test = f", test F1 {interval(champion.test)}" if champion.test else ""
        line.append(f"\nchampion {champion.trial}: ", style="bold green")
        line.append(f"{champion.config.in_words}\nval F1 {champion.val_f1:.3f}{test}", style="not bold")
    else:
        line.append("\nno trial has a score yet", style="bold")
    return line


@dataclass(frozen=True)
class Ranked:
    """The ranked trials; a narrow terminal drops what other columns or tables say too."""

    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < TABLE:
            yield from map(self._lines, self.rows)
        else:
            yield self._wide() if options.max_width >= WIDE else self._narrow()

    def _lines(self, row: Row) -> Text:
        config, result = row.config, row.result
        test = f"\n  test F1 {interval(row.test)}" if row.test else ""
        epochs = f"{len(result.epochs)} epoch{'' if len(result.epochs) == 1 else 's'}"
        spent = f"{epochs}, {amount(result.cost)} {unit(result)}, {result.state.value}"
        said = f"{row.rank} {row.trial}  val F1 {row.val_f1:.3f}{test}\n  {config.in_words}\n  {spent}"
        return Text(said, style="bold" if row.rank == 1 else "")

    def _wide(self) -> Table:
        titles = ("#>", "trial", "backbone", "unfreeze>", "transfer strategy", "val F1>", "test F1 [95 %]")
        table = _table(*titles)
        table.add_column("epochs", justify="right", no_wrap=True)
        table.add_column(f"cost ({_unit(self.rows)})", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for row in self.rows:
            config, result = row.config, row.result
            table.add_row(
                *(str(row.rank), row.trial, config.backbone, str(config.unfreeze), row.transfer.value),
                *(f"{row.val_f1:.3f}", interval(row.test), str(len(result.epochs))),
                *(amount(result.cost), result.state.value),
                style="bold" if row.rank == 1 else None,
            )
        return table

    def _narrow(self) -> Table:
        # The strategy follows from `unfreeze` and stands in the comparison; a completed trial needs no word.
        table = _table("#>", "trial", "backbone", "unfreeze>", "val F1>", "test F1")
        table.add_column("epochs")
        table.add_column(_unit(self.rows), justify="right", no_wrap=True)
        for row in self.rows:
            unfreeze = _unfreeze(row.config)
            test = interval(row.test).replace(" ", "\n", 1)
            stopped = "" if row.result.state is State.COMPLETED else f" {row.result.state.value}"
            table.add_row(
                *(str(row.rank), row.trial, row.config.backbone, unfreeze, f"{row.val_f1:.3f}", test),
                *(f"{len(row.result.epochs)}{stopped}", amount(row.result.cost)),
                style="bold" if row.rank == 1 else None,
            )
        return table


@dataclass(frozen=True)
class Fitting:
    """A table, or on a terminal too narrow for it the same in lines."""

    table: Table
    title: str
    lines: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= TABLE:
            yield self.table
        else:
            yield Text(self.title, style="bold")
            yield from map(Text, self.lines)


def unranked(board: Leaderboard) -> Fitting:
    """The trials without a score, and why."""
    lines = []
    table = _table("trial", "backbone", "unfreeze>", "state", title="Without a score")
    table.add_column("reason", overflow="fold")
    for each in board.unranked:
        config = each.result.config
        table.add_row(
            *(each.result.trial, config.backbone, _unfreeze(config), each.result.state.value),
            Text(each.reason),  # not markup: a reason may hold [brackets]
        )
        lines.append(f"{each.result.trial} {each.result.state.value}: {config.in_words}\n  {each.reason}")
    return Fitting(table, "Without a score", lines)


def groups(rows: Sequence[comparison.Group], title: str) -> Fitting:
    """A comparison: a label's line sums up the indented ones below it."""
    units = list(dict.fromkeys(unit for row in rows for unit in row.cost))
    cost = units[0] if len(units) == 1 else "cost"
    table = _table("", "scored>", "best>", "median>", f"{cost}>", "test F1 [95 %]", title=title)
    table.columns[0].overflow, table.columns[0].no_wrap = "fold", False
    parts = Counter(row.label for row in rows if row.part)
    lines = []
    for row in rows:
        if row.part and parts[row.label] == 1 and sum(r.label == row.label for r in rows) == 2:
            continue  # says what the line above it says
        nested = parts[row.label] > 1
        name = f"  {row.part}" if nested and row.part else row.label
        only = next((r.part for r in rows if r.label == row.label and r.part), "")
        if not nested and only:
            name += f" ({only})"
        spent = amount(sum(row.cost.values())) if len(units) == 1 else costs(row.cost)
        table.add_row(
            *(Text(name), f"{row.trials - row.unranked} of {row.trials}"),
            *(f1(row.best), f1(row.median), spent, interval(row.test)),
            style="bold" if nested and not row.part else None,
        )
        below = [f"best {f1(row.best)}, median {f1(row.median)}"]
        below += [f"test F1 {interval(row.test)}"] if row.test else []
        below.append(f"{row.trials - row.unranked} of {row.trials} scored, {costs(row.cost)}")
        lines.append(f"\n{'    ' if nested and row.part else '  '}".join([name, *below]))
    return Fitting(table, title, lines)


def notes(board: Leaderboard) -> list[str]:
    """What a reader must know to read the numbers honestly."""
    if not board.rows:
        return []
    rule = "F1 is macro-F1. Validation ranks; test is scored once, for the best of each transfer strategy."
    champion = board.rows[0].test
    gap = f"There is {absent}." if champion and (absent := without_images(champion)) else None
    return [rule, *filter(None, [gap, caution(board)])]


def _unfreeze(config: TrialConfig) -> str:
    return str(config.unfreeze) if config.pretrained else "scratch"


def caution(board: Leaderboard) -> str | None:
    """A warning where another finalist does as well or better on test, which chooses no champion."""
    said = []
    tested = [row for row in board.finalists if row.test and row.test.may_be_ahead]
    ahead = [row.transfer.value for row in tested if row.test and row.test.is_ahead]
    close = [row.transfer.value for row in tested if row.transfer.value not in ahead]
    if ahead:
        said.append(f"On test {' and '.join(ahead)} is ahead of the champion, which validation chose.")
    if close:
        said.append(f"So few test images cannot tell the champion from {' and '.join(close)}.")
    return " ".join(said) or None


def without_images(test: TestScore) -> str:
    """The classes that have no test image, in a line; empty without any."""
    return f"no test image of {', '.join(test.absent)}, which macro-F1 leaves out" if test.absent else ""


def interval(test: TestScore | None) -> str:
    return f"{test.f1:.3f} [{test.ci[0]:.2f}, {test.ci[1]:.2f}]" if test else ""


def f1(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def costs(cost: Mapping[str, float]) -> str:
    return " + ".join(f"{amount(value)} {unit}" for unit, value in cost.items())


def _unit(rows: Sequence[Row]) -> str:
    return "/".join(dict.fromkeys(unit(row.result) for row in rows))


def _table(*columns: str, title: str | None = None) -> Table:
    """A table with `columns`; a name that ends in `>` aligns right."""
    style: dict[str, Any] = {"title_justify": "left", "title_style": "bold"}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, title=title, **style)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.endswith(">") else "left"
        fold = name == "backbone"  # may wrap, never lose its end: lite0 and lite1 differ there
        table.add_column(
            name.rstrip(">"), justify=justify, no_wrap=not fold, overflow="fold" if fold else "ellipsis"
        )
    return table
