"""The named datasets, and where one is to be had: the user's folder, the cache, the network, a drawing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tune_tl.data.folder import Source
from tune_tl.data.sources import verified
from tune_tl.data.sources.download import Unavailable
from tune_tl.data.sources.entries import CATALOG, Archive, Entry
from tune_tl.data.sources.verified import images_under
from tune_tl.data.splits import Split
from tune_tl.errors import BadInput, near
from tune_tl.storage.files import cache_dir

DATA_VARIABLE = "TUNE_TL_DATA"
_WAY_OUT = "restore the published files, or remove the lists to have tune_tl make the split"


@dataclass(frozen=True)
class Resolved:
    """Where a dataset's class folders are on this machine, and why it is these."""

    root: Path  # absolute
    source: Source
    entry: Entry | None  # None for a folder that no entry describes
    why: str  # one line; for a sample, why the real images could not be had


def resolve(name: str, data: Path | None = None, *, catalog: Mapping[str, Entry] = CATALOG) -> Resolved:
    """Find the dataset `name`: `data`, `$TUNE_TL_DATA/<name>`, the cache, a download, else a drawn sample.

    Raises BadInput if `data` or `$TUNE_TL_DATA` is no folder, if no dataset has that name, if the cache
    folder cannot be written, and, saying what a person has to do, if it cannot be had without one.
    """
    entry = catalog.get(name)
    if data is not None:
        if not data.is_dir():
            raise BadInput(f"--data {str(data)!r} is no folder; give it a folder of class folders")
        return _local(data, entry, "given by --data")
    if shelf := os.environ.get(DATA_VARIABLE):
        place = Path(shelf).expanduser()
        if not place.is_dir():
            raise BadInput(f"${DATA_VARIABLE} is {shelf!r}, which is no folder; correct or unset it")
        if (place / name).is_dir():
            return _local(place / name, entry, f"found in ${DATA_VARIABLE}")
    if entry is None:
        raise BadInput(
            f"no dataset is named {name!r}{near(name, catalog)}; known: "
            f"{', '.join(sorted(catalog))}; for your own images give --data DIR"
        )
    if entry.archive is None:
        raise _by_hand(entry, "; how to get them:")
    try:
        return _downloaded(entry, entry.archive) or _obtain(entry, entry.archive)
    except OSError as error:
        raise BadInput(
            f"the cache folder {str(cache_dir())!r} cannot be used ({error.strerror or error}); set "
            "XDG_CACHE_HOME to one that can be written, or give --data DIR"
        ) from error


def published_split(entry: Entry, root: Path) -> dict[str, Split] | None:
    """The official split, `<class>/<file>` to train, val or test; None if none is published or there.

    The lists are looked for in `root`, the folder of class folders, and in the three above it. Raises
    BadInput, naming list and line, unless they put each image in exactly one split, under its class.
    """
    above = (root, *root.parents[:3])
    places = [place for place in above if any((place / w.file).is_file() for w in entry.lists)]
    if not places:
        return None
    place, images = places[0], set(images_under(root))
    split: dict[str, Split] = {}
    for wanted in entry.lists:
        path = place / wanted.file
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read ({error}); {_WAY_OUT}") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                image = _listed_image(line, entry.labels, images)
                if image in split:
                    raise ValueError(f"{image} is listed before, as {split[image]}")
            except ValueError as error:
                raise BadInput(f"{path}, line {number}: {error}; {_WAY_OUT}") from None
            split[image] = wanted.split
    if unlisted := sorted(images - set(split)):
        files = ", ".join(wanted.file for wanted in entry.lists)
        raise BadInput(f"{root / unlisted[0]} is in none of {files} ({len(unlisted)} like it); {_WAY_OUT}")
    return split


def _listed_image(line: str, labels: tuple[str, ...], images: set[str]) -> str:
    """`paper70.jpg 2` -> `paper/paper70.jpg`. Raises ValueError saying what is wrong with the line."""
    file, _, label = line.strip().rpartition(" ")
    if not file or not label.isdecimal() or not 1 <= int(label) <= len(labels):
        raise ValueError(f"{line!r} is not '<file> <label>' with a label of 1 to {len(labels)}")
    image = f"{labels[int(label) - 1]}/{file.strip()}"
    if image not in images:
        elsewhere = [f"{name}/{file.strip()}" for name in labels if f"{name}/{file.strip()}" in images]
        raise ValueError(
            f"label {label} is {labels[int(label) - 1]!r}, but the folder holds {elsewhere[0]}"
            if elsewhere
            else f"there is no image {image}"
        )
    return image


def sample_banner(resolved: Resolved) -> str:
    """What must be seen before anything is searched on drawn images; empty for real ones."""
    entry = resolved.entry
    if resolved.source != "sample" or entry is None or entry.archive is None:
        return ""
    rule = "!" * 78
    return f"""{rule}
!!  THESE ARE DRAWN IMAGES, NOT PHOTOGRAPHS: what is found on them says nothing
!!  about {entry.title}. Its {entry.images:,} images could not be had:
!!    {resolved.why}
!!  To search on the real ones ({entry.licence}), download
!!    {entry.archive.urls[0]}
!!  unpack it and give the folder as --data DIR, or put it at
!!    ${DATA_VARIABLE}/{entry.name}
{rule}"""


def _by_hand(entry: Entry, why: str) -> BadInput:
    """What a person has to do to have the images of `entry`, and where to put them."""
    shelf = os.environ.get(DATA_VARIABLE)
    place = Path(shelf).expanduser() / entry.name if shelf else f"${DATA_VARIABLE}/{entry.name}"
    images = f"{entry.images:,} images" if entry.images else "images"
    rows = [("what", f"{entry.title}: {images} in {entry.classes} classes; licence: {entry.licence}")]
    if entry.homepage:
        rows.append(("page", entry.homepage))
    rows += entry.steps
    if archive := entry.archive:  # a file that is there already, and the right one, is not fetched again
        by_checksum = f" (SHA-256 {archive.sha256})" if archive.sha256 else ""
        rows += [
            ("get it", f"{archive.urls[0]}{by_checksum}"),
            ("", f"the file itself may be put at {verified.archive_file(entry, archive)}"),
        ]
    rows += [
        ("put it", f"at {place}, or give its folder as --data DIR"),
        ("layout", entry.layout),
        ("", "or train/<class>/<image> with test/ (and val/) beside it; or <class>/<image>, unsplit"),
    ]
    lines = "".join(f"\n  {word:9}{text}" for word, text in rows)
    return BadInput(f"the images of {entry.name!r} are not on this machine{why}{lines}")


def _local(folder: Path, entry: Entry | None, why: str) -> Resolved:
    # Unpacked as it was published, or wrapped in folders by whoever published it again.
    inner = folder / entry.archive.folder if entry and entry.archive else folder
    root = inner if inner.is_dir() else folder
    while entry and entry.lists and not any((root / label).is_dir() for label in entry.labels):
        within = [
            place for place in root.iterdir() if place.is_dir() and not place.name.startswith((".", "__"))
        ]
        if len(within) != 1:
            break
        root = within[0]
    return Resolved(root.absolute(), "local", entry, why)


def _downloaded(entry: Entry, archive: Archive) -> Resolved | None:
    found = verified.cached(entry, archive)
    return Resolved(found[0], "download", entry, found[1]) if found else None


def _obtain(entry: Entry, archive: Archive) -> Resolved:
    """The dataset from the network, else the sample, by one process at a time."""
    from filelock import FileLock

    lock = cache_dir() / "datasets" / f"{entry.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if ready := _downloaded(entry, archive):  # by the process that held the lock
            return ready
        try:
            root, why = verified.download(entry, archive)
        except Unavailable as error:
            if entry.drawn:
                return Resolved(_sample(entry.name), "sample", entry, str(error))
            raise _by_hand(entry, f" and could not be downloaded: {error}") from None
        return Resolved(root, "download", entry, why)


def _sample(name: str) -> Path:
    """The drawn images' folder; another one as soon as they are drawn by other code."""
    from tune_tl.data.sources.sample import drawing

    folder = cache_dir() / "samples" / f"{name}-{drawing.version()}"
    if not folder.is_dir():
        print("drawing sample images, once", file=sys.stderr)
        drawing.draw(folder)
    return folder
