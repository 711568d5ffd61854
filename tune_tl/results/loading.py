"""The searches on disk: `runs/<name>/` back into a `Leaderboard`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tune_tl.errors import BadInput
from tune_tl.record.book import Book
from tune_tl.record.folder import MARKS
from tune_tl.record.json_files import RESULT_FILE, SEARCH_FILE, ResultFacts, SearchFacts
from tune_tl.record.ledger import EPOCHS_FILE
from tune_tl.results import look
from tune_tl.results.importance import Importance
from tune_tl.results.ranking import About, Acknowledged, Leaderboard
from tune_tl.results.scores import TestScore, TrainScore


def load(folder: Path, book: Book | None = None) -> Leaderboard:
    """The leaderboard of the search in `folder`, as far as the search has come.

    `book` is its ledger, where that has been read. A search that still runs, or was interrupted, has no
    `result.json` and so no test scores. Raises BadInput if `folder` holds no search or a file of it is
    damaged.
    """
    if not any((folder / mark).exists() for mark in MARKS):
        raise BadInput(f"{folder}: no search here ({SEARCH_FILE} and {EPOCHS_FILE} are missing)")
    book = book or Book.read(folder)
    facts = SearchFacts.read(folder) if (folder / SEARCH_FILE).exists() else SearchFacts()
    concluded = (folder / RESULT_FILE).exists()
    result = ResultFacts.read(folder) if concluded else ResultFacts()
    try:
        return Leaderboard.of(
            book.ended,
            {trial: _score(values) for trial, values in result.test_scores.items()},
            _about(replace(facts, name=facts.name or folder.name), result, book.elapsed),
            train={trial: _train(values) for trial, values in result.train_scores.items()},
            timeline=list(_timeline(book)),
            look=look.read(folder) if concluded else None,
            importances=[_importance(values) for values in result.importances],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{folder}: its record is damaged or of another version ({error!r})") from None


def _about(facts: SearchFacts, result: ResultFacts, elapsed: float) -> About:
    dataset = {**facts.dataset, **result.dataset}
    if isinstance(dataset.get("classes"), list):
        dataset["classes"] = len(dataset["classes"])
    return About(
        name=facts.name,
        strategy=facts.strategy,
        space=facts.space,
        seed=facts.seed,
        wall_s=None if result.wall_s is None else max(_number(result.wall_s), elapsed),
        dataset=dataset,
        versions=result.versions,
    )


def _score(values: Mapping[str, Any]) -> TestScore:
    """Raises ValueError where a number is none, which would show only when a page is half written."""
    score = TestScore.from_dict(values)
    intervals = (*score.ci, *(score.behind or ()))
    for value in (score.f1, score.accuracy, *intervals, *chain.from_iterable(score.confusion)):
        _number(value)
    for row in score.report:
        _number(row.precision + row.recall + row.f1 + row.support)
    if {len(score.report)} != {len(score.confusion), *map(len, score.confusion)}:
        raise ValueError("a confusion matrix that is not classes by classes")
    return score


def _train(values: Mapping[str, Any]) -> TrainScore:
    score = TrainScore(**values)
    _number(score.f1 + score.loss + score.images)
    return score


def _importance(values: Mapping[str, Any]) -> Importance:
    found = Importance(**values)
    for value in (found.trials, *(v for v in (found.share, found.low, found.high) if v is not None)):
        _number(value)
    return found


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e15:
        raise ValueError(f"{value!r} is no number")
    return value


def _timeline(book: Book) -> Iterable[Acknowledged]:
    """Each epoch of each trial, by the last line of it."""
    found: dict[tuple[str, int], Acknowledged] = {}
    for line in book.lines:
        if line.metrics:
            key, epoch = line.config.key, line.metrics.epoch
            found[key, epoch] = Acknowledged(line.at, key, epoch, line.metrics.val_f1)
    return found.values()
