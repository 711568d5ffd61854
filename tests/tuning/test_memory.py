"""A machine whose memory runs out while trials run, for real, with a Ray of its own that watches it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.trials import Told, ready_for, run_trials
from tune_tl.experiment import EpochMetrics, Experiment, State, TrialConfig
from tune_tl.tuning.cluster import Cluster

EPOCHS = 3
SPACE = f"""
backbone: efficientnet_lite0
epochs: {EPOCHS}
unfreeze: 0
head_lr: {{low: 1e-4, high: 1e-1, log: true}}
"""
BALLOON = """
import sys
weight = bytearray(int(sys.argv[1]))
weight[:: 4096] = b"x" * len(weight[:: 4096])
print("up", flush=True)
sys.stdin.read()
"""


def memory() -> tuple[int, int]:
    """Bytes in all and in use, as Ray counts them."""
    from ray._private.utils import get_system_memory, get_used_memory

    return get_system_memory(), get_used_memory()


def test_a_trial_that_ray_ends_to_save_memory_goes_on_and_fewer_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, used = memory()
    room = min(8 << 30, int(0.9 * total - used) // 2)  # for the trials, and whatever else runs here meanwhile
    if room < 5 << 30:
        pytest.skip("needs 10 GB of free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(used + room) / total:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    ready = ready_for(tmp_path, SPACE)
    wanted = Experiment(
        "x", trials=3, budget_s=None, strategy="random", seed=0, output=tmp_path, gpus_per_trial=0.0,
        cpus_per_trial=max(0.5, (os.cpu_count() or 1) / 2),
    )  # fmt: skip
    balloon: list[subprocess.Popen[str]] = []

    class Blow(Told):
        def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
            super().epoch(config, metrics)
            if not balloon:
                command = [sys.executable, "-c", BALLOON, str(room)]
                balloon.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                assert balloon[0].stdout
                balloon[0].stdout.readline()

        def say(self, text: str) -> None:
            super().say(text)
            balloon[0].kill()

    try:
        with Cluster(None) as cluster:
            run_trials(wanted, ready, told := Blow(), cluster)
    finally:
        for process in balloon:
            process.kill()
            process.communicate()
    assert told.lines == ["memory ran out and Ray ended a trial: 1 at a time from here on"]
    assert [(r.state, len(r.epochs)) for r in told.results.values()] == [(State.COMPLETED, EPOCHS)] * 3
    assert all(epochs == [1, 2, 3] for epochs in told.epochs.values())
