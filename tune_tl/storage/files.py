"""Files that are whole at every moment, whatever ends the process or the machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune_tl.errors import BadInput

LOCKS = "locks"  # the cache's folder of them


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in place of `path`, which it becomes, synced to the disk, when the context ends well.

    Until then, and if it does not, `path` is what it was. Raises OSError.
    """
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring to the disk which files there are in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, content: str) -> None:
    """Put `content`, in which the name of a file need not be text, in place of `path`. Raises OSError."""
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, default=str) + "\n")


class Locked(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def claimed(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, made if need be in a folder that is there. Raises Locked at once, or OSError."""
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise Locked(f"{lock} is held by another process") from None
    try:
        yield
    finally:
        held.release()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest(path: Path) -> Path:
    """`path`, or the first folder above it that is there. Raises OSError where that cannot be looked up."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/tune_tl`; `~/.cache/tune_tl` if that is unset or, as its standard has it, relative.

    Raises BadInput where there is no home either.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not place.is_absolute():
        try:
            place = Path.home() / ".cache"
        except RuntimeError:
            raise BadInput("there is no home folder to keep a cache in; set HOME or XDG_CACHE_HOME") from None
    return place / "tune_tl"


def lock_of(target: Path) -> Path:
    """The lock file for making `target`, in the cache: the folder of `target` may be another program's."""
    place = os.fsencode(target.parent.resolve() / target.name)
    return cache_dir() / LOCKS / f"{hashlib.sha256(place).hexdigest()[:16]}.lock"
