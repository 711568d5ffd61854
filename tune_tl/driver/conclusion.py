"""What a search ends with: one look at the test split, `result.json`, the report, the last lines."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tune_tl.driver.observers import Observers
from tune_tl.experiment import Clock, Experiment, TrialResult
from tune_tl.preflight.ready import Ready
from tune_tl.record.book import Book
from tune_tl.record.json_files import ResultFacts, versions
from tune_tl.report import page
from tune_tl.report.text import text
from tune_tl.results.importance import importances
from tune_tl.results.loading import load
from tune_tl.results.ranking import finalists
from tune_tl.tracking.description import Conclusion
from tune_tl.tracking.store import how_to_open
from tune_tl.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from tune_tl.results.finals import Finals

SHOWN = 10  # trials in the terminal at the end; the page has all


def conclude(
    experiment: Experiment, ready: Ready, observers: Observers, clock: Clock, console: Console
) -> int:
    """Score the finalists on test, write and show the leaderboard; the program's exit code."""
    folder, book = experiment.folder, Book.read(experiment.folder)
    final = finalists(book.ended)
    doing = f"scoring {len(final)} finalist(s) on {ready.dataset.count('test')} test images"
    if final and not console.is_terminal:
        console.print(doing)
    with console.status(doing) as status:
        finals = _scored(experiment, ready, final, console)
        status.update("drawing the report")
        facts = _facts(book, ready, final, finals, wall_s=round(clock(), 1))
        if finals.look:
            finals.look.write(folder, ready.dataset.classes)
        facts.write(folder)
        board = load(folder, book)
        page.write(folder, board)
    observers.tracker.finish(Conclusion.of(facts, page.report_files(folder)))
    console.print(text(board, top=SHOWN))
    observers.tracker.close()
    if final:
        _show_places(folder, observers, console)
        return 0
    if observers.tracker.problem:
        console.print(Text(observers.tracker.problem), soft_wrap=True)
    reasons = (result.reason for result in book.ended if result.failed)
    first = next(reasons, "the budget ended before the first epoch did")
    console.print(Text(f"no trial finished: {first}", style="bold red"), soft_wrap=True)
    return 1


def _scored(experiment: Experiment, ready: Ready, final: Sequence[TrialResult], console: Console) -> Finals:
    # Read as torch is loaded: threads that wait for each other sleep, and leave the cores to those that
    # work (3 core-seconds for a score instead of 25 on a machine with other work).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from tune_tl.results.finals import score_finalists

    return score_finalists(
        final,
        ready.dataset,
        ready.pretrained,
        lambda trial: Checkpoints(experiment.checkpoints, trial),
        max(1, int(experiment.cpus_per_trial)),
        lambda line: console.print(line, soft_wrap=True, markup=False),
    )


def _facts(
    book: Book, ready: Ready, final: Sequence[TrialResult], finals: Finals, wall_s: float
) -> ResultFacts:
    facts = ResultFacts(
        trials=len(book.ended),
        failed=sum(result.failed for result in book.ended),
        wall_s=wall_s,
        dataset=ready.dataset.describe(),
        class_names=ready.dataset.classes,
        versions=versions(),
        test_scores={trial: score.to_dict() for trial, score in finals.test.items()},
        train_scores={trial: score.to_dict() for trial, score in finals.train.items()},
        importances=tuple(each.to_dict() for each in importances(book.ended, ready.space)),
        lines=len(book.lines),
    )
    if not final:
        return facts
    best, test = final[0], finals.test[final[0].trial]
    return replace(
        facts,
        champion=best.trial,
        val_f1=best.val_f1,
        test_f1=test.f1,
        test_f1_ci=test.ci,
        config=best.config.to_dict(),
    )


def _show_places(folder: Path, observers: Observers, console: Console) -> None:
    """Where the report, MLflow and TensorBoard are to be had."""
    problem, sync = observers.tracker.problem, observers.search.sync_command
    below = f"complete it with {sync}" if problem else observers.tracker.page
    folder = _short(folder)
    logs = f"tensorboard --logdir {shlex.quote(f'{folder}/tensorboard')}"
    rows = [
        ("page", f"{folder}/leaderboard.html"),
        ("MLflow", (problem or how_to_open(observers.uri)).removeprefix("MLflow ")),
        *([("", below)] if below and sync not in (problem or "") else []),
        ("TensorBoard", observers.events.problem or logs),
    ]
    for label, place in rows:
        console.print(Text.assemble((f"{label:12}", "bold"), place), soft_wrap=True)


def _short(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path
