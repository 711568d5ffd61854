"""A leaderboard as a table, from which its CSV, its JSON and its comparisons are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from tune_tl.experiment import Augment, State, Transfer, TrialConfig, Unfreeze
from tune_tl.record.folder import search_folder
from tune_tl.results import loading
from tune_tl.results.ranking import Leaderboard, Row, Unranked, unit

_STRING = pd.StringDtype("python")  # not pyarrow's: a reason may name a file whose name is no text
_OF_CONFIG: dict[Any, Any] = {
    **{str: _STRING, Augment: _STRING, bool: "bool", int: "int64", float: "float64"},
    **{int | None: "Int64", float | None: "Float64", Unfreeze: "category"},
}

DTYPES: dict[str, Any] = {
    "rank": "Int64",
    "trial": _STRING,
    "state": pd.CategoricalDtype([state.value for state in State]),
    "transfer": pd.CategoricalDtype([transfer.value for transfer in Transfer]),
    "val_f1": "Float64",
    "best_epoch": "Int64",
    "epochs": "int64",
    **dict.fromkeys(("test_f1", "test_f1_low", "test_f1_high", "test_accuracy", "train_f1"), "Float64"),
    "cost": "float64",
    "unit": _STRING,
    "started": "float64",
    "ended": "float64",
    "reason": _STRING,
    **{
        "max_epochs" if name == "epochs" else name: _OF_CONFIG[kind]
        for name, kind in get_type_hints(TrialConfig).items()
    },
}


def leaderboard_frame(name: str | None = None, output: str | Path = "runs") -> pd.DataFrame:
    """The leaderboard of the search `name` under `output`, by default of the newest, as a table.

    One row a trial: the ranked ones, best first, then those without a score, in the order they ended. Raises
    BadInput if there is no such search or a file of it is damaged. What does not apply is `pd.NA`.

    column          dtype     what it holds
    rank            Int64     1 for the champion; none without a score
    trial           string    eight hex digits that name the trial
    state           category  completed, stopped, failed
    transfer        category  the transfer strategy: feature-extraction, partial, full, scratch
    val_f1          Float64   macro-F1 on validation, in [0, 1], of the epoch whose weights were kept
    best_epoch      Int64     that epoch, 1 for the first
    epochs          int64     how many were trained
    test_f1         Float64   macro-F1 of the kept weights on test, in [0, 1]; finalists only, as below
    test_f1_low     Float64   the lower end of its 95 % interval
    test_f1_high    Float64   the upper end
    test_accuracy   Float64   in [0, 1]
    train_f1        Float64   macro-F1 of the kept weights on a part of train, in [0, 1]
    cost            float64   core-seconds or GPU-seconds, as `unit` says
    unit            string    core-s, GPU-s
    started         float64   seconds after the search's start
    ended           float64   the same
    reason          string    why it failed, ended early or has no score

    and the trial's config, field by field (see `TrialConfig`):

    backbone        string    the network's name
    pretrained      bool      whether it started from pretrained weights
    drop_stages     int64     stages cut off the backbone's end
    unfreeze        category  ordered: stages trained with the head, as int, and after them all
    head_layers     int64     fully connected ones
    head_width      int64     units of each of them but the last
    head_lr         float64   peak learning rate of the head
    body_lr         Float64   of the unfrozen stages
    weight_decay    float64
    augment         string    the policy's name
    batch_size      int64     images
    label_smoothing float64   in [0, 1)
    class_weights   bool      whether classes weigh by inverse frequency
    image_size      Int64     pixels a side; none for the backbone's own
    grayscale       bool      whether images are seen without their colours
    max_epochs      int64     how many the trial would have had
    seed            int64
    """
    return frame(loading.load(search_folder(Path(output), name)))


def frame(board: Leaderboard) -> pd.DataFrame:
    """`board` as a table of the columns DTYPES, which `leaderboard_frame` describes."""
    trials = [*map(_values, board.rows), *map(_values, board.unranked)]
    depths = sorted({trial["unfreeze"] for trial in trials} - {"all"})
    dtypes = DTYPES | {"unfreeze": pd.CategoricalDtype([*depths, "all"], ordered=True)}
    return pd.DataFrame(
        {name: pd.Series([trial.get(name) for trial in trials], dtype=of) for name, of in dtypes.items()}
    )


def _values(each: Row | Unranked) -> dict[str, Any]:
    result = each.result
    values = result.config.to_dict() | {
        "max_epochs": result.config.epochs,  # `epochs` are those that were trained
        "trial": result.trial,
        "state": result.state.value,
        "transfer": each.transfer.value,
        "epochs": len(result.epochs),
        "cost": result.cost,
        "unit": unit(result),
        "started": result.started,
        "ended": result.ended,
        "reason": result.reason or None,
    }
    if isinstance(each, Unranked):
        return values | {"reason": each.reason}
    values |= {"rank": each.rank, "val_f1": each.val_f1, "best_epoch": each.best.epoch}
    if test := each.test:
        low, high = test.ci
        values |= {"test_f1": test.f1, "test_f1_low": low, "test_f1_high": high}
        values["test_accuracy"] = test.accuracy
    if each.train:
        values["train_f1"] = each.train.f1
    return values
