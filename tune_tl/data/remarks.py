"""What a person is told of how a folder is read: other readings of it, and all that is passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tune_tl.data import formats
from tune_tl.data.splits import Split, split_of, stem
from tune_tl.data.tree import Folder

SHOWN = 3  # names that a remark gives as examples


def other_readings(folder: Folder, classes: Collection[str]) -> list[str]:
    """Where the classes in `folder` hold folders themselves, which may be the classes, or splits."""
    inner = {label: folder.filled[label].filled.keys() for label in classes}
    if len(inner) < 2:
        return []
    same, every = set.intersection(*map(set, inner.values())), set.union(*map(set, inner.values()))
    if len(same) >= 2 and 2 * len(same) >= len(every):
        if all(map(split_of, same)):
            return [
                f"each class holds {names(same)}, which are not read as splits: lay them out as "
                "train/<class>/<image>"
            ]
        first = folder.filled[min(classes)].path
        return [
            f"the {len(inner)} classes hold the same folders ({names(same)}). If those are the classes, "
            f"give one of the {len(inner)} instead: --data {str(first)!r}"
        ]
    deep = [label for label, held in inner.items() if len(held) >= 2]
    if not deep:
        return []
    label = min(deep, key=lambda one: (not split_of(one), one))
    more = f" (and {len(deep) - 1} other classes hold some, too)" if len(deep) > 1 else ""
    return [f"class {label!r} holds folders ({names(inner[label])}), whose images are all its own{more}"]


def beside(root: Path) -> list[str]:
    """Where `root` is itself a split, whose relatives lie beside it."""
    place = root.absolute()
    if not split_of(place.name):
        return []
    with suppress(OSError):  # what lies above may be nobody's business
        around = [p.name for p in place.parent.iterdir() if p != place and p.is_dir() and split_of(p.name)]
        if others := [name for name in around if stem(name) == stem(place.name)]:
            above = f"to use all, give the folder above: {str(place.parent)!r}"
            return [f"beside this folder: {names(others)}; {above}"]
    return []


def not_read(
    top: Folder,
    folder: Folder,
    parts: Mapping[Split | None, Folder],
    files: Mapping[Split | None, Mapping[str, Sequence[Path]]],
) -> list[str]:
    """Folders without images, what tools wrote, links, files of other kinds, images outside of all classes.

    `top` is all that was looked at, `folder` what holds the `parts` or, where nothing is split, the classes.
    """
    said = []
    empty = [one.name for one in folder.folders if not one.images]
    for split, part in parts.items():
        if part is not folder and split == "train":
            empty += [one.name for one in part.folders if not one.images]
        if files[split] and part is not folder and part.own and any(part.filled):
            said.append(f"passed over: {images(len(part.own))} of {part.name!r} in no class folder")
    said += [f"without an image: {', '.join(map(ascii, empty))}"] if empty else []
    below = list(top.below())
    others: Counter[str] = sum((one.others for one in below if one not in (top, folder)), Counter())
    if others:
        said.append(f"passed over, no images: {formats.in_words(others)}")
    tools = [name for one in below for name in one.passed_over]
    said += [f"passed over, not data: {', '.join(tools)}"] if tools else []
    links = [str(link.relative_to(top.path)) for one in below for link in one.links]
    said += [f"links followed: {names(links)}"] if links else []
    hidden = sorted(name for one in below for name in one.hidden)
    return said + ([f"hidden and left out: {', '.join(map(repr, hidden))}"] if hidden else [])


def images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def counted(folders: Iterable[Folder]) -> str:
    return ", ".join(f"{one.name!r} ({images(len(one.images))})" for one in folders)


def names(found: Iterable[str]) -> str:
    """Some of them, and how many more there are."""
    known = sorted(found)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(map(ascii, known[:SHOWN])) + more
