"""`python -m tune_tl.leaderboard` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Ledger
from tune_tl.results.scores import score


def leaderboard(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "FORCE_COLOR"}}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-W", "error", "-m", "tune_tl.leaderboard", *argv]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def add_search(runs: Path, name: str, *scores: float | None) -> list[str]:
    """A search with one trial a score, a failed one for None; the champion has been on test."""
    folder = runs / name
    folder.mkdir(parents=True)
    now = 0.0
    ledger, results = Ledger(folder, lambda: now), []
    for n, f1 in enumerate(scores):
        config = TrialConfig(backbone="mobilenet_v2", unfreeze=n, seed=n)
        metrics = EpochMetrics(1, 0.7, 0.6, 0.9, f1 or 0.99, (0.9, 0.9), 100.0, 2.0)
        state, reason = (State.FAILED, "out of memory") if f1 is None else (State.COMPLETED, None)
        now = 3.0 * n + 2
        ledger.epoch(config, metrics)
        results.append(
            TrialResult(config.key, config, state, (metrics,), 3.0 * n, 3.0 * n + 2, reason=reason)
        )
        ledger.end(results[-1])
    ledger.close()
    dataset = {"name": "pets", "source": "local", "fingerprint": "ab12", "images": 90, "classes": 2}
    (folder / "search.json").write_text(
        json.dumps({"name": name, "strategy": "asha-tpe", "dataset": dataset})
    )
    ranked = sorted((r for r in results if r.val_f1), key=lambda r: -(r.val_f1 or 0))
    tested = {r.trial: score([0, 1, 1, 0], [0, 1, 0, 0], ["cat", "dog"]).to_dict() for r in ranked[:1]}
    (folder / "result.json").write_text(
        json.dumps({"wall_s": 9.0, "dataset": dataset, "test_scores": tested})
    )
    return [r.trial for r in ranked]


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    add_search(tmp_path / "runs", "first-pets", 0.6, 0.8, None)
    add_search(tmp_path / "runs", "cars", 0.7)
    for mark in (tmp_path / "runs" / "first-pets").iterdir():
        os.utime(mark, (1, 1))
    return tmp_path


def test_the_newest_search_is_shown_by_default(cwd: Path) -> None:
    done = leaderboard(cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cars ")


def test_a_named_search_is_shown_with_its_finalists_and_failures(cwd: Path) -> None:
    done = leaderboard("first-pets", cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in ("0.800", "0.600", "test F1 0.733 [", "out of memory", "partial", "feature-extraction"):
        assert shown in done.stdout
    assert "0.990" not in done.stdout  # what the failed trial had reached


def test_piped_output_has_80_columns_and_no_colour_codes(cwd: Path) -> None:
    done = leaderboard("first-pets", cwd=cwd)
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("by", ["strategy", "backbone", "search"])
def test_json_is_all_there_is_on_stdout(cwd: Path, by: str) -> None:
    done = leaderboard("first-pets", "--json", "--by", by, "--html", "page.html", cwd=cwd)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["search"], found["by"]) == ("first-pets", by)
    assert [t.get("val_f1") for t in found["trials"]] == [0.8, 0.6, None]
    assert found["champion"] == found["trials"][0]["trial"]
    labels = {
        "strategy": ["partial"] * 2,
        "backbone": ["mobilenet_v2"] * 2,
        "search": ["first-pets", "cars"],
    }[by]
    assert [group["label"] for group in found["comparison"]][:2] == labels
    assert (cwd / "page.html").read_text().startswith("<!doctype html>")


def test_searches_are_compared_with_each_other(cwd: Path) -> None:
    done = leaderboard("--by", "search", cwd=cwd)
    assert done.returncode == 0
    assert done.stdout.index("first-pets") < done.stdout.index("cars")


def test_an_unknown_name_is_answered_with_a_near_one(cwd: Path) -> None:
    done = leaderboard("fist-pets", cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no search named 'fist-pets' in runs/, did you mean 'first-pets'?\n"


@pytest.mark.parametrize("name", ["../runs/cars", "/etc", ".", ""])
def test_a_name_is_not_a_path(cwd: Path, name: str) -> None:
    done = leaderboard(name, cwd=cwd)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no search named")


def test_a_folder_without_searches_says_how_to_start_one(tmp_path: Path) -> None:
    done = leaderboard(cwd=tmp_path)
    assert done.returncode == 2
    assert "python -m tune_tl.search SPACE" in done.stderr


@pytest.mark.parametrize("file", ["nowhere/page.html", "runs"])
def test_a_page_that_cannot_be_written_is_one_line(cwd: Path, file: str) -> None:
    done = leaderboard("--html", file, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --html {file}: give a file in a folder that exists\n"


def test_a_page_may_hold_what_is_no_text(cwd: Path) -> None:
    """As the reason of a trial that met a file whose name is none."""
    config = TrialConfig(backbone="mobilenet_v2", seed=9)
    ledger = Ledger(cwd / "runs" / "cars", lambda: 9.0)
    ledger.end(
        TrialResult(config.key, config, State.FAILED, (), 8.0, 9.0, reason="no such file: caf\udce9.jpg")
    )
    ledger.close()
    done = leaderboard("cars", "--json", "--html", "page.html", cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "wrote page.html\n")
    assert r"caf\udce9.jpg" in (cwd / "page.html").read_text()


def test_a_damaged_search_is_one_line(cwd: Path) -> None:
    (cwd / "runs" / "cars" / "result.json").write_text("{")
    done = leaderboard("cars", cwd=cwd)
    assert done.returncode == 2
    assert done.stderr.startswith("error: runs/cars/result.json: not JSON")
    assert done.stderr.count("\n") == 1


def test_a_search_whose_every_trial_failed_ends_with_one(cwd: Path) -> None:
    add_search(cwd / "runs", "broken", None, None)
    done = leaderboard("broken", cwd=cwd)
    assert done.returncode == 1
    assert "out of memory" in done.stdout


def test_output_moves_the_searches(cwd: Path) -> None:
    (cwd / "runs").rename(cwd / "elsewhere")
    assert leaderboard("cars", "--output", "elsewhere", cwd=cwd).returncode == 0


@pytest.mark.parametrize("argv", [["--help"], ["nope"], ["cars", "--json", "--html", "page.html"]])
def test_torch_ray_and_mlflow_are_never_imported(cwd: Path, argv: list[str]) -> None:
    """And matplotlib for the page alone, and pandas for what there is to show."""
    code = (
        "import sys\nfrom tune_tl.leaderboard import main\n"
        f"try:\n    main({argv!r})\nexcept SystemExit:\n    pass\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert loaded.isdisjoint({"torch", "ray", "mlflow", "sklearn"})
    assert ("pandas" in loaded) == ("cars" in argv)
    assert ("matplotlib" in loaded) == ("--html" in argv)
