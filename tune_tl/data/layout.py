"""How people lay images out: which folders are splits, which are classes, which files are images."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NoReturn

from tune_tl.errors import BadInput

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip

_HIDDEN = (".", "__")  # of folders: .ipynb_checkpoints, __MACOSX
_OURS = (
    "search.json",
    "audit.json",
    ".lock",
)  # in the folder of a search or an audit; the last from its start


def split_folders(root: Path) -> dict[Split | None, Path]:
    """The folders that hold class folders, by split; `{None: folder}` where nothing is split."""
    folders = _subfolders(root)
    named: dict[Split | None, Path] = {}
    classes: set[str] = set()
    if any(split_of(folder.name) and not _subfolders(folder) for folder in folders):
        classes = {sub.name for folder in folders for sub in _subfolders(_descend(folder))}
    for folder in folders:
        split = split_of(folder.name)
        # `train` beside no other split may be a class of locomotives: it must hold folders itself, or
        # files named after classes.
        if split and (_subfolders(folder) or _named_after(classes, folder)):
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


def files_by_class(parts: Mapping[Split | None, Path]) -> dict[Split | None, dict[str, list[Path]]]:
    """The images of each split by class.

    That is the folder a file is in; where no folder of val or test is a class of train, it is the file's
    own name, `<class>_<number>`, as in the test set of The Simpsons.
    """
    classes = {sub.name for sub in _subfolders(parts["train"])} if "train" in parts else set()
    found = {split: _class_files(folder) for split, folder in parts.items()}
    for split in found:
        if split != "train" and not classes & found[split].keys():
            found[split] = _named_after(classes, parts[split]) or found[split]
    return found


def _class_files(folder: Path) -> dict[str, list[Path]]:
    copies = _copies(folder)
    classes = {s.name: sorted(_images(s, recursive=True)) for s in _subfolders(folder) if s not in copies}
    return {label: files for label, files in classes.items() if files}


def _named_after(classes: Container[str], folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(_images(folder, recursive=True)) if classes else ():
        label, _, number = path.stem.rpartition("_")
        if label in classes and number.isdecimal():
            found[label].append(path)
    return dict(found)


def _copies(folder: Path) -> list[Path]:
    """Folders in `folder` that repeat its class folders, such as simpsons_dataset/simpsons_dataset."""
    subs = _subfolders(folder)
    names = {sub.name for sub in subs}
    inner = {sub: {s.name for s in _subfolders(sub)} for sub in subs}
    return [sub for sub in subs if len(inner[sub]) > 1 and inner[sub] <= names - {sub.name}]


def _subfolders(folder: Path) -> list[Path]:
    """Less hidden ones, and those with results of searches and audits, which are images of no class."""
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(_HIDDEN) and not _results(p)
    )


def _results(folder: Path) -> bool:
    return any((place / name).is_file() for name in _OURS for place in (folder, *_inside(folder)))


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as inside:  # who may not read it is told later
        return [Path(entry) for entry in inside if entry.is_dir(follow_symlinks=False)]
    return []


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


def passed_over(
    parts: Mapping[Split | None, Path], found: Mapping[Split | None, Mapping[str, Sequence[Path]]]
) -> list[str]:
    """A note for folders of images that are passed over, and for files that are named after no class."""
    notes = []
    hidden: list[str] = []
    for split, place in parts.items():
        with suppress(OSError):  # whose they are and what is in them is nobody's business here
            hidden += [
                p.name for p in place.iterdir() if p.name.startswith(_HIDDEN) and p.is_dir() and _images(p)
            ]
        notes += [f"left out: {sub.name!r}, which holds the other classes again" for sub in _copies(place)]
        empty = [s.name for s in _subfolders(place) if s.name not in found[split] and s not in _copies(place)]
        notes += [f"without an image: {', '.join(map(ascii, empty))}"] if empty else []
        if split and not any((place / label).is_dir() for label in found[split]):
            others = len(_images(place, recursive=True)) - sum(map(len, found[split].values()))
            notes += [f"{others} left out of {split}: named after no class of train"] if others else []
    return notes + ([f"hidden and left out: {', '.join(map(repr, sorted(hidden)))}"] if hidden else [])
