"""Everything that is written down about a search while it runs, and the conclusion drawn from it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tune_tl.experiment import TEST_F1, VAL_F1, Clock, Experiment, Observer, TrialResult
from tune_tl.preflight.ready import Ready
from tune_tl.record import ledger
from tune_tl.record.facts import RESULT_FILE, SEARCH_FILE, versions
from tune_tl.record.ledger import Past
from tune_tl.report import page
from tune_tl.report.text import text
from tune_tl.results import loading
from tune_tl.results.importance import importances
from tune_tl.results.look import PREDICTIONS_FILE
from tune_tl.results.ranking import finalists
from tune_tl.storage.files import write_json
from tune_tl.tracking.store import how_to_open, same_store
from tune_tl.tracking.tensorboard import EventFiles
from tune_tl.tracking.tracker import Findings, Search, Tracker
from tune_tl.training.checkpoint import Checkpoints

SHOWN = 10  # trials in the terminal at the end; the page has all


class Record(contextlib.ExitStack):
    """The ledger first, then what can be made from it: kept weights, MLflow, TensorBoard."""

    def __init__(
        self,
        experiment: Experiment,
        ready: Ready,
        past: Past,
        clock: Clock,
        console: Console,
    ) -> None:
        super().__init__()
        self.experiment, self.ready, self.clock = experiment, ready, clock
        folder = experiment.folder
        facts = json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))
        self._uri = same_store(facts["tracking_uri"], experiment.tracking_uri)
        self._search = Search.of(folder, facts)
        self._tracker = Tracker(self._uri, lambda line: console.print(Text(line), soft_wrap=True))
        self._tracker.start(self._search)
        self.callback(self._tracker.close)
        for result in past.ended:
            self._tracker.end(result)
        for config, epochs in past.cut_off.items():
            for metrics in epochs:
                self._tracker.epoch(config, metrics)
        book = ledger.Ledger(folder, clock)
        self.callback(book.close)
        self._events = EventFiles(folder / "tensorboard")
        kept = KeptWeights(experiment.checkpoints, past.ended)
        self.observers: tuple[Observer, ...] = (book, kept, self._tracker, self._events)

    def conclude(self, console: Console) -> int:
        """Score the finalists on test, write and show the leaderboard; the program's exit code."""
        folder = self.experiment.folder
        results = ledger.read(folder)
        final = finalists(results)
        doing = f"scoring {len(final)} finalist(s) on {self.ready.dataset.count('test')} test images"
        if final and not console.is_terminal:
            console.print(doing)
        with console.status(doing) as status:
            # Read as torch is loaded: threads that wait for each other sleep, and leave the cores to those
            # that work (3 core-seconds for a score instead of 25 on a machine with other work).
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            from tune_tl.results.finals import score_finalists  # torch

            finals = score_finalists(
                final,
                self.ready.dataset,
                self.ready.pretrained,
                lambda trial: Checkpoints(self.experiment.checkpoints, trial),
                max(1, int(self.experiment.cpus_per_trial)),
                lambda text: console.print(text, soft_wrap=True, markup=False),
            )
            status.update("drawing the report")
            best = final[0] if final else None
            test = finals.test[best.trial] if best else None
            facts = {
                "champion": best and best.trial,
                VAL_F1: best and best.val_f1,
                TEST_F1: test and test.f1,
                f"{TEST_F1}_ci": test and list(test.ci),
                "config": best and best.config.to_dict(),
                "trials": len(results),
                "failed": sum(r.failed for r in results),
                "wall_s": round(self.clock(), 1),
                "dataset": self.ready.dataset.describe(),
                "class_names": list(self.ready.dataset.classes),
                "versions": versions(),
                "test_scores": {trial: score.to_dict() for trial, score in finals.test.items()},
                "train_scores": {trial: score.to_dict() for trial, score in finals.train.items()},
                "importances": [each.to_dict() for each in importances(results, self.ready.space)],
                "lines": ledger.lines(folder),  # what is concluded from
            }
            if finals.look:
                finals.look.write(folder, self.ready.dataset.classes)
            write_json(folder / RESULT_FILE, facts)
            board = loading.load(folder)
            page.write(folder, board)
        self._tracker.finish(Findings.of(facts, report_files(folder)))
        console.print(text(board, top=SHOWN))
        self._tracker.close()
        if best:
            self._say_where(console)
            return 0
        if self._tracker.problem:
            console.print(Text(self._tracker.problem), soft_wrap=True)
        first = next((r.reason for r in results if r.failed), "the budget ended before the first epoch did")
        console.print(Text(f"no trial finished: {first}", style="bold red"), soft_wrap=True)
        return 1

    def _say_where(self, console: Console) -> None:
        folder = _short(self.experiment.folder)
        problem, sync = self._tracker.problem, self._search.sync_command
        below = f"complete it with {sync}" if problem else self._tracker.page
        rows = [
            ("page", f"{folder}/leaderboard.html"),
            ("MLflow", (problem or how_to_open(self._uri)).removeprefix("MLflow ")),
            *([("", below)] if below and sync not in (problem or "") else []),
            (
                "TensorBoard",
                self._events.problem or f"tensorboard --logdir {shlex.quote(f'{folder}/tensorboard')}",
            ),
        ]
        for label, what in rows:
            console.print(Text.assemble((f"{label:12}", "bold"), what), soft_wrap=True)


def report_files(folder: Path) -> list[Path]:
    """What `report.write` has written into a search's folder: MLflow keeps it too."""
    named = (page.CSV_FILE, page.PAGE_FILE, page.REPORT_FILE, PREDICTIONS_FILE)
    return [*(folder / name for name in named if (folder / name).exists()), *sorted(folder.glob("*.png"))]


def _short(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path


class KeptWeights(Observer):
    """Bounds the disk: only trials that run and those that would be finalists keep their weights."""

    def __init__(self, folder: Path, past: Iterable[TrialResult]) -> None:
        self._folder = folder
        self._best: tuple[TrialResult, ...] = ()
        for result in past:  # a process that was killed may not have come to it
            self.end(result)

    def end(self, result: TrialResult) -> None:
        Checkpoints(self._folder, result.trial).remove_states()
        contenders = (*self._best, result)
        self._best = finalists(contenders)
        for loser in contenders:
            if loser not in self._best:
                Checkpoints(self._folder, loser.trial).remove()
