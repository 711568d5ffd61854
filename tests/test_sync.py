"""`python -m tune_tl.sync`: MLflow brought up to date with the record on disk, as a user does it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from support.on_record import CUT_OFF, ENDED, breaches, result, write_search
from support.waiting import wait_until
from tune_tl.experiment import State
from tune_tl.record.folder import claimed
from tune_tl.sync import main

CUT_OFF_AT = ENDED[3].ended + 1.0  # seconds, on record


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to lay out a new one."""
    file = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    assert MlflowClient(f"sqlite:///{file}").search_registered_models() == []
    return file


@pytest.fixture
def cwd(tmp_path: Path, migrated: Path) -> Path:
    """A directory with MLflow's default store, empty, and two searches; `done` is the newer."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
    write_search(tmp_path / "runs/cut", ENDED, CUT_OFF, concluded=False)
    write_search(tmp_path / "runs/done", ENDED)
    for file in (tmp_path / "runs/cut").iterdir():
        os.utime(file, (1e9, 1e9))
    return tmp_path


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tune_tl.sync", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


Sync = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sync(cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sync:
    """Exit code, last line on stdout, and stderr."""
    monkeypatch.chdir(cwd)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out.splitlines()[-1] if out else "", err

    return run


def default_store(cwd: Path) -> str:
    return f"sqlite:///{cwd / 'mlflow.db'}"


def dump(database: Path) -> list[str]:
    with sqlite3.connect(database) as store:
        rows = list(store.iterdump())
    store.close()
    return rows


def test_a_search_that_mlflow_never_saw_is_written_whole(cwd: Path) -> None:
    process = start(cwd=cwd)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    *progress, said = out.splitlines()
    assert all(re.fullmatch(r"\d of 5 done", line) for line in progress)
    assert said == f"MLflow at {cwd}/mlflow.db has 1 search and 4 trials; 4 were added or completed"
    assert breaches(default_store(cwd), ENDED) == []


def test_to_sync_again_changes_nothing(sync: Sync, cwd: Path) -> None:
    for name in ("done", "cut"):
        assert sync(name)[0] == 0
    before = dump(cwd / "mlflow.db")
    for name, trials in (("done", 4), ("cut", 5)):
        code, said, _ = sync(name)
        assert (code, said) == (
            0,
            f"MLflow at {cwd}/mlflow.db has 1 search and {trials} trials; nothing was missing",
        )
    assert dump(cwd / "mlflow.db") == before


def test_the_parent_tells_what_was_searched_and_found(sync: Sync, cwd: Path) -> None:
    assert sync()[0] == 0
    client = MlflowClient(default_store(cwd))
    shelf = client.get_experiment_by_name("garbage").experiment_id
    (parent,) = client.search_runs([shelf], "tags.champion LIKE '%'")
    assert parent.info.run_name == "done"
    assert parent.data.params == {
        "name": "done",
        "strategy": "asha-tpe",
        "seed": "7",
        "trials": "20",
        "epochs": "3",
    }
    said = {
        "champion": ENDED[0].trial,
        "dataset_fingerprint": "ab12",
        "left_out": "vgg16",
        "version.torch": "2.14",
    }
    assert said.items() <= parent.data.tags.items()
    metrics = parent.data.metrics
    assert metrics.keys() == {"val_f1", "test_f1", "test_f1_low", "test_f1_high"}
    assert metrics["test_f1_low"] <= metrics["test_f1"] <= metrics["test_f1_high"]
    kept = [item.path for item in client.list_artifacts(parent.info.run_id)]
    assert kept == ["leaderboard.html", "plots"]


def test_runs_have_the_times_that_the_record_has(sync: Sync, cwd: Path) -> None:
    assert sync("cut")[0] == 0
    client = MlflowClient(default_store(cwd))
    shelf = client.get_experiment_by_name("garbage").experiment_id
    (run,) = client.search_runs([shelf], f"tags.`tune_tl.trial` = '{ENDED[3].trial}'")
    last_line = 1e12  # milliseconds: when the files were written last
    after = 1000 * (CUT_OFF_AT - ENDED[3].ended)
    assert run.info.end_time == pytest.approx(last_line - after, abs=2)
    assert run.info.end_time - run.info.start_time == pytest.approx(9000, abs=2)


def test_an_unfinished_search_is_written_as_interrupted(sync: Sync, cwd: Path) -> None:
    code, said, err = sync("cut")
    assert (code, err) == (0, "")
    assert said.endswith("has 1 search and 5 trials; 5 were added or completed")
    assert breaches(default_store(cwd), ENDED, CUT_OFF, parent="KILLED") == []


def test_what_was_concluded_before_the_search_went_on_is_no_end(sync: Sync, cwd: Path) -> None:
    write_search(cwd / "runs/longer", ENDED[:2])
    (cwd / "runs/longer/result.json").rename(cwd / "result.json")
    shutil.rmtree(cwd / "runs/longer")
    write_search(cwd / "runs/longer", ENDED, concluded=False)
    (cwd / "result.json").rename(cwd / "runs/longer/result.json")
    assert sync("longer")[0] == 0
    assert breaches(default_store(cwd), ENDED, parent="KILLED") == []


def test_a_search_that_went_on_is_completed(sync: Sync, cwd: Path) -> None:
    """As MLflow has it: interrupted, with a trial that has ended since and one more."""
    assert sync("cut")[0] == 0
    facts = json.loads((cwd / "runs/cut/search.json").read_text())
    shutil.rmtree(cwd / "runs/cut")
    ended = [*ENDED, result(4), result(5)]
    write_search(cwd / "runs/cut", ended)
    assert json.loads((cwd / "runs/cut/search.json").read_text())["id"] == facts["id"]
    code, said, _ = sync("cut")
    # The champion has been on test since.
    assert (code, said.rpartition("; ")[2]) == (0, "3 were added or completed")
    assert breaches(default_store(cwd), ended) == []


def test_a_failed_trial_that_was_tried_again_is_told_as_it_ended_then(sync: Sync, cwd: Path) -> None:
    write_search(cwd / "runs/again", [result(0, State.FAILED)])
    assert sync("again")[0] == 0
    shutil.rmtree(cwd / "runs/again")
    write_search(cwd / "runs/again", [result(0)])  # the same first epochs, and one more
    assert sync("again")[0] == 0
    assert breaches(default_store(cwd), [result(0)]) == []


def test_another_store_gets_everything(sync: Sync, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that is not there yet."""
    assert sync()[0] == 0
    shutil.copy(cwd / "mlflow.db", cwd / "same.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///same.db")
    assert sync()[1].endswith("same.db has 1 search and 4 trials; nothing was missing")
    code, said, _ = sync("done", "--tracking-uri", "sqlite:///new/other.db")
    assert code == 0
    assert said.endswith("other.db has 1 search and 4 trials; 4 were added or completed")
    assert breaches(f"sqlite:///{cwd}/new/other.db", ENDED) == []


def test_the_store_that_the_search_had_is_the_default(
    sync: Sync, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cwd / "elsewhere").mkdir()
    monkeypatch.chdir(cwd / "elsewhere")
    file = cwd / "runs/done/search.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tracking_uri": default_store(cwd)}))
    code, said, err = sync("done", "--output", "../runs")
    assert (code, err) == (0, "")
    assert f"MLflow at {cwd}/mlflow.db " in said
    assert breaches(default_store(cwd), ENDED) == []
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tracking_uri": "http://***@h:5000"}))
    code, _, err = sync("done", "--output", "../runs")
    assert code == 2
    assert "give --tracking-uri" in err


def test_a_search_that_runs_is_refused(sync: Sync, cwd: Path) -> None:
    with claimed(cwd / "runs/done"):
        code, out, err = sync("done")
    assert (code, out) == (2, "")
    assert err.startswith("error: another process is running the search in runs/done")
    assert len(err.splitlines()) == 1


def test_a_search_that_is_not_there_is_bad_input(sync: Sync, cwd: Path) -> None:
    code, out, err = sync("dune")
    assert (code, out) == (2, "")
    assert err == "error: no search named 'dune' in runs/, did you mean 'done'?\n"


@pytest.mark.parametrize("file", ["search.json", "ledger.jsonl", "result.json"])
def test_a_damaged_record_is_named_and_nothing_is_written(sync: Sync, cwd: Path, file: str) -> None:
    before = dump(cwd / "mlflow.db")
    (cwd / "runs/done" / file).write_text("not JSON\n")
    code, out, err = sync("done")
    assert (code, out) == (2, "")
    assert f"runs/done/{file}" in err
    assert len(err.splitlines()) == 1
    assert dump(cwd / "mlflow.db") == before


def test_a_server_that_is_away_is_one_clear_line(sync: Sync, cwd: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = sync("done", "--tracking-uri", uri)
    assert (code, out) == (2, "")
    assert err.startswith("error: MLflow at http://***@127.0.0.1:")
    assert "Connection refused; run this again" in err
    assert len(err.splitlines()) == 1


def test_a_damaged_store_is_left_alone(sync: Sync, cwd: Path) -> None:
    content = (cwd / "mlflow.db").read_bytes()[:-5000]
    (cwd / "mlflow.db").write_bytes(content)
    code, out, err = sync("done")
    assert (code, out) == (2, "")
    assert "is left alone: it is damaged" in err
    assert "move it away, or give another --tracking-uri" in err
    assert (cwd / "mlflow.db").read_bytes() == content
    assert not list(cwd.glob("mlflow.db-*"))
    (cwd / "mlflow.db").rename(cwd / "away.db")
    assert sync("done")[0] == 0
    assert breaches(default_store(cwd), ENDED) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_sync_that_is_killed_is_completed_by_the_next(sync: Sync, cwd: Path, seed: int) -> None:
    """Killed again and again, each time once a random number of rows more is in the store."""
    chance = random.Random(seed)
    ended = [*ENDED, *(result(index) for index in range(5, 9))]
    write_search(cwd / "runs/long", ended, CUT_OFF)
    killed = 0
    for _ in range(3):
        rows = size(cwd / "mlflow.db", "rw")  # a kill may have left a transaction to roll back
        process = start("long", cwd=cwd)
        more = chance.randrange(1, 120)
        wait_until(
            lambda p=process, r=rows + more: p.poll() is not None or size(cwd / "mlflow.db") > r, "more rows"
        )
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed
    assert sync("long")[0] == 0
    assert breaches(default_store(cwd), ended, CUT_OFF) == []


def size(database: Path, mode: str = "ro") -> int:
    """How much a sync has written."""
    with sqlite3.connect(f"file:{database}?mode={mode}", uri=True) as store:
        tables = ("runs", "metrics", "params", "tags")
        total = sum(store.execute(f"select count(*) from {name}").fetchone()[0] for name in tables)
    store.close()
    return total


def test_a_deleted_experiment_is_brought_back_by_the_command_that_is_told(sync: Sync, cwd: Path) -> None:
    assert sync("done")[0] == 0
    client = MlflowClient(f"sqlite:///{cwd / 'mlflow.db'}")
    (one,) = [each for each in client.search_experiments() if each.name != "Default"]
    client.delete_experiment(one.experiment_id)
    code, out, err = sync("done")
    assert (code, out) == (2, "")
    assert f"takes nothing: its experiment {one.name!r} is deleted; `MLFLOW_TRACKING_URI=sqlite:////" in err
    assert err.endswith("brings it back; then run this again\n")
    command = err.split("`")[1].replace(" mlflow ", f" {sys.executable} -m mlflow ")
    subprocess.run(command, shell=True, cwd=cwd, check=True, capture_output=True)
    assert sync("done")[0] == 0


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("acf3f17fdcc7", "an older MLflow's; copy it, then `mlflow db upgrade sqlite:///{}` makes them"),
        ("ffffffffffff", "a newer MLflow's; `pip install --upgrade mlflow`, or give another --tracking-uri"),
    ],
)
def test_a_store_of_another_version_is_told_with_the_whole_way_out(
    cwd: Path, version: str, said: str
) -> None:
    file = cwd / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("update alembic_version set version_num=?", (version,))
    process = start(cwd=cwd)  # a process of its own: MLflow looks at a store once
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"takes nothing: its tables are {said.format(file)}" in err
    assert err.endswith("; then run this again\n")
