"""How people lay images out: which folders are splits, which are classes, which files are images."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NoReturn

from tune_tl.experiment import BadInput

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip

_HIDDEN = (".", "__")  # of folders: .ipynb_checkpoints, __MACOSX


def split_folders(root: Path) -> dict[Split | None, Path]:
    """The folders that hold class folders, by split; `{None: folder}` where nothing is split."""
    folders = _subfolders(root)
    named: dict[Split | None, Path] = {}
    for folder in folders:
        split = split_of(folder.name)
        # `train` beside no other split may be a class of locomotives: it must hold folders itself.
        if split and _subfolders(folder):
            if split in named:
                raise BadInput(
                    f"{named[split].name!r} and {folder.name!r} in {str(root)!r} both look like {split}"
                )
            named[split] = folder
    others = [f for f in folders if f not in named.values() and _subfolders(f)]
    if named and "train" not in named and len(others) == 1:
        named["train"] = others[0]  # such as simpsons_dataset beside kaggle_simpson_testset
    if named:
        return {split: _descend(folder) for split, folder in named.items()}
    if len(folders) == 1 and not _images(root) and _subfolders(folders[0]):
        return split_folders(folders[0])
    return {None: root}


def split_of(name: str) -> Split | None:
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLIT_WORDS[w] for w in words if w in _SPLIT_WORDS), None)


def _descend(folder: Path) -> Path:
    """Through doubled folders such as `seg_train/seg_train` to the one that holds the classes."""
    inner = _subfolders(folder)
    if len(inner) == 1 and not _images(folder) and _subfolders(inner[0]) and not _images(inner[0]):
        return _descend(inner[0])
    return folder


def class_files(folder: Path) -> dict[str, list[Path]]:
    classes = {sub.name: sorted(_images(sub, recursive=True)) for sub in _subfolders(folder)}
    return {label: files for label, files in classes.items() if files}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(_HIDDEN))


def _images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Raises OSError where a folder may not be read, which `rglob` would pass over as if it were empty."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if recursive and not name.startswith(_HIDDEN)]
        found += [
            Path(place, name)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return found


def _raise(error: OSError) -> NoReturn:
    raise error


def is_text(name: str) -> bool:
    """Whether a name can be shown in one line: no control characters, no bytes that are not UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def look_alike(classes: Iterable[str]) -> list[str]:
    """A note for classes that a person would hardly tell apart: most often one class, written in two ways."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in classes:
        alike[unicodedata.normalize("NFKC", label).casefold().strip()].append(label)
    return [
        f"look alike, but are {len(them)} classes: {', '.join(map(ascii, them))}"
        for them in alike.values()
        if len(them) > 1
    ]


def hidden(folders: Iterable[Path]) -> list[str]:
    """A note for folders of images that are passed over because of their names."""
    passed = []
    for place in folders:
        with suppress(OSError):  # whose they are and what is in them is nobody's business here
            passed += [
                p.name for p in place.iterdir() if p.name.startswith(_HIDDEN) and p.is_dir() and _images(p)
            ]
    return [f"hidden and left out: {', '.join(map(repr, sorted(passed)))}"] if passed else []
