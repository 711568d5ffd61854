"""Which images are others now: by name, as a person would say it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_tl.data.folder import Dataset, scan
from tune_tl.record import images

Change = Callable[[Path], object]


def fill(root: Path) -> Path:
    for place in ("train/cat", "train/dog", "val/cat", "val/dog", "test/cat"):
        (root / place).mkdir(parents=True)
        for n in range(6):
            (root / place / f"{n}.jpg").write_text(f"{place} {n}")
    return root


def read(root: Path) -> Dataset:
    return scan(root, name="mine")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "pictures")


def changed(root: Path, *changes: Change) -> str:
    """What is told after `changes`; the fingerprint has to know of them, too."""
    before = read(root)
    images.write(root.parent, before)
    for change in changes:
        change(root)
    after = read(root)
    assert before.fingerprint != after.fingerprint
    return images.described(images.changes(root.parent, after))


def add(place: str) -> Change:
    return lambda root: (root / place).write_text(f"new {place}")


def remove(place: str) -> Change:
    return lambda root: (root / place).unlink()


def edit(place: str) -> Change:
    return lambda root: (root / place).write_text("edited")


def move(place: str, to: str) -> Change:
    return lambda root: (root / place).rename(root / to)


def copy(place: str, to: str) -> Change:
    return lambda root: shutil.copy(root / place, root / to)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((add("train/cat/x.jpg"),), "1 added (train/cat/x.jpg)"),
        ((remove("val/dog/3.jpg"),), "1 removed (val/dog/3.jpg)"),
        ((edit("test/cat/0.jpg"),), "1 changed (test/cat/0.jpg)"),
        ((copy("train/dog/1.jpg", "train/dog/again.jpg"),), "1 added (train/dog/again.jpg)"),
        ((move("train/cat/1.jpg", "train/dog/x.jpg"),), "1 added, 1 removed (train/dog/x.jpg, train/cat/1.jpg)"),  # noqa: E501
        ((move("train/cat/1.jpg", "val/cat/x.jpg"), edit("val/cat/0.jpg")), "1 changed (val/cat/0.jpg)"),
        ((move("train/cat/1.jpg", "train/cat/x.jpg"), add("train/cat/y.jpg")), "1 added (train/cat/y.jpg)"),
        (
            (*(add(f"train/cat/x{n}.jpg") for n in range(3)), remove("val/cat/0.jpg"), edit("val/cat/1.jpg")),
            "3 added, 1 removed, 1 changed (train/cat/x0.jpg, train/cat/x1.jpg, train/cat/x2.jpg, …)",
        ),
        ((add("train/cat/\x1b[2J.jpg"),), r"1 added ('train/cat/\x1b[2J.jpg')"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_was_done_to_the_images_is_told(root: Path, changes: tuple[Change, ...], told: str) -> None:
    assert changed(root, *changes) == told


def test_one_image_more_is_one_image_more_though_others_change_their_split(tmp_path: Path) -> None:
    """Where the folder says no split, one more image makes another."""
    root = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for n in range(20):
            (root / label / f"{n}.jpg").write_text(f"{label} {n}")
    assert changed(root, add("cat/x.jpg")) == "1 added (cat/x.jpg)"


def test_images_that_only_change_their_split_are_told(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    names = {f"{label}/{n}.jpg" for label in ("cat", "dog") for n in range(3)}
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    splits = ("train", "val", "test")
    one, other = (
        scan(root, name="mine", published={name: order[int(name[4])] for name in names})
        for order in (splits, ("val", "train", "test"))
    )
    images.write(tmp_path, one)
    assert images.changes(tmp_path, other) == {
        "in another split": ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg"]
    }


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}x", '{"cat": []}', '{"cat": {"a": 1}}', '{"cat": {"a": "x"}}', "[" * 9999],
)  # fmt: skip
def test_a_damaged_note_costs_the_details_only(root: Path, text: str) -> None:
    (root.parent / images.MANIFEST_FILE).write_text(text)
    assert images.changes(root.parent, read(root)) == {}


def test_nothing_noted_nothing_told(root: Path, tmp_path: Path) -> None:
    assert images.changes(tmp_path, read(root)) == {}


def test_the_same_images_elsewhere_are_the_same(root: Path, tmp_path: Path) -> None:
    images.write(tmp_path, read(root))
    assert images.changes(tmp_path, read(fill(tmp_path / "there"))) == {}
