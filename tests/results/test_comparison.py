"""Which transfer strategy, backbone or search did best, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tune_tl.experiment import State, TrialResult
from tune_tl.results import loading
from tune_tl.results.comparison import By, compare, compare_searches, verdict
from tune_tl.results.ranking import About, Leaderboard
from tune_tl.results.scores import TestScore, score

Trial = Callable[..., TrialResult]


@pytest.fixture
def board(trial: Trial) -> Leaderboard:
    results = [
        trial([0.70], unfreeze=0),
        trial([0.80], unfreeze=0, seed=1),
        trial([0.60], unfreeze=0, backbone="resnet18"),
        trial([0.90], unfreeze=2),
        trial([0.95], unfreeze=2, seed=1, state=State.FAILED, reason="out of memory"),
        trial([0.95], unfreeze="all", state=State.FAILED, reason="out of memory"),
    ]
    return Leaderboard.of(results, {results[3].trial: score([0, 1], [0, 1], ["cat", "dog"])})


def test_strategies_are_compared_and_then_their_backbones(board: Leaderboard) -> None:
    groups = compare(board, By.STRATEGY)
    assert [(g.label, g.part) for g in groups] == [
        *(("partial", ""), ("partial", "mobilenet_v2")),
        *(
            ("feature-extraction", ""),
            ("feature-extraction", "mobilenet_v2"),
            ("feature-extraction", "resnet18"),
        ),
        *(("full", ""), ("full", "mobilenet_v2")),
    ]
    frozen = groups[2]
    assert (frozen.trials, frozen.best, frozen.median) == (3, 0.80, 0.70)
    assert groups[3].median == pytest.approx(0.75)


def test_failures_cost_but_never_score(board: Leaderboard) -> None:
    partial, *_, full, _ = compare(board, By.STRATEGY)
    assert (partial.trials, partial.unranked, partial.best) == (2, 1, 0.90)
    assert partial.cost == {"core-s": 12.0}
    assert (full.trials, full.unranked, full.best, full.median, full.trial) == (1, 1, None, None, None)


def test_only_finalists_show_a_test_score(board: Leaderboard) -> None:
    assert [(g.label, g.test.f1) for g in compare(board, By.STRATEGY) if g.test] == [("partial", 1.0)] * 2


def test_backbones_are_compared_and_then_their_strategies(board: Leaderboard) -> None:
    assert [(g.label, g.part) for g in compare(board, By.BACKBONE)] == [
        ("mobilenet_v2", ""),
        *(("mobilenet_v2", part) for part in ("partial", "feature-extraction", "full")),
        *(("resnet18", ""), ("resnet18", "feature-extraction")),
    ]


def test_gpu_and_core_seconds_are_not_added_up(trial: Trial) -> None:
    on_gpu = replace(trial([0.5], seed=1), resource="gpu", units=2.0)
    assert compare(Leaderboard.of([trial([0.5]), on_gpu], {}), By.STRATEGY)[0].cost == {
        "core-s": 6.0,
        "GPU-s": 12.0,
    }


def test_searches_are_compared_within_their_dataset(trial: Trial) -> None:
    def of(name: str, data: str, f1: float) -> Leaderboard:
        return Leaderboard.of([trial([f1])], {}, About(name, "asha-tpe", dataset={"fingerprint": data}))

    groups = compare_searches([of("a", "pets", 0.5), of("b", "cars", 0.9), of("c", "pets", 0.7)])
    assert [(g.label, g.part) for g in groups] == [("c", "asha-tpe"), ("a", "asha-tpe"), ("b", "asha-tpe")]


def test_a_whole_search_adds_up(tmp_path: Path, search: Callable[..., Path]) -> None:
    board = loading.load(search(tmp_path, trials=20))
    for by in (By.STRATEGY, By.BACKBONE):
        groups = compare(board, by)
        assert sum(g.trials for g in groups if not g.part) == sum(g.trials for g in groups if g.part) == 20
        assert max(g.best or 0 for g in groups) == board.rows[0].val_f1


@pytest.mark.parametrize(
    ("transferred", "scratch", "starts"),
    [
        (190, 140, "transfer pays: test F1 0.95 [0."),
        (140, 190, "transfer does not pay: test F1 0.70 [0."),
        (160, 160, "whether transfer pays remains open: test F1 0.80 [0."),
    ],
)
def test_whether_transfer_pays_is_answered_in_a_line(
    trial: Trial, transferred: int, scratch: int, starts: str
) -> None:
    """`transferred` and `scratch` are how many of 200 test images each has right."""
    partial, other = trial([0.9], unfreeze=2, epochs=1), trial([0.95], unfreeze=0, epochs=1)
    own = trial([0.5], unfreeze="all", backbone="small_resnet", pretrained=False, epochs=1)
    truth = [0, 1] * 100

    def answers(count: int) -> list[int]:
        return [t if i < count else 1 - t for i, t in enumerate(truth)]

    def right(count: int) -> TestScore:
        return score(truth, answers(count), ["cat", "dog"], champion=answers(transferred))

    champion = score(truth, answers(transferred), ["cat", "dog"])
    scores = {other.trial: champion, partial.trial: right(199), own.trial: right(scratch)}
    line = verdict(Leaderboard.of([partial, other, own], scores))
    assert line is not None and line.startswith(starts)  # of the best by validation, not by test
    assert "(mobilenet_v2) against" in line and "from scratch (small_resnet)" in line
    assert ("on the same images" in line) == ("open" in line)


def test_a_champion_from_nothing_says_that_transfer_does_not_pay(trial: Trial) -> None:
    own, other = trial([0.9], pretrained=False, epochs=1), trial([0.8], unfreeze=2, epochs=1)
    truth, none_right = [0, 1] * 50, [1, 0] * 50
    for answers, starts in ((truth, "transfer does not pay: "), (none_right, "transfer pays: ")):
        against = [1 - a for a in answers]
        scores = {
            own.trial: score(truth, answers, ["cat", "dog"]),
            other.trial: score(truth, against, ["cat", "dog"], champion=answers),
        }
        line = verdict(Leaderboard.of([own, other], scores))
        assert line is not None and line.startswith(starts)


def test_a_network_that_was_cut_off_has_lost_nothing_yet(trial: Trial) -> None:
    partial = trial([0.9] * 4, unfreeze=2, epochs=4)
    own = trial([0.5], unfreeze="all", backbone="small_resnet", pretrained=False, epochs=4)
    truth = [0, 1] * 50
    scores = {
        partial.trial: score(truth, truth, ["cat", "dog"]),
        own.trial: score(truth, [0] * 100, ["cat", "dog"], champion=truth),
    }
    line = verdict(Leaderboard.of([partial, own], scores))
    assert line is not None and line.startswith("whether transfer pays remains open: ")
    assert line.endswith("; small_resnet had 1 of its 4 epochs")


def test_what_was_not_on_test_pays_nothing(trial: Trial) -> None:
    partial, own = trial([0.9], unfreeze=2), trial([0.5], backbone="small_resnet", pretrained=False)
    tested = {partial.trial: score([0, 1], [0, 1], ["cat", "dog"])}
    assert verdict(Leaderboard.of([partial, own], tested)) is None
    assert verdict(Leaderboard.of([partial], tested)) is None
    assert verdict(Leaderboard()) is None
