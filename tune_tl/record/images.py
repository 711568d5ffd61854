"""Which images a search was started on, so that a later run can say which of them are others now."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tune_tl.data.folder import Dataset
from tune_tl.data.names import is_text
from tune_tl.storage.files import write_text

MANIFEST_FILE = "images.json"
_SHOWN = 3  # images named
_OUT = "out"  # in place of a split: an audit's list left the image out
LISTED, UNLISTED = "left out by the list now", "left out by the list no longer"

_Seen = dict[str, tuple[str, str, str]]  # path below the dataset's root -> class, split, digest


def write(folder: Path, dataset: Dataset) -> None:
    """Note every image of `dataset` in `folder`: class -> path -> `<split> <digest>`.

    Those that an audit left out have `out` as their split.
    """
    noted: dict[str, dict[str, str]] = {label: {} for label in dataset.classes}
    for path, (label, split, digest) in _seen(dataset).items():
        noted[label][path] = f"{split} {digest}"
    write_text(folder / MANIFEST_FILE, json.dumps(noted, separators=(",", ":")))


def changes(folder: Path, dataset: Dataset) -> dict[str, list[str]]:
    """How `dataset` differs from what `folder` notes: in which way -> the images' paths.

    Empty where nothing was noted, or where the note is damaged. An image that was renamed is the same.
    """
    try:
        noted = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        before = {p: (label, *said.split()) for label, paths in noted.items() for p, said in paths.items()}
        return _changes(before, _seen(dataset))
    except (OSError, ValueError, TypeError, AttributeError, IndexError, RecursionError):
        return {}


def described(changes: dict[str, list[str]]) -> str:
    """The changes as one line for people: `3 added, 1 removed (cat/1.jpg, …)`."""
    parts = [f"{len(paths)} {what}" for what, paths in changes.items()]
    others = [path if is_text(path) else ascii(path) for paths in changes.values() for path in paths]
    named = ", ".join([*others[:_SHOWN], *(["…"] if len(others) > _SHOWN else [])])
    return f"{', '.join(parts)} ({named})" if parts else ""


def _seen(dataset: Dataset) -> _Seen:
    images = [(i.path, dataset.classes[i.label], str(i.split), i.digest) for i in dataset.images]
    images += [(file.path, file.label, _OUT, file.digest) for file in dataset.left_out]
    return {
        path.relative_to(dataset.root).as_posix(): (label, split, digest[:16])
        for path, label, split, digest in images
    }


def _changes(before: _Seen, now: _Seen) -> dict[str, list[str]]:
    def content(seen: _Seen, path: str) -> tuple[str, str]:
        return seen[path][0], seen[path][2]

    # What was out and went, or came and is out, was never in the search.
    removed = [p for p in before if p not in now and before[p][1] != _OUT]
    added = [p for p in now if p not in before and now[p][1] != _OUT]
    renamed = Counter(content(before, p) for p in removed) & Counter(content(now, p) for p in added)
    both = [p for p in now if p in before]
    found = {
        "added": _not_renamed(added, [content(now, p) for p in added], renamed),
        "removed": _not_renamed(removed, [content(before, p) for p in removed], renamed),
        "changed": [p for p in both if content(before, p) != content(now, p)],
        LISTED: [p for p in both if before[p][1] != _OUT == now[p][1]],
        UNLISTED: [p for p in both if before[p][1] == _OUT != now[p][1]],
    }
    if not any(found.values()):  # else it follows from the rest
        found = {"in another split": [p for p in both if before[p][1] != now[p][1]]}
    return {what: paths for what, paths in found.items() if paths}


def _not_renamed(
    paths: list[str], contents: list[tuple[str, str]], renamed: Counter[tuple[str, str]]
) -> list[str]:
    """The paths but for as many of each content as were renamed."""
    left, kept = renamed.copy(), []
    for path, content in zip(paths, contents, strict=True):
        if left[content]:
            left[content] -= 1
        else:
            kept.append(path)
    return kept
