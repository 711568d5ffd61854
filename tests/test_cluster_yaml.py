"""cluster.yaml is one that `ray up` accepts, and it starts no cluster that strangers can use.

Nothing here contacts a cloud: Ray's own preparation and schema judge the file, and the start commands run in
a shell whose `ray` writes down how it was called.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
START_COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def accepted(text: str) -> dict[str, Any]:
    """The configuration as `ray up` sees it, Ray's defaults filled in; raises where `ray up` would."""
    config: dict[str, Any] = prepare_config(yaml.safe_load(text))
    validate_config(config)
    return config


CONFIG = accepted(TEXT)


@dataclass(frozen=True)
class Start:
    """How one `ray start` was called."""

    arguments: list[str]
    environment: dict[str, str]

    def option(self, name: str, default: str) -> str:
        """The value of `--name=value` or `--name value`."""
        for argument, following in zip(self.arguments, [*self.arguments[1:], ""], strict=True):
            if argument == name:
                return following
            if argument.startswith(f"{name}="):
                return argument.removeprefix(f"{name}=")
        return default


def starts(commands: list[str], home: Path) -> list[Start]:
    """Run the commands as Ray's launcher does, each in its own bash, and return each `ray start` in them."""
    ray = home / "venv" / "bin" / "ray"
    ray.parent.mkdir(parents=True)
    ray.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "with open(os.environ['HOME'] + '/calls', 'a') as calls:\n"
        "    print(json.dumps({'arguments': sys.argv[1:], 'environment': dict(os.environ)}), file=calls)\n"
    )
    ray.chmod(0o755)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.1"}
    for command in commands:
        launched = f"export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ({command})"
        subprocess.run(["bash", "-c", launched], env=environment, check=True, timeout=30)
    calls = [Start(**json.loads(line)) for line in (home / "calls").read_text().splitlines()]
    return [call for call in calls if call.arguments[0] == "start"]


@pytest.mark.parametrize("commands", START_COMMANDS)
def test_every_node_starts_ray_with_token_authentication(commands: str, tmp_path: Path) -> None:
    [start] = starts(CONFIG[commands], tmp_path)
    assert start.environment["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("commands", START_COMMANDS)
def test_a_start_that_exports_the_mode_too_late_is_noticed(commands: str, tmp_path: Path) -> None:
    export = "export RAY_AUTH_MODE=token;"
    late = [line.replace(export, "") + f"; {export}" for line in CONFIG[commands]]
    assert late != CONFIG[commands]
    [start] = starts(late, tmp_path)
    assert "RAY_AUTH_MODE" not in start.environment


def test_the_token_lies_where_ray_looks_for_it_and_only_its_owner_reads_it() -> None:
    from ray._private.authentication.authentication_token_setup import _get_default_token_path

    place = f"~/{_get_default_token_path().relative_to(Path.home())}"
    assert CONFIG["file_mounts"][place] == place
    assert f"chmod 600 {place}" in CONFIG["setup_commands"]


@pytest.mark.parametrize("commands", START_COMMANDS)
def test_the_dashboard_stays_on_loopback(commands: str, tmp_path: Path) -> None:
    [start] = starts(CONFIG[commands], tmp_path)
    assert start.option("--dashboard-host", default="127.0.0.1") in LOOPBACK
    assert "--ray-debugger-external" not in start.arguments


@pytest.mark.parametrize("commands", START_COMMANDS)
def test_trials_do_not_inherit_the_launchers_single_thread(commands: str, tmp_path: Path) -> None:
    [start] = starts(CONFIG[commands], tmp_path)
    assert "OMP_NUM_THREADS" not in start.environment


def test_the_head_scales_the_cluster_and_the_workers_find_it(tmp_path: Path) -> None:
    [head] = starts(CONFIG["head_start_ray_commands"], tmp_path / "head")
    [worker] = starts(CONFIG["worker_start_ray_commands"], tmp_path / "worker")
    assert "--head" in head.arguments
    assert head.option("--autoscaling-config", default="").endswith("ray_bootstrap_config.yaml")
    assert worker.option("--address", default="") == f"10.0.0.1:{head.option('--port', default='')}"


@pytest.mark.parametrize("node", CONFIG["available_node_types"])
def test_no_node_is_left_to_the_security_group_that_opens_ssh_to_the_world(node: str) -> None:
    assert CONFIG["available_node_types"][node]["node_config"]["SecurityGroupIds"]
    assert "0.0.0.0/0" not in json.dumps(CONFIG)


def test_there_are_cpu_workers_and_gpu_workers_and_no_trial_runs_on_the_head() -> None:
    types = dict(CONFIG["available_node_types"])
    head = types.pop(CONFIG["head_node_type"])
    gpus = [node["resources"].get("GPU", 0) for node in types.values()]
    assert head["resources"] == {"CPU": 0}
    assert any(gpus)
    assert not all(gpus)
    assert all(node["min_workers"] <= node["max_workers"] for node in types.values())


def test_what_the_installation_needs_is_mounted_and_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *wheel["packages"], *wheel["force-include"]}
    mounted = {
        remote.removeprefix("~/tune_tl/"): local
        for remote, local in CONFIG["file_mounts"].items()
        if remote.startswith("~/tune_tl/")
    }
    assert needed <= mounted.keys()
    assert all((ROOT / local).exists() for local in mounted.values())


def test_it_opens_with_the_command_that_runs_it() -> None:
    assert TEXT.startswith("# ray up cluster.yaml\n")


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        pytest.param("idle_timeout_minutes:", "idle_timeout:", "idle_timeout", id="unknown key"),
        pytest.param("head_node_type: head", "head_node_type: haed", "head_node_type", id="undeclared head"),
        pytest.param("max_workers: 6", "max_workers: 0", "max_workers", id="fewer workers than demanded"),
        pytest.param("GPU: 1", "GPU: one", "'one' is not of type 'integer'", id="resource not a number"),
        pytest.param("  type: aws", "  type: swa", "Unsupported node provider", id="unknown cloud"),
        pytest.param(
            "  - ~/venv/bin/ray stop", "  - 1", "1 is not of type 'string'", id="command not a text"
        ),
    ],
)
def test_ray_rejects_a_broken_copy(right: str, wrong: str, complaint: str) -> None:
    assert right in TEXT
    with pytest.raises((ValidationError, ValueError, NotImplementedError), match=complaint):
        accepted(TEXT.replace(right, wrong))
