"""The cache of downloaded datasets: what is in it was compared, byte for byte, with what was published."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.data.formats import IMAGE_SUFFIXES
from tune_tl.data.sources.archive import unpack_zip
from tune_tl.data.sources.cifar import unpack_cifar
from tune_tl.data.sources.download import BadArchive, Unavailable, WrongContent, fetch, host_of
from tune_tl.storage.files import cache_dir, sha256_of

if TYPE_CHECKING:
    from tune_tl.data.sources.entries import Archive, Entry

MARKER = "verified.json"  # a cached dataset without it is not one


def images_under(root: Path) -> list[str]:
    """The images' paths, relative to `root`, with forward slashes, sorted."""
    files = (
        path
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    return sorted(path.relative_to(root).as_posix() for path in files)


def content_fingerprint(root: Path) -> str:
    """16 hex digits over the path and the bytes of every image under `root`, wherever it lies."""
    lines = sorted(f"{image} {sha256_of(root / image)}" for image in images_under(root))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def cached(entry: Entry, archive: Archive) -> tuple[Path, str] | None:
    """The folder that `entry` describes and where it came from, in words; None if it is not there whole."""
    home = cache_dir() / "datasets" / entry.name
    root = home / archive.folder
    try:
        marker = json.loads((home / MARKER).read_text(encoding="utf-8"))
        whole = marker["content"] == _content(archive, root)  # unless the entry changed or files went missing
        return (root, str(marker["why"])) if whole else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def archive_file(entry: Entry, archive: Archive) -> Path:
    """Where `download` puts the archive, and takes it from if it is there."""
    return cache_dir() / "downloads" / entry.name / f"{entry.name}{archive.file_suffix}"


def download(entry: Entry, archive: Archive) -> tuple[Path, str]:
    """Put `entry` into the cache and return what `cached` will. The caller holds the entry's lock.

    A cut download is kept and resumed by the next call; content that is not the published one is
    removed. Missing split lists are no failure. Raises Unavailable with the reason.
    """
    file = archive_file(entry, archive)
    work = file.parent
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob("*unpacked*"):  # by a process that was killed
        shutil.rmtree(left)
    why = f"downloaded from {host_of(_first(archive.urls, file, archive.sha256))} and verified"
    try:
        unpacked = _unpack(entry, archive, file, work / "unpacked")
    except (WrongContent, BadArchive):
        shutil.rmtree(work)
        raise
    file.unlink()
    try:
        for wanted in entry.lists:
            _first(wanted.urls, work / wanted.file, wanted.sha256)
    except Unavailable as error:
        why += f"; split by tune_tl, for the published lists could not be had: {error}"
    return _settle(entry, archive, work, unpacked, why), why


def _first(urls: tuple[str, ...], target: Path, sha256: str | None = None) -> str:
    """Fetch `target` from the first of `urls` that has it and return that one."""
    reasons: dict[str, None] = {}  # each once
    for url in urls:
        try:
            fetch(url, target, sha256=sha256)
            return url
        except Unavailable as error:
            reasons[str(error)] = None
    raise Unavailable("; ".join(reasons))


def _unpack(entry: Entry, archive: Archive, file: Path, unpacked: Path) -> Path:
    """The verified folder. Raises BadArchive, NoSpace or WrongContent."""
    root = unpacked / archive.folder
    if archive.kind == "cifar":
        unpack_cifar(file, root, entry.labels)
        return root  # the checksum of the file was that of the published one
    unpack_zip(file, unpacked)
    found = content_fingerprint(root)
    if found != archive.fingerprint:
        raise WrongContent(
            f"the archive that came is not {entry.title} as published: {len(images_under(root)):,} images "
            f"with fingerprint {found} instead of {entry.images:,} with {archive.fingerprint}; it was removed"
        )
    return root


def _settle(entry: Entry, archive: Archive, work: Path, root: Path, why: str) -> Path:
    """Make it the cached dataset, complete in one rename."""
    finished = work / "unpacked-whole"
    finished.mkdir()
    root.rename(finished / archive.folder)
    for wanted in entry.lists:
        if (work / wanted.file).is_file():
            shutil.copyfile(work / wanted.file, finished / wanted.file)
    marker = {"content": _content(archive, finished / archive.folder), "why": why}
    (finished / MARKER).write_text(json.dumps(marker, indent=2), encoding="utf-8")
    home = cache_dir() / "datasets" / entry.name
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    finished.rename(home)
    shutil.rmtree(work)
    return home / archive.folder


def _content(archive: Archive, root: Path) -> dict[str, object]:
    """What is cheap to compare later; the bytes themselves were read before the marker was written."""
    sizes = [(root / image).stat().st_size for image in images_under(root)]
    return {"fingerprint": archive.fingerprint or archive.sha256, "images": len(sizes), "bytes": sum(sizes)}
