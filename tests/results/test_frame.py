"""The leaderboard as a table, and the files that are made from it: byte for byte those of every version."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tune_tl.experiment import State, TrialResult
from tune_tl.report import page
from tune_tl.results.comparison import By
from tune_tl.results.ranking import About, Leaderboard
from tune_tl.results.scores import ClassScore, TestScore, TrainScore

Trial = Callable[..., TrialResult]
GOLDEN = Path(__file__).parent / "golden"  # what the version before the table wrote of `board`


@pytest.fixture
def board(trial: Trial) -> Leaderboard:
    """Every kind of trial, cores and GPUs, numbers of every length, and text that a CSV has to quote."""
    partial = trial([1 / 3, 0.9], unfreeze=2, body_lr=3e-5, started=1 / 3, weight_decay=1e-05, seed=2**62)
    stopped = trial(
        [0.7], unfreeze=4, state=State.STOPPED, reason="budget spent", started=2.0005, image_size=96
    )
    frozen = replace(
        trial([0.1 + 0.7, 0.2], head_layers=2, class_weights=True, started=0.1), ended=5.1025
    )  # its cost lies between two thousandths
    scratch = replace(
        trial([0.6], backbone="small_resnet", pretrained=False, unfreeze="all"), resource="gpu", units=2.0
    )
    failed = trial([0.99], unfreeze=2, state=State.FAILED, reason='=1+1, "caf\udce9"\nat [step] 3', seed=1)
    never = trial([], state=State.STOPPED, backbone="-odd, name", augment="strong", grayscale=True)
    diverged = trial([float("nan")], unfreeze=2, state=State.COMPLETED, seed=3)
    report = (ClassScore("cat", 1.0, 0.5, 2 / 3, 2), ClassScore("dog", 0.5, 1.0, 2 / 3, 1))
    best = TestScore(2 / 3, (0.1, 1.0), 2 / 3, ((1, 1), (0, 1)), report)
    other = TestScore(0.5, (0.0, 0.9), 1 / 3, ((1, 1), (1, 0)), report, behind=(-0.1, 0.3))
    results = [failed, scratch, frozen, never, stopped, diverged, partial]
    dataset = {"name": "pets", "source": "local", "fingerprint": "ab12", "images": 90, "classes": 2}
    return Leaderboard.of(
        results,
        {partial.trial: best, frozen.trial: other},
        About("pets-2", "asha-tpe", "pets", 7, 61.5, dataset),
        train={partial.trial: TrainScore(0.96, 0.1, 400)},
    )


def test_the_csv_is_what_it_always_was(tmp_path: Path, board: Leaderboard) -> None:
    page.write_csv(tmp_path / "leaderboard.csv", board)
    assert (tmp_path / "leaderboard.csv").read_bytes() == (GOLDEN / "leaderboard.csv").read_bytes()


@pytest.mark.parametrize("by", By)
def test_the_json_is_what_it_always_was(board: Leaderboard, by: By) -> None:
    golden = json.loads((GOLDEN / "leaderboard.json").read_text())
    golden |= {"by": by.value, "comparison": golden["comparison"][by.value]}
    found = page.to_dict(board, by)
    assert json.dumps(found, allow_nan=False) == json.dumps(golden)  # the order of keys included
