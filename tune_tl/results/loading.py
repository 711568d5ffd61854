"""The searches on disk: `runs/<name>/` back into a `Leaderboard`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from tune_tl.errors import BadInput
from tune_tl.record import ledger
from tune_tl.record.facts import RESULT_FILE, SEARCH_FILE
from tune_tl.record.folder import MARKS
from tune_tl.results import look
from tune_tl.results.importance import Importance
from tune_tl.results.ranking import About, Acknowledged, Leaderboard
from tune_tl.results.scores import TestScore, TrainScore


def load(folder: Path) -> Leaderboard:
    """The leaderboard of the search in `folder`, as far as the search has come.

    A search that still runs, or was interrupted, has no `result.json` and so no test scores. Raises
    BadInput if `folder` holds no search or a file of it is damaged.
    """
    if not any((folder / mark).exists() for mark in MARKS):
        raise BadInput(f"{folder}: no search here ({SEARCH_FILE} and {ledger.EPOCHS_FILE} are missing)")
    facts = {"name": folder.name} | _json(folder / SEARCH_FILE)
    result = _json(folder / RESULT_FILE)
    seen = look.read(folder) if result else None
    try:
        return Leaderboard.of(
            ledger.read(folder),
            {trial: _score(said) for trial, said in (result.get("test_scores") or {}).items()},
            _about(facts, result, ledger.elapsed(folder)),
            train={trial: _train(said) for trial, said in (result.get("train_scores") or {}).items()},
            timeline=list(_timeline(folder / ledger.EPOCHS_FILE)),
            look=seen,
            importances=[_importance(said) for said in result.get("importances") or ()],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{folder}: its record is damaged or of another version ({error!r})") from None


def _about(facts: dict[str, Any], result: dict[str, Any], elapsed: float) -> About:
    dataset = {**(facts.get("dataset") or {}), **(result.get("dataset") or {})}
    if isinstance(dataset.get("classes"), list):
        dataset["classes"] = len(dataset["classes"])
    return About(
        name=str(facts["name"]),
        strategy=str(facts.get("strategy") or result.get("strategy") or ""),
        space=str(facts.get("space") or ""),
        seed=facts.get("seed"),
        wall_s=None if result.get("wall_s") is None else max(_number(result["wall_s"]), elapsed),
        dataset=dataset,
        versions=dict(result.get("versions") or {}),
    )


def _score(said: Mapping[str, Any]) -> TestScore:
    """Raises ValueError where a number is none, which would show only when a page is half written."""
    score = TestScore.from_dict(said)
    for value in (score.f1, score.accuracy, *score.ci, *chain.from_iterable(score.confusion)):
        _number(value)
    for row in score.report:
        _number(row.precision + row.recall + row.f1 + row.support)
    if {len(score.report)} != {len(score.confusion), *map(len, score.confusion)}:
        raise ValueError("a confusion matrix that is not classes by classes")
    return score


def _train(said: Mapping[str, Any]) -> TrainScore:
    score = TrainScore(**said)
    _number(score.f1 + score.loss + score.images)
    return score


def _importance(said: Mapping[str, Any]) -> Importance:
    found = Importance(**said)
    for value in (found.trials, *(v for v in (found.share, found.low, found.high) if v is not None)):
        _number(value)
    return found


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e15:
        raise ValueError(f"{value!r} is no number")
    return value


def _timeline(path: Path) -> Iterator[Acknowledged]:
    """The ledger's lines with their times, which `ledger.read` leaves out. It has read them before; what
    follows the last newline was never acknowledged."""
    found: dict[tuple[str, int], Acknowledged] = {}
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        if line:
            row = json.loads(line)
            acknowledged = Acknowledged(row["t"], row["trial"], row["epoch"], row["val_f1"])
            found[row["trial"], row["epoch"]] = acknowledged
    yield from found.values()


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error}); restore it, or run the search again") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
