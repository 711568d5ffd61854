"""What is used of Ray's and Optuna's insides is there, and still does what it is used for.

Ray's is looked at in a process of its own, in which nothing else has imported MLflow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from optuna.trial import FrozenTrial, TrialState

from tune_tl import tuning
from tune_tl.tuning import privates

SEARCH = """
import contextlib, json, os, signal, sys, time
from pathlib import Path

from tune_tl.tuning import privates, tuner
from tune_tl.tuning.cluster import Cluster

import ray
from ray import tune

seen = {"starts": 0, "errors": 0}


class Look(tune.Callback):
    def __reduce__(self):
        return tune.Callback, ()

    def on_trial_start(self, iteration, trials, trial, **info):
        seen["starts"] += trial.config["hangs"]

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if trial.config["hangs"]:
            privates.end_for_good(trial)
        else:
            seen["environment"], seen["variable"] = result["environment"], result["variable"]

    def on_trial_error(self, iteration, trials, trial, **info):
        seen["errors"] += trial.config["hangs"]

    def on_trial_complete(self, iteration, trials, trial, **info):
        seen["analysed"] = len(trial.metric_analysis), len(trial.metric_n_steps)
        privates.drop_analysis(trial)
        seen["left"] = len(trial.metric_analysis), len(trial.metric_n_steps)


def trial(config):
    environment = dict(ray.get_runtime_context().runtime_env)
    tune.report({"x": 1.0, "environment": environment, "variable": "PL_DISABLE_FORK" in os.environ})
    if config["hangs"]:
        time.sleep(100_000)


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


here = Path(sys.argv[1])
with Cluster(None) as cluster:
    cluster.resources(here / "ray.log")
    tune.Tuner(
        trial,
        param_space={"hangs": tune.grid_search([False, True])},
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(here),
            callbacks=[Look()],
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    ).fit()
    seen["mlflow"] = "mlflow" in sys.modules
    with contextlib.suppress(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and "died" not in (here / "ray.log").read_text():
        time.sleep(0.1)
(here / "seen.json").write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search of two trials, one of which hangs, and of a worker that dies in mid-task."""
    folder = tmp_path_factory.mktemp("privates")
    with (folder / "printed").open("wb") as printed:
        command = [sys.executable, "-c", SEARCH, str(folder)]
        subprocess.run(command, stdout=printed, stderr=printed, check=True)
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    return found


def test_callbacks_are_not_counted_so_that_mlflow_is_not_imported(seen: dict[str, Any]) -> None:
    from ray.air._internal import usage

    assert callable(usage.tag_callbacks)
    assert not seen["mlflow"]


def test_a_trial_has_no_environment_of_its_own(seen: dict[str, Any]) -> None:
    from ray.tune.execution import class_cache

    assert isinstance(class_cache.DEFAULT_ENV_VARS, dict)
    assert not seen["variable"]
    assert seen["environment"] == {}


def test_what_ray_says_of_a_worker_that_died_is_logged_and_not_printed(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert "worker died or was killed" in (folder / "ray.log").read_text()
    assert "died" not in printed


def test_the_analysis_of_a_trial_is_dropped(seen: dict[str, Any]) -> None:
    assert min(seen["analysed"]) > 0
    assert seen["left"] == [0, 0]


def test_a_trial_that_is_ended_for_good_is_not_started_again(seen: dict[str, Any]) -> None:
    assert seen["starts"] == 1
    assert seen["errors"] == 1


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_see_the_trials_that_are_chosen_for_them_and_others_see_all() -> None:
    given: list[int] = []

    def choose(trials: list[FrozenTrial]) -> list[FrozenTrial]:
        given.append(len(trials))
        return trials[-15:]

    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    privates.show_samplers(study, choose)
    for _ in range(30):
        before = len(given)
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
        assert len(given) > before
    assert max(given) == 30
    assert len(study.trials) == len(study.get_trials(states=(TrialState.COMPLETE,))) == 30


def sources() -> Iterator[Path]:
    root = Path(ray.__file__).parent
    for folder in ("tune", "_private", "_common"):
        yield from (root / folder).rglob("*.py")
    yield root / "_raylet.so"
    yield root / "core" / "src" / "ray" / "raylet" / "raylet"


def test_ray_reads_every_setting_that_is_made_for_it() -> None:
    made = re.findall(r'setdefault\("(\w+)"', Path(tuning.__file__).read_text())
    assert len(made) > 8
    # What is read in C++ is written there without its prefix.
    missing = {name: name.replace("RAY_preload", "preload").encode() for name in made}
    for file in sources():
        content = file.read_bytes()
        missing = {name: written for name, written in missing.items() if written not in content}
    assert not missing


def test_insides_are_used_in_one_place() -> None:
    inside = r"\b(ray|optuna)[\w.]*\._|\.(_get_trials|metric_\w+|run_metadata|temporary_state|max_failures)\b"
    folder = Path(tuning.__file__).parent
    assert {file.name for file in folder.glob("*.py") if re.search(inside, file.read_text())} == {
        "privates.py"
    }


SLOW = """
import time
with open("/proc/self/cmdline", "rb") as said:
    if b"agent.py" in said.read():
        time.sleep(17)
"""


def test_helpers_that_start_slowly_are_waited_for(tmp_path: Path) -> None:
    """Ray itself would give them 15 s."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    code = """
from tune_tl.tuning import privates
import ray
with privates.patient_start(120):
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get(ray.remote(lambda: "answered").remote()))
"""
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "answered\n", done.stderr
