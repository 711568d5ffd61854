"""How people lay images out: which folders are splits, which are classes, and what is neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tune_tl.data import remarks, tree
from tune_tl.data.splits import Split, split_of, stem
from tune_tl.data.tree import Folder
from tune_tl.errors import BadInput

# Words of folders that say nothing but that images are in them.
_PLAIN = frozenset({"image", "img", "picture", "photo", "data", "dataset", "all", "main"})


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
    top = folder = tree.read(root)
    loose, passed = list(folder.own), list[Folder]()
    while inner := _wrapped(folder):
        passed += [one for one in folder.filled.values() if one is not inner]
        folder = inner
        loose += folder.own
    found = _splits(folder)
    parts = {split: _descend(part) for split, part in found.items()} or {None: folder}
    files, notes = _by_class(parts)
    if found:
        passed += [one for one in folder.filled.values() if one not in found.values()]
    else:
        notes += remarks.other_readings(folder, files[None]) + remarks.beside(root)
    notes += [f"passed over, no split: {remarks.counted(passed)}"] if passed else []
    notes += remarks.not_read(top, folder, parts, files)
    if loose and not (folder is top and not folder.filled):
        number = remarks.images(len(loose))
        notes.append(f"passed over: {number} in no class folder, such as {loose[0].name!r}")
    return Layout({split: by for split, by in files.items() if by}, notes)


def _wrapped(folder: Folder) -> Folder | None:
    """The one folder in `folder` that all lies in, whatever its name; None if there is none."""
    filled = list(folder.filled.values())
    if len(filled) == 1:
        (inner,) = filled
        # `train` alone holds the classes of a split, unless it holds splits.
        descend = inner.filled and (not split_of(inner.name) or _splits(inner) or _wrapped(inner))
        return inner if descend else None
    plain = [one for one in filled if stem(one.name) and stem(one.name) <= _PLAIN and not split_of(one.name)]
    if len(plain) != 1 or len(plain[0].filled) < 2:
        return None
    rest = [one for one in filled if one is not plain[0]]
    # Such as `data` beside `docs`: what is no split and has no classes in it.
    return plain[0] if not any(split_of(one.name) or len(one.filled) > 1 for one in rest) else None


def _splits(folder: Folder) -> dict[Split | None, Folder]:
    """The folders in `folder` that are splits; none if its folders are classes."""
    named: dict[Split | None, Folder] = {}
    for one in folder.filled.values():
        if not (split := split_of(one.name)):
            continue
        other = named.get(split)
        if other and _descend(one).filled and _descend(other).filled:
            if stem(one.name) != stem(other.name):  # blood_test and urine_test are classes
                return {}
            raise BadInput(
                f"{other.name!r} and {one.name!r} in {str(folder.path)!r} both look like {split}; "
                "rename or remove one of them"
            )
        if not other or _descend(one).filled:
            named[split] = one
    others = [one for one in folder.filled.values() if one not in named.values()]
    if named and "train" not in named and len(others) == 1:
        related = all(_is_train_of(others[0], part) for part in named.values())
        return {"train": others[0], **named} if related else {}
    if "train" not in named:
        return named if named and not others else {}
    train = _descend(named["train"])
    if len(named) == 1 and others:
        # `train` beside `bus` and `tram` is a class of locomotives; beside `figures` alone it is none.
        alone = len(train.filled) > 1 and len(others) == 1 and not _descend(others[0]).filled
        return named if alone else {}
    if strangers := _strangers(named):
        if others:
            return {}
        raise BadInput(
            f"{named['train'].name!r} and {strangers[0].name!r} in {str(folder.path)!r} have no class in "
            f"common ({remarks.names(train.filled)}; {remarks.names(_descend(strangers[0]).filled)}); give "
            "both the same class folders, or rename them if they are classes"
        )
    return named if train.filled else {}


def _is_train_of(folder: Folder, part: Folder) -> bool:
    """Whether `folder`, whose name has no word for a split, is what `part` is the val or test of."""
    classes, held = _descend(folder).filled, _descend(part)
    if not classes:
        return False
    if _named_after(classes, held.images):
        return True
    mine = stem(folder.name)
    # Such as simpsons_dataset beside kaggle_simpson_testset.
    related = bool(mine & stem(part.name)) or bool(mine and mine <= _PLAIN)
    return related and (bool(classes.keys() & held.filled.keys()) or len(held.filled) < 2)


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
    """The images of each split by class, and remarks on what has none.

    The class is the folder a file is in; where no folder of val or test is a class of train, it is the
    file's own name, `<class>_<number>`, as in the test set of The Simpsons.
    """
    classes = parts["train"].filled.keys() if "train" in parts else set()
    files: dict[Split | None, dict[str, tuple[Path, ...]]] = {}
    notes = []
    for split, part in parts.items():
        copies = _copies(part)
        notes += [f"left out: {name!r}, which holds the other classes again" for name in copies]
        files[split] = {label: one.images for label, one in part.filled.items() if label not in copies}
        if split in ("train", None) or not classes or classes & files[split].keys():
            continue
        files[split] = _named_after(classes, part.images)
        others = len(part.images) - sum(map(len, files[split].values()))
        if not files[split]:
            held = f" ({remarks.names(part.filled)}: no class of train)" if part.filled else ""
            notes.append(f"passed over: {part.name!r}, whose {others} image(s) lie in no class folder{held}")
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
