"""The leaderboard as a table, and the files that are made from it: byte for byte those of every version."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import tune_tl
from tune_tl.errors import BadInput
from tune_tl.experiment import State, TrialResult
from tune_tl.results import leaderboard_files
from tune_tl.results.comparison import By
from tune_tl.results.frame import frame, leaderboard_frame
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
    leaderboard_files.write_csv(tmp_path / "leaderboard.csv", board)
    assert (tmp_path / "leaderboard.csv").read_bytes() == (GOLDEN / "leaderboard.csv").read_bytes()


@pytest.mark.parametrize("by", By)
def test_the_json_is_what_it_always_was(board: Leaderboard, by: By) -> None:
    golden = json.loads((GOLDEN / "leaderboard.json").read_text())
    golden |= {"by": by.value, "comparison": golden["comparison"][by.value]}
    found = leaderboard_files.to_dict(board, by)
    assert json.dumps(found, allow_nan=False) == json.dumps(golden)  # the order of keys included


def test_the_columns_are_typed_and_described(board: Leaderboard) -> None:
    """Every column's name and dtype stand in the docstring, in the table's order."""
    table = frame(board)
    described = [line.split()[:2] for line in (leaderboard_frame.__doc__ or "").splitlines()]
    assert [[name, str(dtype)] for name, dtype in table.dtypes.items()] == [
        pair for pair in described if pair and pair[0] in table.columns
    ]
    with (GOLDEN / "leaderboard.csv").open(newline="") as file:
        assert table.columns.tolist() == next(csv.reader(file))
    assert frame(Leaderboard()).dtypes.astype(str).equals(table.dtypes.astype(str))


def test_the_ranked_trials_come_first_and_a_failure_has_no_score(board: Leaderboard) -> None:
    table = frame(board)
    assert table["rank"].dropna().tolist() == [1, 2, 3, 4]
    assert table["val_f1"].isna().tolist() == [False] * 4 + [True] * 3
    assert table.loc[table["state"] == "failed", "reason"].str.startswith("=1+1").all()
    assert table["test_f1"].notna().sum() == len(board.finalists)


def test_depths_compare_as_they_are(board: Leaderboard) -> None:
    unfreeze = frame(board)["unfreeze"]
    assert (unfreeze == "all").sum() == 1
    assert (unfreeze >= 2).sum() == 5
    assert unfreeze.max() == "all"


NOTEBOOK = """
import sys
import tune_tl
assert {"pandas", "numpy"}.isdisjoint(sys.modules)
table = tune_tl.leaderboard_frame(NAME)
assert {"torch", "ray", "mlflow", "matplotlib"}.isdisjoint(sys.modules)
print(len(table), table["val_f1"].max() == table["val_f1"][0])
"""


@pytest.mark.parametrize("name", [None, "pets"])
def test_a_notebook_has_it_in_one_line_and_without_torch(
    tmp_path: Path, search: Callable[..., Path], name: str | None
) -> None:
    search(tmp_path / "runs", "pets", trials=7)
    code = NOTEBOOK.replace("NAME", repr(name))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("7 True\n", "")


def test_a_search_that_is_not_there_is_one_line(tmp_path: Path, search: Callable[..., Path]) -> None:
    search(tmp_path, "pets", trials=2)
    with pytest.raises(BadInput, match="did you mean 'pets'"):
        tune_tl.leaderboard_frame("pest", tmp_path)


def test_what_the_package_does_not_offer_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'leaderbord_frame'"):
        tune_tl.leaderbord_frame  # noqa: B018
