"""How people lay images out: which folders are splits, which are classes, and what is neither."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from tune_tl.data import formats, tree
from tune_tl.data.tree import Folder
from tune_tl.errors import BadInput

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHOWN = 3  # names that a note gives as examples

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
# Folders that say nothing but that images are in them; beside `test` such a one is train.
_PLAIN = frozenset({"images", "imgs", "pictures", "photos", "data", "dataset", "all", "main"})


class Layout(NamedTuple):
    """The images of each split by class; under None those of a folder without splits."""

    files: dict[Split | None, dict[str, tuple[Path, ...]]]
    notes: list[str]  # on what is read in one of several ways, and on all that is passed over


def lay_out(root: Path) -> Layout:
    """What lies in `root`. Raises OSError where something may not be read, BadInput if two folders are the
    same split or splits have no class in common.

    A word such as `train` makes a folder a split only beside its relatives (`train` and `val`, `seg_train`
    and `seg_test`, `animals` and `animals-test`) that have classes in common; in doubt the folders at the
    top are the classes.
    """
    folder = tree.read(root)
    loose = list(folder.own)
    while not (parts := _splits(folder)) and len(folder.filled) == 1:
        (inner,) = folder.filled.values()
        if not inner.filled:
            break
        folder = inner
        loose += folder.own
    parts = {split: _descend(part) for split, part in parts.items()} or {None: folder}
    files, notes = _by_class(parts)
    if None in parts:
        notes += _other_readings(folder, files[None])
    elif others := [
        f for f in folder.filled.values() if not any(p.path.is_relative_to(f.path) for p in parts.values())
    ]:
        notes.append(f"passed over, no split: {_counted({f.name: len(f.images) for f in others})}")
    notes += _beside(root) if None in parts else []
    notes += _not_read(root, folder, parts, files)
    if loose:
        notes.append(f"passed over: {len(loose)} image(s) in no class folder, such as {loose[0].name!r}")
    return Layout({split: by for split, by in files.items() if by}, notes)


def _splits(folder: Folder) -> dict[Split | None, Folder]:
    """The folders in `folder` that are splits; none if its folders are classes, or one that holds them."""
    named: dict[Split | None, Folder] = {}
    for one in folder.filled.values():
        if split := split_of(one.name):
            if (other := named.get(split)) and _descend(one).filled and _descend(other).filled:
                raise BadInput(
                    f"{other.name!r} and {one.name!r} in {str(folder.path)!r} both look like {split}; "
                    "rename or remove one of them"
                )
            named[split] = one
    others = [one for one in folder.filled.values() if one not in named.values()]
    if "train" not in named and len(named) == 1 and len(others) == 1:
        ((split, part),) = named.items()
        named = {"train": others[0], split: part} if _is_train_of(others[0], part) else {}
    elif len(named) == 1 and others:
        named = {}  # `train` beside `bus` is a class of locomotives
    elif "train" in named and _strangers(named):
        if others:
            return {}
        train, other = (_descend(named["train"]), _strangers(named)[0])
        raise BadInput(
            f"{named['train'].name!r} and {other.name!r} in {str(folder.path)!r} have no class in common "
            f"({_names(train.filled)}; {_names(_descend(other).filled)}); give both the same class folders, "
            "or rename them if they are classes"
        )
    elif "train" in named and not _descend(named["train"]).filled:
        named = {}
    return named


def split_of(name: str) -> Split | None:
    return next((_SPLIT_WORDS[w] for w in _words(name) if w in _SPLIT_WORDS), None)


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


def _is_train_of(folder: Folder, part: Folder) -> bool:
    """Whether `folder`, whose name has no word for a split, is what `part` is the val or test of."""
    classes, held = _descend(folder).filled, _descend(part)
    if not classes:
        return False
    if _named_after(classes, held.images):
        return True
    mine, theirs = _stem(folder.name), _stem(part.name)
    # Such as simpsons_dataset beside kaggle_simpson_testset.
    related = bool(mine & theirs) or mine <= {w.rstrip("s") for w in _PLAIN}
    return related and bool(classes.keys() & held.filled.keys())


def _strangers(named: Mapping[Split | None, Folder]) -> list[Folder]:
    """Those of val and test that hold classes, but none of train's."""
    classes = _descend(named["train"]).filled
    held = {split: _descend(part) for split, part in named.items()}
    return [
        named[split]
        for split, part in held.items()
        if split != "train" and len(part.filled) > 1 and classes and not classes.keys() & part.filled.keys()
        and not _named_after(classes, part.images)
    ]  # fmt: skip


def _descend(folder: Folder) -> Folder:
    """Through doubled folders such as `seg_train/seg_train` to the one that holds the classes, or images."""
    filled = list(folder.filled.values())
    if len(filled) == 1 and not folder.own and (filled[0].filled or filled[0].name == folder.name):
        return _descend(filled[0]) if filled[0].filled and not filled[0].own else filled[0]
    return folder


def _by_class(
    parts: Mapping[Split | None, Folder],
) -> tuple[dict[Split | None, dict[str, tuple[Path, ...]]], list[str]]:
    """The images of each split by class, and a note for a split that has no classes.

    The class is the folder a file is in; where no folder of val or test is a class of train, it is the
    file's own name, `<class>_<number>`, as in the test set of The Simpsons.
    """
    classes = parts["train"].filled.keys() if "train" in parts else set()
    files: dict[Split | None, dict[str, tuple[Path, ...]]] = {}
    notes = []
    for split, part in parts.items():
        copies = _copies(part)
        files[split] = {label: one.images for label, one in part.filled.items() if label not in copies}
        if split in ("train", None) or not classes or classes & files[split].keys():
            continue
        files[split] = _named_after(classes, part.images)
        others = len(part.images) - sum(map(len, files[split].values()))
        if not files[split]:
            notes.append(f"passed over: {part.name!r}, whose {others} image(s) lie in no class folder")
        elif others:
            notes.append(f"{others} left out of {split}: named after no class of train")
    return files, notes


def _named_after(classes: Collection[str], images: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        label, _, number = path.stem.rpartition("_")
        if label in classes and number.isdecimal():
            found[label].append(path)
    return {label: tuple(paths) for label, paths in found.items()}


def _copies(folder: Folder) -> list[str]:
    """Folders in `folder` that repeat its class folders, such as simpsons_dataset/simpsons_dataset."""
    names = folder.filled.keys()
    return [
        name
        for name, one in folder.filled.items()
        if len(one.filled) > 1 and one.filled.keys() <= names - {name}
    ]


def _other_readings(folder: Folder, classes: Collection[str]) -> list[str]:
    """A note where the classes may as well be the folders inside: those that are the same in all of them."""
    inner = [folder.filled[label].filled.keys() for label in classes]
    if len(inner) < 2:
        return []
    same, all_of_them = set.intersection(*map(set, inner)), set.union(*map(set, inner))
    if len(same) < 2 or 2 * len(same) < len(all_of_them):
        return []
    one = folder.filled[next(iter(sorted(classes)))].path
    return [
        f"the {len(inner)} classes hold the same folders ({_names(same)}). If those are the classes, "
        f"give one of the {len(inner)} instead: --data {str(one)!r}"
    ]


def _beside(root: Path) -> list[str]:
    """A note where `root` is itself a split, whose relatives lie beside it."""
    place = root.absolute()
    if not split_of(place.name):
        return []
    with suppress(OSError):  # what lies above may be nobody's business
        beside = [p.name for p in place.parent.iterdir() if p != place and p.is_dir() and split_of(p.name)]
        if others := [name for name in beside if _stem(name) == _stem(place.name)]:
            above = f"to use all, give the folder above: {str(place.parent)!r}"
            return [f"beside this folder: {_names(others)}; {above}"]
    return []


def _stem(name: str) -> set[str]:
    """The words of a split's name that say what it is the split of."""
    return {word.rstrip("s") for word in _words(name) if word and word not in _SPLIT_WORDS}


def _not_read(
    root: Path,
    folder: Folder,
    parts: Mapping[Split | None, Folder],
    files: Mapping[Split | None, Mapping[str, Sequence[Path]]],
) -> list[str]:
    """Notes on folders without images, copies, what tools wrote, links and files of other kinds."""
    notes = []
    places = {one.path: one for part in parts.values() for one in part.below()}
    others: Counter[str] = sum((one.others for one in places.values() if one.path != root), Counter())
    for split, part in parts.items():
        notes += [f"left out: {name!r}, which holds the other classes again" for name in _copies(part)]
        if split in ("train", None):
            empty = [one.name for one in part.folders if not one.images]
            notes += [f"without an image: {', '.join(map(ascii, empty))}"] if empty else []
    if others:
        notes.append(f"passed over, no images: {formats.in_words(others)}")
    around = {folder.path: folder} | places
    tools = [name for one in around.values() for name in one.passed_over]
    notes += [f"passed over, not data: {', '.join(tools)}"] if tools else []
    links = [link for one in around.values() for link in one.links]
    inside = [f"{link.relative_to(root)!s}" for link in links]
    notes += [f"links followed: {_names(inside)}"] if inside else []
    hidden = sorted(name for one in around.values() for name in one.hidden)
    return notes + ([f"hidden and left out: {', '.join(map(repr, hidden))}"] if hidden else [])


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} ({count} images)" for name, count in counts.items())


def _names(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(map(ascii, known[:SHOWN])) + more
