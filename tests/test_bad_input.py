"""What a person sees who mistypes: one line that names it, at once, and nothing left behind."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tune_tl import leaderboard
from tune_tl.training.backbones import BACKBONES

SLOW = {"torch", "torchvision", "timm", "ray", "mlflow"}
# The command as it is typed, which then tells what it imported.
COMMAND = """
import json, os, pathlib, runpy, sys
told = pathlib.Path(sys.argv.pop(1))
os._exit = sys.exit  # not before it is told
try:
    runpy.run_module("tune_tl.search", run_name="__main__")
finally:
    told.write_text(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    argv: tuple[str, ...]
    said: tuple[str, ...]  # words that the message holds
    make: Make = lambda here: None
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str
    loaded: frozenset[str]
    before: frozenset[str]
    after: frozenset[str]


def fill(here: Path, counts: Mapping[str, int]) -> None:
    for place, count in counts.items():
        folder = here / "pics" / place
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(count):
            Image.new("RGB", (4, 4), (n, sum(place.encode()) % 256, 0)).save(folder / f"{n}.png")


def pictures(**counts: int) -> Make:
    return lambda here: fill(here, counts)


def space(**settings: str) -> Make:
    text = "backbone: resnet18\n" + "".join(f"{key}: {value}\n" for key, value in settings.items())

    def make(here: Path) -> None:
        (here / "mine.yaml").write_text(text)

    return make


def both(*makers: Make) -> Make:
    def make(here: Path) -> None:
        for maker in makers:
            maker(here)

    return make


def earlier_search(here: Path) -> None:
    (here / "results" / "birds").mkdir(parents=True)
    (here / "results" / "birds" / "search.json").write_text('{"space": "garbage"}')


def unreadable(here: Path) -> None:
    """Three files that are no images, two of them alike, beside some that are."""
    fill(here, {"cat": 5, "dog": 5})
    (here / "pics" / "cat" / "page.jpg").write_text("<html>404")
    (here / "pics" / "dog" / "empty.jpg").write_bytes(b"")
    (here / "pics" / "cat" / "[empty] too.jpg").write_bytes(b"")
    space(dataset="./pics")(here)


CASES = {
    "unknown space": Case(("garbge",), ("'garbge'", "did you mean 'garbage'?")),
    "space that is no file": Case(("mine.yaml",), ("'mine.yaml'", "no such file")),
    "path too long": Case(("x" * 300,), ("xxx", "too long")),
    "unknown key": Case(
        ("mine.yaml",), ("mine.yaml", "'head_rl'", "did you mean 'head_lr'"), space(head_rl="1e-3")
    ),
    "wrong value": Case(("mine.yaml",), ("mine.yaml", "head_lr", "-1"), space(head_lr="-1")),
    "broken YAML": Case(("mine.yaml",), ("mine.yaml", "line 3"), space(epochs="[1")),
    "strategy of a space": Case(
        ("mine.yaml",), ("mine.yaml", "'asha-tp'", "did you mean"), space(strategy="asha-tp")
    ),
    "missing folder": Case(("default", "--data", "no/such"), ("'no/such'", "does not exist")),
    "missing folder of a space": Case(
        ("mine.yaml",), ("no-pics", "does not exist"), space(dataset="no-pics")
    ),
    "missing folder of a named dataset": Case(("garbage", "--data", "no/such"), ("'no/such'", "no folder")),
    "misspelt dataset": Case(("mine.yaml",), ("'garbag'", "'garbage'"), space(dataset="garbag")),
    "no dataset": Case(("mine.yaml",), ("'mine'", "--data"), space()),
    "no class folders": Case(("pics",), ("'pics'", "<class>/<image>"), pictures(**{".": 3})),
    "splits without classes": Case(("pics",), ("'pics'", "train/<class>/<image>"), pictures(train=3, test=3)),
    "one class": Case(("pics",), ("'pics'", "'cat'", "at least two"), pictures(cat=5)),
    "class too small": Case(("pics",), ("'dog'", "2 distinct"), pictures(cat=5, dog=2)),
    "unreadable images": Case(
        ("mine.yaml",),
        ("3 image(s)", "cat/page.jpg", "known format", "dog/empty.jpg", "cat/[empty] too.jpg", "--yes"),
        unreadable,
        (("TORCH_HOME", "torch"),),
    ),
    "cache in the way": Case(
        ("mine.yaml",),
        ("XDG_CACHE_HOME", "pics/cat/0.png"),
        both(pictures(cat=5, dog=5), space(dataset="./pics")),
        (("TORCH_HOME", "torch"), ("XDG_CACHE_HOME", "pics/cat/0.png")),
    ),
    "budget": Case(("garbage", "--budget", "nonsense"), ("'nonsense'", "10m")),
    "empty budget": Case(("garbage", "--budget", ""), ("budget", "''", "10m")),
    "budget of a space": Case(("mine.yaml",), ("mine.yaml", "budget", "'ten'"), space(budget="ten")),
    "no trials": Case(("garbage", "--trials", "0"), ("--trials", "'0'", "at least 1")),
    "seed": Case(("garbage", "--seed", "99999999999"), ("--seed", "'99999999999'")),
    "strategy": Case(("garbage", "--strategy", "asha-tp"), ("--strategy", "'asha-tp'", "asha-tpe")),
    "unknown option": Case(("garbage", "--trails", "3"), ("--trails",)),
    "no space": Case((), ("SPACE",)),
    "name taken": Case(
        ("garbage", "--output", "results", "--name", "birds"), ("results/birds", "--resume"), earlier_search
    ),
    "bad name": Case(("garbage", "--name", "../x"), ("'../x'",)),
    "nothing to resume": Case(("garbage", "--resume"), ("nothing to resume", "'garbage'")),
    "resume of a misspelt name": Case(
        ("garbage", "--resume", "--output", "results", "--name", "brids"),
        ("'brids'", "birds"),
        earlier_search,
    ),
    "tracking in plain files": Case(("garbage", "--tracking-uri", "./mlruns"), ("'./mlruns'", "sqlite:///")),
    "tracking in plain files, by the environment": Case(
        ("garbage",), ("'mlruns'", "sqlite:///"), environment=(("MLFLOW_TRACKING_URI", "mlruns"),)
    ),
}  # fmt: skip


def files(folder: Path) -> frozenset[str]:
    return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def run(case: Case, here: Path) -> Outcome:
    home = here / "home"
    work = here / "work"
    work.mkdir(parents=True)
    case.make(work)
    weights = here / "torch" / "hub" / "checkpoints"  # there, and never opened
    weights.mkdir(parents=True)
    (weights / BACKBONES["resnet18"].url.rpartition("/")[2]).write_bytes(b"")
    environment = os.environ | {"XDG_CACHE_HOME": str(home), "HOME": str(home)}
    for name, value in case.environment:
        under = {"TORCH_HOME": here, "XDG_CACHE_HOME": work}.get(name)
        environment[name] = str(under / value) if under else value
    before = files(work)
    told = here / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, told, *case.argv],
        cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    loaded = frozenset(json.loads(told.read_text()))
    return Outcome(done.returncode, done.stdout, done.stderr, loaded, before, files(work))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """Every case through the real command, a few at a time."""
    folders: Iterable[Path] = [tmp_path_factory.mktemp("case") for _ in CASES]
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(CASES, pool.map(run, CASES.values(), folders), strict=True))


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_exit_code_says_bad_input(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert outcomes[name].code == 2


def test_one_message_names_what_is_wrong(outcomes: Mapping[str, Outcome], name: str) -> None:
    stderr = outcomes[name].stderr
    assert stderr.startswith("error: ")
    assert stderr.count("error:") == 1
    assert all(word in stderr for word in CASES[name].said)
    if name != "unreadable images":  # which are listed, a line each
        assert stderr.count("\n") == 1
    assert "Traceback" not in stderr + outcomes[name].stdout
    assert "Warning" not in stderr


def test_nothing_is_left_behind(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert outcomes[name].after == outcomes[name].before


def test_nothing_slow_is_imported_to_say_so(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert "tune_tl" in outcomes[name].loaded
    assert not SLOW & outcomes[name].loaded


def test_unreadable_images_are_listed_in_order(outcomes: Mapping[str, Outcome]) -> None:
    lines = outcomes["unreadable images"].stderr.splitlines()
    assert [line.partition(":")[0].strip() for line in lines[1:4]] == [
        "cat/[empty] too.jpg", "cat/page.jpg", "dog/empty.jpg",
    ]  # fmt: skip
    assert len(lines) == 5


@pytest.mark.parametrize("door", ["search", "leaderboard", "cache", "collect", "sync"])
@pytest.mark.parametrize("argv", [["--no-such-option"], ["a", "b", "c"], ["--json=5"], ["--output"]])
def test_every_door_says_in_one_line_what_is_mistyped(
    door: str, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"tune_tl.{door}").main
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith(f"; see python -m tune_tl.{door} --help\n")
    assert err.count("\n") == 1


def test_a_comparison_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert leaderboard.main(["--by", "foo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in ("--by", "'foo'", "strategy", "backbone", "search"):
        assert word in line
