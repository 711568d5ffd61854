"""What lies in the cache folder, said in words, and its removal beside searches that run.

A folder in it is a kind. What another process has mapped or is making stays: removing it would free
nothing before that process ends, or would take its work away.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tune_tl.storage.files import LOCKS, Locked, claimed

KINDS = ("datasets", "downloads", "samples", "decoded", "activations")  # and whatever else lies there
UNDESCRIBED = "of an earlier version"
IN_WORDS = {"proven": "which files of weights are known to be good", "inspected": "what is known of images"}
_ASIDE = ".removed-"


@dataclass(frozen=True)
class CacheEntry:
    """What is removed together or not at all."""

    kind: str
    name: str  # in words; several entries may share it
    paths: tuple[Path, ...]
    locks: tuple[Path, ...] = ()  # held by a process that makes it
    dataset: str = ""  # whose images it is or was made from, where that is known
    in_use: str = ""  # why it is not removed; empty if it may be
    bytes: int = 0  # on the disk: of a file with holes, what it holds
    last_used: float = 0.0  # seconds since the epoch


def kinds(root: Path) -> tuple[str, ...]:
    """The kinds there are, those that have nothing included."""
    found = (path.stem for path in _places(root))
    return tuple(dict.fromkeys([*KINDS, *found]))


def listing(root: Path) -> list[CacheEntry]:
    """Every entry under the cache folder `root`, with why it is in use, if it is."""
    mapped = _mapped(root)
    found = []
    for entry in _entries(root):
        users = [
            str(pid)
            for path, pid in mapped
            if any(path.is_relative_to(mine.resolve()) for mine in entry.paths)
        ]
        with _all_claimed(entry.locks) as free:
            why = f"in use by process {', '.join(dict.fromkeys(users))}" if users else ""
            found.append(
                replace(
                    entry,
                    in_use=why or ("" if free else "being made"),
                    bytes=sum(map(disk_use, entry.paths)),
                    last_used=_last_used(entry),
                )
            )
    # A search that maps its decoded images decodes them again if they vanish: it needs the files too.
    busy = {entry.dataset for entry in found if entry.in_use and entry.kind == "decoded"} - {""}
    return [
        replace(entry, in_use="a search on it runs")
        if entry.kind in ("datasets", "samples") and entry.dataset in busy and not entry.in_use
        else entry
        for entry in found
    ]


def remove(entry: CacheEntry) -> bool:
    """Remove what nobody uses; False if another process has begun to make it.

    Raises OSError if it may not be removed.
    """
    with _all_claimed(entry.locks) as free:
        if not free:
            return False
        for path in entry.paths:
            if path.is_dir() and not path.is_symlink():
                # A folder vanishes in one step, so that half of it is never taken for the whole.
                aside = path
                if not path.name.startswith(_ASIDE):
                    aside = path.rename(path.with_name(f"{_ASIDE}{path.name}-{os.getpid()}"))
                shutil.rmtree(aside)
            else:
                path.unlink(missing_ok=True)
        return True


def grouped(entries: Iterable[CacheEntry]) -> list[dict[str, Any]]:
    """For JSON: one for all entries of a kind with the same name, for a network's activations are many."""
    groups: dict[tuple[str, str], list[CacheEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.kind, entry.name), []).append(entry)
    return [
        {
            "kind": kind,
            "name": name,
            "entries": len(alike),
            "bytes": sum(entry.bytes for entry in alike),
            "last_used": datetime.fromtimestamp(max(e.last_used for e in alike)).isoformat(" ", "seconds"),
            "in_use": "; ".join(dict.fromkeys(entry.in_use for entry in alike if entry.in_use)),
        }
        for (kind, name), alike in groups.items()
    ]


def _entries(root: Path) -> Iterator[CacheEntry]:
    for place in _places(root):
        kind, inside = place.stem, _children(place)
        match kind:
            case "datasets" | "downloads" | "samples":
                for path in inside:
                    dataset = path.name.rpartition("-")[0] if kind == "samples" else path.name
                    lock = root / "datasets" / f"{dataset}.lock"
                    yield CacheEntry(kind, path.name, (path,), (lock,), dataset)
            case "decoded":
                key_of = {path: path.name.split(".")[0].partition("-")[0] for path in inside}
                for key in sorted(set(key_of.values())):
                    mine = tuple(path for path in inside if key_of[path] == key)
                    about = _about(place / f"{key}.json")
                    name = f"{about['dataset']}, {about['images']:,} images" if about else key
                    lock = place / f"{key}-0.lock"
                    yield CacheEntry(kind, name + _sizes(mine), mine, (lock,), str(about.get("dataset", "")))
            case "activations":
                for path in inside:
                    about = _about(path / "about.json")
                    name = (
                        f"{about['dataset'] or 'unnamed'}, {about.get('backbone')}" if about else UNDESCRIBED
                    )
                    locks = tuple(path.glob("*.lock")) if path.is_dir() else (path.with_suffix(".lock"),)
                    yield CacheEntry(kind, name, (path,), locks, str(about.get("dataset", "")))
            case _:
                yield CacheEntry(kind, IN_WORDS.get(kind, place.name), (place,))


def _sizes(stores: Iterable[Path]) -> str:
    sizes = [path.stem.partition("-")[2] for path in stores if path.suffix == ".u8"]
    shown = " and ".join(sorted(sizes, key=lambda size: (len(size), size)))
    return f" at {shown} pixels" if shown else ", none whole"


def _about(path: Path) -> dict[str, Any]:
    """What the file says; nothing unless it says all that is shown of it."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        about = json.loads(path.read_text(encoding="utf-8"))
        return dict(about) | {"dataset": str(about["dataset"]), "images": int(about["images"])}
    return {}


def _places(root: Path) -> list[Path]:
    return [path for path in _children(root) if path.name != LOCKS]


def _children(folder: Path) -> list[Path]:
    """Locks are passed over: they are empty, and one that is removed while it is waited for locks nothing."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix != ".lock")
    return []


@contextmanager
def _all_claimed(locks: Iterable[Path]) -> Iterator[bool]:
    """Holds those of the locks that exist; False if another process holds one of them."""
    with ExitStack() as held:
        free = True
        for lock in locks:
            with suppress(PermissionError):  # another user's: the removal will say so
                try:
                    if lock.exists():
                        held.enter_context(claimed(lock))
                except Locked:
                    free = False
        yield free


def _mapped(root: Path) -> list[tuple[Path, int]]:
    """Files under `root` that processes have mapped, with the processes' ids; none without Linux's /proc."""
    inside, found = f"{root.resolve()}/", []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # ended, or another user's
            lines = maps.read_text(errors="replace").splitlines()
            paths = {line.split(maxsplit=5)[5] for line in lines if inside in line}
            found += [(Path(path), int(maps.parent.name)) for path in paths]
    return found


def _last_used(entry: CacheEntry) -> float:
    times = [path.lstat().st_mtime for path in entry.paths if path.exists()]
    if entry.kind == "datasets":  # nothing in one changes, but its marker is read when it is used
        times += [file.lstat().st_atime for path in entry.paths for file in path.glob("*.json")]
    return max(times, default=0.0)


def disk_use(path: Path) -> int:
    """Bytes on the disk that a file, or a folder with all in it, takes; holes take none."""
    total = 0
    with suppress(OSError):
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        for file in (path, *inside):
            with suppress(FileNotFoundError):
                total += file.lstat().st_blocks * 512
    return total
