"""The whole command, as a user runs it: what it leaves behind, what it prints, and how it is interrupted.

One small search is looked at from all sides, and one is interrupted in every way there is.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from support.place import ONE_AT_A_TIME, TWO_AT_A_TIME, Done, Place, finish, place_in
from support.waiting import SECONDS, wait_until
from tune_tl.experiment import State
from tune_tl.record.book import Book
from tune_tl.results.ranking import finalists
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import local_weights

NOISE = ("INFO", "WARNING", "ERROR", "Warning", "Traceback", "ray::", "(pid=", "raylet", "[I 2", "\x1b")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    # rich takes [red] for a colour
    with place_in(tmp_path_factory.mktemp("search") / "my [red] images") as made:
        yield made


@pytest.fixture(scope="module")
def whole(place: Place) -> Done:
    """A search of four trials that nothing disturbs, named `tiny` by its space."""
    return place.run(*ONE_AT_A_TIME)


@pytest.fixture
def result(place: Place, whole: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.folder / "runs/tiny/result.json").read_text())
    return found


def test_a_search_that_is_done_exits_with_0_and_complains_of_nothing(whole: Done) -> None:
    assert (whole.code, whole.err) == (0, "")


def test_the_ledger_has_a_line_for_each_acknowledged_epoch(place: Place, whole: Done) -> None:
    rows = place.rows("tiny", "ledger.jsonl")
    for row in rows:
        assert {"t", "trial", "epoch", "config", "train_loss", "val_f1"} <= row.keys()
        assert row["config"]["backbone"] == "efficientnet_lite0"
    assert [row["t"] for row in rows] == sorted(row["t"] for row in rows)
    lines = Counter((row["trial"], row["epoch"]) for row in rows)
    assert set(lines.values()) == {1}
    ends = {row["trial"]: row for row in place.rows("tiny", "trials.jsonl")}
    assert len(ends) == 4
    for trial, end in ends.items():
        epochs = [epoch for key, epoch in lines if key == trial]
        assert epochs == ([1, 2] if end["state"] == "completed" else [1])


def test_the_champion_has_the_highest_validation_f1_on_record(
    place: Place, whole: Done, result: dict[str, Any]
) -> None:
    rows = place.rows("tiny", "ledger.jsonl")
    ended = {row["trial"] for row in rows if row["epoch"] == 2}  # of two epochs, the second counts
    rows = [row for row in rows if row["epoch"] == 2 or row["trial"] not in ended]
    assert result["val_f1"] == max(row["val_f1"] for row in rows)
    assert result["champion"] in {row["trial"] for row in rows if row["val_f1"] == result["val_f1"]}


def test_the_result_says_what_was_found_and_on_what(
    place: Place, whole: Done, result: dict[str, Any]
) -> None:
    assert (result["trials"], result["failed"]) == (4, 0)
    assert 0 < result["wall_s"] < SECONDS
    low, high = result["test_f1_ci"]
    assert 0 <= low <= result["test_f1"] <= high <= 1
    assert result["dataset"].keys() == {"name", "source", "fingerprint", "images", "classes"}
    assert (result["dataset"]["images"], result["dataset"]["classes"]) == (42, 3)
    assert result["dataset"]["source"] == "local"
    assert {"python", "torch", "ray", "optuna", "mlflow"} <= result["versions"].keys()
    searched = json.loads((place.folder / "runs/tiny/search.json").read_text())
    assert (searched["name"], searched["strategy"], searched["seed"]) == ("tiny", "asha-tpe", 0)
    assert searched["dataset"] == result["dataset"]


def test_the_test_split_is_looked_at_for_finalists_only(
    place: Place, whole: Done, result: dict[str, Any]
) -> None:
    final = [r.trial for r in finalists(Book.read(place.folder / "runs/tiny").ended)]
    assert list(result["test_scores"]) == final
    assert 1 <= len(final) < 4
    with (place.folder / "runs/tiny/leaderboard.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 4
    assert {row["trial"] for row in table if row["test_f1"]} == set(final)


def test_the_folder_holds_a_page_pictures_and_the_finalists_weights(
    place: Place, whole: Done, result: dict[str, Any]
) -> None:
    folder = place.folder / "runs/tiny"
    assert result["champion"] in (folder / "leaderboard.html").read_text()
    pictures = list(folder.glob("*.png"))
    assert len(pictures) >= 3
    for picture in pictures:
        with Image.open(picture) as image:
            image.load()
    kept = {file.stem for file in (folder / "checkpoints").iterdir()}
    assert kept == set(result["test_scores"])


def test_mlflow_has_one_parent_and_one_nested_run_a_trial(
    place: Place, whole: Done, result: dict[str, Any]
) -> None:
    runs = place.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["champion"] == result["champion"]
    assert parent.data.metrics["test_f1"] == result["test_f1"]
    trials = {run.data.tags["tune_tl.trial"]: run for run in runs if run is not parent}
    assert len(runs) == 5
    recorded = {r.trial: r for r in Book.read(place.folder / "runs/tiny").ended}
    assert trials.keys() == recorded.keys()
    for trial, run in trials.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["state"] == recorded[trial].state.value
        assert run.data.metrics["best_val_f1"] == recorded[trial].val_f1


def test_tensorboard_has_a_folder_a_trial(place: Place, whole: Done) -> None:
    files = list((place.folder / "runs/tiny/tensorboard").glob("*/events.out.tfevents.*"))
    assert {f.parent.name.split("-")[0] for f in files} == {
        row["trial"] for row in place.rows("tiny", "trials.jsonl")
    }


def test_off_a_terminal_every_line_is_meant_for_a_person(place: Place, whole: Done) -> None:
    for noise in NOISE:
        assert noise not in whole.out
    before, found, after = whole.out.partition("tiny  4 trials · asha-tpe")
    assert found
    progress = re.compile(
        r"\d+:\d\d · [0-4] of 4 trials done · [01] running( · best val F1 [01]\.\d{3} \(.+, epoch \d\))?"
    )
    known = ("data  ", "       ", "backbones  ", "decoding 42 images, once", "scoring ")
    for line in before.splitlines():
        assert line.startswith(known) or progress.fullmatch(line), line
        assert line == line.rstrip()
    *_, page, mlflow, leaderboard, tensorboard = after.splitlines()
    assert page == "page        runs/tiny/leaderboard.html"
    assert mlflow == "MLflow      mlflow ui"
    assert leaderboard.startswith("            http://127.0.0.1:5000/#/experiments/")
    assert tensorboard == "TensorBoard tensorboard --logdir runs/tiny/tensorboard"


def test_the_key_to_ray_is_its_owners_alone(place: Place, whole: Done) -> None:
    token = Path(place.env["HOME"]) / ".ray/auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_the_same_seed_gives_the_same_configs_and_the_same_numbers(place: Place, whole: Done) -> None:
    twin = place.elsewhere("twin")
    assert twin.run(*ONE_AT_A_TIME, "--trials", "2").code == 0

    def numbers(where: Place) -> list[tuple[Any, ...]]:
        return [
            (r["trial"], r["epoch"], r["train_loss"], r["val_f1"]) for r in where.rows("tiny", "ledger.jsonl")
        ]

    again = numbers(twin)
    assert len({trial for trial, *_ in again}) == 2
    assert again == numbers(place)[: len(again)]


def test_where_every_trial_fails_there_is_no_champion(place: Place, tmp_path: Path) -> None:
    found = local_weights(BACKBONES["efficientnet_lite0"])
    assert found
    weights = tmp_path / "hub/checkpoints/tf_efficientnet_lite0-0aa007d2.pth"
    weights.parent.mkdir(parents=True)
    state = torch.load(found.weights, weights_only=True)
    torch.save({k: v * math.nan if v.is_floating_point() else v for k, v in state.items()}, weights)
    where = place.elsewhere("failing")
    done = where.run(*ONE_AT_A_TIME, "--trials", "2", TORCH_HOME=str(tmp_path))
    ends = where.rows("tiny", "trials.jsonl")
    assert done.code == 1, done.err
    assert [end["state"] for end in ends] == ["failed", "failed"]
    lines = done.out.splitlines()
    assert f"trial {ends[0]['trial']} failed: {ends[0]['reason']}" in lines
    assert lines[-1] == f"no trial finished: {ends[0]['reason']}"
    assert "loss became nan in epoch 1" in lines[-1]
    assert "Traceback" not in done.out + done.err
    result = json.loads((where.folder / "runs/tiny/result.json").read_text())
    assert (result["champion"], result["val_f1"], result["test_scores"]) == (None, None, {})
    assert (result["trials"], result["failed"]) == (2, 2)
    assert {run.info.status for run in where.runs()} == {"FAILED"}
    assert not any("best_val_f1" in run.data.metrics for run in where.runs())


def test_damaged_weights_are_found_out_before_a_trial_is(place: Place, tmp_path: Path) -> None:
    weights = tmp_path / "hub/checkpoints/tf_efficientnet_lite0-0aa007d2.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half a download")
    where = place.elsewhere("damaged")
    done = where.run(TORCH_HOME=str(tmp_path))
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert str(weights) in line
    assert not (where.folder / "runs").exists()


TRIALS, EPOCHS = 7, 6


@dataclass(frozen=True)
class Stage:
    """One of the processes that a search took, and the record as it left it."""

    done: Done
    ended: list[str]  # trials that had ended by then
    statuses: dict[str, int]  # of MLflow's runs


@pytest.fixture(scope="module")
def hunted(place: Place) -> tuple[Place, dict[str, Stage]]:
    """A search that is interrupted by Ctrl+C, then by SIGTERM, then killed, then left in peace."""
    where = place.elsewhere("hunted")
    stages: dict[str, Stage] = {}
    size = ("--trials", str(TRIALS), "--epochs", str(EPOCHS))
    command = where.command("--strategy", "random", *size, *TWO_AT_A_TIME)
    for name, blow, file in (
        ("SIGINT", signal.SIGINT, "trials.jsonl"),
        ("SIGTERM", signal.SIGTERM, "ledger.jsonl"),
        ("SIGKILL", signal.SIGKILL, "trials.jsonl"),
        ("peace", None, ""),
    ):
        before = len(where.rows("tiny", file)) if blow else 0
        process = where.start(command)
        if blow:

            def is_time(file: str = file, before: int = before, process: Any = process) -> bool:
                return len(where.rows("tiny", file)) > before or process.poll() is not None

            wait_until(is_time, f"a new line in {file} before {name}")
            if blow is signal.SIGINT:
                os.killpg(process.pid, blow)  # a terminal sends it to the whole group
            else:
                process.send_signal(blow)
        done = finish(process)
        ended = [row["trial"] for row in where.rows("tiny", "trials.jsonl")]
        stages[name] = Stage(done, ended, dict(Counter(run.info.status for run in where.runs())))
        command = done.resume_command if name in ("SIGINT", "SIGTERM") else command
    return where, stages


Hunted = tuple[Place, dict[str, Stage]]


def test_interruptions_have_their_exit_codes(hunted: Hunted) -> None:
    codes = {name: stage.done.code for name, stage in hunted[1].items()}
    assert codes == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9, "peace": 0}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "peace"])
def test_an_interrupted_search_complains_of_nothing(hunted: Hunted, name: str) -> None:
    done = hunted[1][name].done
    assert done.err == ""
    for noise in NOISE:
        assert noise not in done.out


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_search_says_how_to_go_on(hunted: Hunted, name: str) -> None:
    *_, said, command = hunted[1][name].done.out.splitlines()
    done = len(hunted[1][name].ended)
    assert re.fullmatch(
        rf"interrupted; {done} trials? done(, \d cut off)?; every finished epoch is kept. Go on with:", said
    )
    assert command.startswith("python -m tune_tl.search ")
    assert "--resume" in command


def test_the_resumed_search_completes_and_reruns_nothing_that_had_ended(hunted: Hunted) -> None:
    where, stages = hunted
    ended = stages["peace"].ended
    assert len(ended) == len(set(ended)) == TRIALS
    for stage in stages.values():
        assert ended[: len(stage.ended)] == stage.ended
    cut = len(stages["SIGKILL"].ended)
    assert 2 <= cut < TRIALS
    lines = Counter((row["trial"], row["epoch"]) for row in where.rows("tiny", "ledger.jsonl"))
    assert {lines[trial, epoch] for trial in stages["SIGINT"].ended for epoch in range(1, EPOCHS + 1)} == {1}
    results = Book.read(where.folder / "runs/tiny").ended
    assert {(r.state, len(r.epochs)) for r in results} == {(State.COMPLETED, EPOCHS)}


def test_a_trial_that_was_cut_off_is_taken_up_with_the_same_numbers(hunted: Hunted) -> None:
    scores: dict[tuple[str, int], set[float]] = {}
    for row in hunted[0].rows("tiny", "ledger.jsonl"):
        scores.setdefault((row["trial"], row["epoch"]), set()).add(row["val_f1"])
    assert {len(values) for values in scores.values()} == {1}
    assert len({trial for trial, _ in scores}) == TRIALS  # what was begun was also ended


def test_mlflow_knows_the_interrupted_search_as_one(hunted: Hunted) -> None:
    where, stages = hunted
    for name in ("SIGINT", "SIGTERM"):
        assert "RUNNING" not in stages[name].statuses
        assert stages[name].statuses["KILLED"] >= 1
    assert stages["peace"].statuses == {"FINISHED": TRIALS + 1}
    trials = [run.data.tags.get("tune_tl.trial") for run in where.runs()]
    assert len(set(trials)) == TRIALS + 1


def test_no_process_of_ray_outlives_a_search(place: Place, whole: Done, hunted: Hunted) -> None:
    wait_until(lambda: not place.ray_processes(), f"left over: {place.ray_processes()}", 75)
