"""Validation ranks, test is for finalists, and a failure is not a score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_tl.errors import BadInput
from tune_tl.experiment import State, Transfer, TrialResult
from tune_tl.results import loading
from tune_tl.results.ranking import Leaderboard, finalists
from tune_tl.results.scores import TestScore, TrainScore, score

Trial = Callable[..., TrialResult]
Search = Callable[..., Path]


def test_the_best_validated_trial_is_the_champion(trial: Trial) -> None:
    worse, best, middle = trial([0.5], seed=1), trial([0.7, 0.9, 0.8], seed=2), trial([0.8], seed=3)
    board = Leaderboard.of([worse, best, middle], {})
    assert [row.trial for row in board.rows] == [best.trial, middle.trial, worse.trial]
    assert [row.rank for row in board.rows] == [1, 2, 3]
    assert board.champion is not None
    assert (board.champion.val_f1, board.champion.best.epoch) == (0.9, 2)


def test_of_two_equal_trials_the_cheaper_ranks_first(trial: Trial) -> None:
    dear, cheap = trial([0.5, 0.6, 0.9], seed=1), trial([0.9], seed=2)
    assert [r.result for r in Leaderboard.of([dear, cheap], {}).rows] == [cheap, dear]
    assert finalists([dear, cheap]) == (cheap,)


@pytest.mark.parametrize("reason", ["train loss is NaN", None])
def test_a_failed_trial_is_listed_with_its_reason_and_never_ranked(trial: Trial, reason: str | None) -> None:
    failed = trial([0.99, 0.99], state=State.FAILED, reason=reason, seed=1)
    board = Leaderboard.of([failed, trial([0.2])], {failed.trial: score([0], [0], ["cat"])})
    assert [row.val_f1 for row in board.rows] == [0.2]
    assert board.finalists == ()
    assert [(u.result, u.reason) for u in board.unranked] == [
        (failed, reason or "failed, no reason recorded")
    ]
    assert board.failed == 1


def test_nan_is_never_a_score(trial: Trial) -> None:
    hopeless, recovered = trial([math.nan], seed=1), trial([math.nan, 0.4], seed=2)
    board = Leaderboard.of([hopeless, recovered, trial([0.3])], {})
    assert [row.val_f1 for row in board.rows] == [0.4, 0.3]
    assert [u.reason for u in board.unranked] == ["no epoch has a finite val_f1"]
    assert hopeless not in finalists([hopeless])


def test_a_lucky_early_epoch_is_no_score_where_later_ones_are_there(trial: Trial) -> None:
    """In the first half the learning rate is high, and of many epochs one is lucky."""
    lucky, steady = (
        trial([0.9, 0.5, 0.6, 0.7], epochs=4, seed=1),
        trial([0.5, 0.6, 0.8, 0.7], epochs=4, seed=2),
    )
    stopped = trial([0.75, 0.72], epochs=4, seed=3)
    board = Leaderboard.of([lucky, stopped, steady], {})
    assert [(row.val_f1, row.best.epoch) for row in board.rows] == [(0.8, 3), (0.75, 1), (0.7, 4)]


def test_a_trial_stopped_before_its_first_epoch_is_not_ranked_and_not_a_failure(trial: Trial) -> None:
    board = Leaderboard.of([trial([], state=State.STOPPED)], {})
    assert board.champion is None
    assert [u.reason for u in board.unranked] == ["ended before its first epoch"]
    assert board.failed == 0


@given(st.lists(st.tuples(st.floats(0, 1) | st.just(math.nan), st.booleans()), max_size=12))
def test_every_trial_is_either_ranked_or_listed(trial: Trial, drawn: list[tuple[float, bool]]) -> None:
    results = [
        trial([f1], state=State.FAILED if failed else State.STOPPED, seed=n)
        for n, (f1, failed) in enumerate(drawn)
    ]
    board = Leaderboard.of(results, {})
    assert {r.trial for r in board.rows} | {u.result.trial for u in board.unranked} == {
        r.trial for r in results
    }
    scores = [row.val_f1 for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert all(map(math.isfinite, scores))
    assert {row.result.state for row in board.rows} <= {State.STOPPED}


def test_a_failed_trial_that_was_run_again_stands_by_its_last_run(trial: Trial) -> None:
    failed = trial([0.4], state=State.FAILED, reason="out of memory")
    board = Leaderboard.of([failed, replace(failed, state=State.COMPLETED, reason=None)], {})
    assert [row.val_f1 for row in board.rows] == [0.4]
    assert board.unranked == ()


def test_the_finalists_are_the_best_of_each_transfer_strategy_and_the_first_is_the_champion(
    trial: Trial,
) -> None:
    frozen, frozen_worse = trial([0.7], unfreeze=0), trial([0.6], unfreeze=0, seed=1)
    partial, deeper = trial([0.8], unfreeze=2), trial([0.9], unfreeze=4)
    full, scratch = trial([0.5], unfreeze="all"), trial([0.3], unfreeze="all", pretrained=False)
    results = [frozen_worse, frozen, partial, deeper, full, scratch]
    assert finalists(results) == (deeper, frozen, full, scratch)
    board = Leaderboard.of(results, {})
    assert [row.transfer for row in board.rows][-1] is Transfer.SCRATCH
    assert board.champion is not None
    assert board.champion.result == finalists(results)[0]


def test_a_test_score_does_not_move_a_trial(trial: Trial) -> None:
    first, second = trial([0.9], unfreeze=2), trial([0.8], unfreeze=0)
    poor, perfect = score([0, 1], [1, 0], ["cat", "dog"]), score([0, 1], [0, 1], ["cat", "dog"])
    board = Leaderboard.of([second, first], {first.trial: poor, second.trial: perfect})
    assert [row.result for row in board.finalists] == [first, second]


def test_overfitting_is_train_less_validation(trial: Trial) -> None:
    kept, other = trial([0.8, 0.9, 0.7]), trial([0.5], seed=1)
    board = Leaderboard.of([kept, other], {}, train={kept.trial: TrainScore(0.98, 0.05, 400)})
    assert [row.gap for row in board.rows] == [pytest.approx(0.08), None]


def test_the_best_so_far_rises_with_epochs_that_count(trial: Trial) -> None:
    """A lucky early epoch is no best, nor is what a failed trial had reached."""
    first = trial([0.9, 0.5, 0.6, 0.55], epochs=4)
    failed = trial([0.99] * 4, epochs=4, seed=1, state=State.FAILED)
    second = trial([0.1, 0.2, 0.6, 0.7], epochs=4, seed=2, started=30.0)
    rises = Leaderboard.of([first, failed, second], {}).best_so_far
    assert [(line.trial, line.epoch, line.val_f1) for line in rises] == [
        (first.trial, 3, 0.6),
        (second.trial, 4, 0.7),
    ]


def test_confusions_are_counted_the_commonest_first() -> None:
    found = score([0, 0, 0, 1, 2, 2, 2], [0, 1, 1, 1, 0, 1, 2], ["cat", "dog", "emu"])
    assert found.confusions == [(0, 1, 2), (2, 0, 1), (2, 1, 1)]
    assert score([0, 1], [0, 1], ["cat", "dog"]).confusions == []


def test_a_score_comes_back_whole_from_json() -> None:
    rng = np.random.default_rng(0)
    found = score(rng.integers(0, 3, 90), rng.integers(0, 3, 90), ["cat", "dog", "a bird that nobody saw"])
    assert TestScore.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_score_counts_each_class() -> None:
    found = score([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog", "unseen"])
    cat, dog, unseen = found.report
    assert (cat.name, cat.precision, cat.recall, cat.support) == ("cat", 1.0, pytest.approx(2 / 3), 3)
    assert (dog.precision, dog.recall, dog.support) == (0.5, 1.0, 1)
    assert (unseen.f1, unseen.support) == (0.0, 0)
    assert found.f1 == pytest.approx((0.8 + 2 / 3) / 2)  # a class nobody saw or named is no part of the mean
    assert found.confusion == ((2, 1, 0), (0, 1, 0), (0, 0, 0))
    assert (found.accuracy, found.images) == (0.75, 4)


def test_a_search_on_disk_becomes_its_leaderboard(tmp_path: Path, search: Search) -> None:
    board = loading.load(search(tmp_path, trials=16))
    assert board.about.name == "pets"
    assert (board.about.dataset["images"], board.about.dataset["classes"]) == (1600, 3)
    assert len(board.rows) + len(board.unranked) == 16
    assert board.finalists[0] == board.rows[0]
    assert len({row.transfer for row in board.finalists}) == len(board.finalists) == 4
    assert board.timeline[0].t == 9.0
    assert [line.t for line in board.timeline] == sorted(line.t for line in board.timeline)


def test_a_search_that_still_runs_has_a_leaderboard_without_test_scores(
    tmp_path: Path, search: Search
) -> None:
    folder = search(tmp_path, trials=4, ended=False)
    ends = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (folder / "trials.jsonl").write_text("".join(ends[:-1]) + ends[-1][:20])  # torn while it was written
    with (folder / "ledger.jsonl").open("a") as file:
        file.write('{"t": 3')
    board = loading.load(folder)
    assert len(board.rows) == 3
    assert len(board.unfinished) == 1
    assert board.finalists == ()


def test_the_class_names_may_stand_where_the_count_does(tmp_path: Path, search: Search) -> None:
    folder = search(tmp_path, ended=False)
    facts = json.loads((folder / "search.json").read_text())
    facts["dataset"]["classes"] = ["cat", "dog"]
    (folder / "search.json").write_text(json.dumps(facts))
    assert loading.load(folder).about.dataset["classes"] == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", "{"),
        ("result.json", "[]"),
        ("search.json", '{"dataset": 3}'),
        ("result.json", '{"train_scores": {"x": {"f1": "high", "loss": 1, "images": 2}}}'),
        ("result.json", '{"importances": [{"name": "unfreeze", "trials": 20, "share": []}]}'),
        ("look.npz", "PK"),
        ("trials.jsonl", '{"a": 1}\n'),
    ],
)
def test_a_damaged_search_is_named(tmp_path: Path, search: Search, file: str, content: str) -> None:
    folder = search(tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(BadInput, match=str(folder)):
        loading.load(folder)


def test_a_folder_without_a_search_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no search here"):
        loading.load(tmp_path)
