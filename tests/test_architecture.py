"""The shape of the house: who may import whom, what lies at the root, and doors that open at once.

The imports are read from the source, those inside functions and under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from support.source import MODULES, PACKAGE, ROOT, imports, module_name
from tune_tl.record.images import MANIFEST_FILE
from tune_tl.record.json_files import RESULT_FILE, SEARCH_FILE
from tune_tl.record.ledger import ENDS_FILE, EPOCHS_FILE

DOORS = frozenset({"search", "leaderboard", "audit", "promote", "predict", "cache", "collect", "sync", "app"})
# One line a room, from the bottom up: what it may import besides itself, all of it from lines above its own.
# Doors may import everything.
MAY_IMPORT: dict[str, frozenset[str]] = {
    room: frozenset(others.split())
    for room, others in {
        "errors": "",
        "experiment": "errors",
        "storage": "errors",
        "terminal": "errors",
        "data": "errors storage terminal",
        "training": "errors experiment storage data",
        "record": "errors experiment storage data",
        "spaces": "errors experiment terminal data training",
        "tracking": "errors experiment storage record",
        "results": "errors experiment storage data training record spaces",
        "preflight": "errors experiment storage terminal data training spaces",
        "report": "errors experiment storage terminal data results",
        "tuning": "errors experiment storage data training record spaces preflight",
        "driver": "errors experiment storage terminal data training record spaces tracking results preflight "
        "report tuning",
    }.items()
}
ONLY_IN = {"ray": "tuning", "mlflow": "tracking"}
TOO_SLOW_FOR_HELP = {"torch", "torchvision", "timm", "ray", "mlflow"}

AT_THE_ROOT = {
    "tune_tl",
    "search_spaces",
    "tests",
    "benchmarks",
    "pyproject.toml",
    "README.md",
    "cluster.yaml",
}
AT_THE_ROOT |= {"LICENSE", "CHANGELOG.md"}  # and what begins with a dot


def room(module: str) -> str:
    """`tune_tl.data.folder` -> `data`; the package itself is the empty room."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def breaches(source: str, module: str, package: str) -> list[str]:
    """What the module imports although its room may not."""
    here = room(module)
    found = []
    for imported in imports(source, package):
        top = imported.partition(".")[0]
        if top in ONLY_IN and here != ONLY_IN[top]:
            found.append(f"{module} imports {imported}, which belongs to {ONLY_IN[top]}/")
        if top == PACKAGE and here in MAY_IMPORT:
            there = room(imported)
            if there in MAY_IMPORT.keys() | DOORS and there not in MAY_IMPORT[here] | {here}:
                found.append(f"{module} imports {imported}; {here} may import {sorted(MAY_IMPORT[here])}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    assert breaches(path.read_text(), module, package) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_module_has_a_room_in_the_house(path: Path) -> None:
    assert room(module_name(path)) in DOORS | MAY_IMPORT.keys() | {"", "__main__"}


def test_the_house_has_an_order_and_so_no_circle() -> None:
    above = list(MAY_IMPORT)
    for number, (here, others) in enumerate(MAY_IMPORT.items()):
        assert others <= set(above[:number]), here


RECORD_FILES = {SEARCH_FILE, RESULT_FILE, EPOCHS_FILE, ENDS_FILE, MANIFEST_FILE}
# data/ lies below record/, and passes a search's folder over that lies among images: by this mark.
NAMED_BELOW = {"tune_tl.data.tree": {SEARCH_FILE}}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_record_names_its_files(path: Path) -> None:
    module = module_name(path)
    words = {name for text in strings(path.read_text()) for name in RECORD_FILES if name in text}
    assert room(module) == "record" or words == NAMED_BELOW.get(module, set())


def strings(source: str) -> Iterator[str]:
    """What a source has in quotes, but for docstrings."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tune_tl.search", "import ray"),
        ("tune_tl.search", "def run():\n    from ray import tune"),
        ("tune_tl.training.trainer", "def log():\n    import mlflow.pytorch"),
        ("tune_tl.tuning.tuner", "import importlib\nimportlib.import_module('mlflow')"),
        ("tune_tl.results.loading", "from tune_tl.tuning.tuner import run"),
        ("tune_tl.results.loading", "from tune_tl import tracking"),
        ("tune_tl.data.folder", "from ..training import augment"),
        ("tune_tl.data.audit.facts", "from ... import spaces"),
        ("tune_tl.training.model", "if TYPE_CHECKING:\n    import tune_tl.tuning.trial"),
        ("tune_tl.experiment", "from . import record"),
        ("tune_tl.tuning.tuner", "from tune_tl import search"),
    ],
)
def test_an_import_that_runs_the_wrong_way_is_found(module: str, source: str) -> None:
    assert len(breaches(source, module, module.rpartition(".")[0])) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tune_tl.tuning.tuner", "from ray import tune\nfrom tune_tl.training import trainer"),
        ("tune_tl.tracking.tracker", "import mlflow\nfrom tune_tl.record.ledger import Ledger"),
        ("tune_tl.data.folder", "from . import store\nfrom ..errors import BadInput"),
        ("tune_tl.search", "from tune_tl import __version__, preflight"),
        ("tune_tl.training.model", "import rayon, mlflower"),
    ],
)
def test_an_import_that_runs_the_right_way_is_not(module: str, source: str) -> None:
    assert breaches(source, module, module.rpartition(".")[0]) == []


def test_no_file_is_named_for_nothing_in_particular() -> None:
    named = {
        path.stem for folder in (PACKAGE, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    }
    assert not {
        name for name in named if name.strip("_") in {"util", "utils", "helper", "helpers", "manager"}
    }


def test_the_root_holds_what_the_design_lists() -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    found = {
        entry.name
        for entry in ROOT.iterdir()
        if not entry.name.startswith(".") and not any(fnmatch(entry.name, pattern) for pattern in ignored)
    }
    assert found <= AT_THE_ROOT


# `app` has no --help of its own: streamlit opens it.
HELPFUL = sorted(door for door in DOORS - {"app"} if (ROOT / PACKAGE / f"{door}.py").exists())


@pytest.mark.parametrize("door", HELPFUL)
def test_help_comes_at_once(door: str) -> None:
    """Torch alone takes seconds to import: a door may do it after the arguments are known to be good."""
    code = (
        "import json, runpy, sys\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n"
        f"    runpy.run_module('{PACKAGE}.{door}', run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    print(json.dumps([exit.code or 0, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "usage:" in done.stdout.lower()
    assert TOO_SLOW_FOR_HELP.isdisjoint(loaded)
