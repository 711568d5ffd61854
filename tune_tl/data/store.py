"""Decode once: every image of a dataset, at one size, in one memory-mapped file of bytes.

All trials on a machine read the same pages, so an image is decoded once for a dataset and size and
not once an epoch and trial. Images are squeezed to a square: nothing at the borders is cut away, and
a network sees the same squeeze in training and in use.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tune_tl.data import greys
from tune_tl.data.decoding import squeezed, upright
from tune_tl.data.folder import Dataset
from tune_tl.data.oddities import BLANK, FEW, Appearance, count, spread
from tune_tl.data.splits import Split
from tune_tl.errors import BadInput
from tune_tl.storage.files import cache_dir, write_text
from tune_tl.terminal.progress import ShowProgress

VERSION = 2  # of what a byte in the file means; part of its name
MARGIN = 1 << 30  # bytes of disk left free
ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Images:
    """A dataset's pixels and labels at one size, ready for indexing."""

    pixels: npt.NDArray[np.uint8]  # (rows, size, size, 3), memory-mapped, read-only
    rows: dict[Split, npt.NDArray[np.int64]]  # of `pixels`, an entry an image
    labels: dict[Split, npt.NDArray[np.int64]]
    classes: tuple[str, ...]
    key: str = ""  # of `pixels`: equal keys, equal rows; without one nothing made from them is kept
    name: str = ""  # the dataset's, for people


def open_images(dataset: Dataset, size: int) -> Images:
    """The store of `dataset` at `size` pixels a side, built first if this machine has none.

    Raises BadInput if an image cannot be decoded (`ensure` lists them beforehand).
    """
    if bad := ensure(dataset, [size]):
        path, reason = next(iter(bad.items()))
        raise BadInput(f"{str(path)!r} cannot be decoded ({reason})")
    digests = _digests(dataset)
    shape = (len(digests), size, size, 3)
    pixels = np.memmap(_file(digests, size), dtype=np.uint8, mode="r", shape=shape)
    with suppress(OSError):  # a cache that may only be read
        os.utime(_file(digests, size))  # its last use, for `python -m tune_tl.cache`
    row = {digest: i for i, digest in enumerate(digests)}
    rows: dict[Split, npt.NDArray[np.int64]] = {}
    labels: dict[Split, npt.NDArray[np.int64]] = {}
    for split in ("train", "val", "test"):
        mine = [image for image in dataset.images if image.split == split]
        rows[split] = np.array([row[image.digest] for image in mine], dtype=np.int64)
        labels[split] = np.array([image.label for image in mine], dtype=np.int64)
    return Images(pixels, rows, labels, dataset.classes, _file(digests, size).stem, dataset.name)


def ensure(dataset: Dataset, sizes: Sequence[int], progress: ShowProgress | None = None) -> dict[Path, str]:
    """Build what is missing of the stores of `dataset` at `sizes`, decoding each image once.

    Returns the images that cannot be decoded, with the reason of each; then nothing is built. One
    process builds, others wait for it; a killed build leaves nothing that is taken for a store.
    Raises BadInput if the disk has no room.
    """
    from filelock import FileLock

    digests = _digests(dataset)
    paths = {image.digest: image.path for image in dataset.images}
    folder = _folder()
    known_bad = _file(digests, 0).with_suffix(".bad.json")
    description = folder / f"{_key(digests)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(_file(digests, 0).with_suffix(".lock")):
            bad: dict[str, str] = json.loads(known_bad.read_text()) if known_bad.exists() else {}
            missing = [size for size in sorted(set(sizes)) if not _file(digests, size).exists()]
            if missing and not bad:
                for left in folder.glob(f"{_key(digests)}-*.part*"):  # by a process that was killed
                    left.unlink()
                _require_room(folder, sum(len(digests) * size * size * 3 for size in missing))
                facts: dict[str, Any] = {"dataset": dataset.name, "images": len(digests)}
                write_text(description, json.dumps(facts))
                bad = _build(digests, paths, missing, progress, facts)
                if bad:
                    write_text(known_bad, json.dumps(bad))
                else:
                    write_text(description, json.dumps(facts))  # with what the images told
    except OSError as error:
        raise BadInput(
            f"the cache folder {str(folder)!r} cannot be used ({error.strerror or error}); set "
            "XDG_CACHE_HOME to one that can be written"
        ) from None
    # Copies of one image are bad together.
    return {image.path: bad[image.digest] for image in dataset.images if image.digest in bad}


class About(NamedTuple):
    """What building the store of a dataset told of its images."""

    odd: int = 0  # as `oddities.count` has it
    blank: int = 0  # nearly of one colour, if that many are that it is no oddity
    deep: int = 0  # with greys of more than 8 bits
    shown: greys.Span | None = None  # the scale of those


def about(dataset: Dataset) -> About:
    """What is known of the images of `dataset`, once its store is built."""
    try:
        found = json.loads((_folder() / f"{_key(_digests(dataset))}.json").read_text())
        deep = found.get("greys")
        shown = greys.Span(deep["low"], deep["high"]) if deep else None
        odd, blank = int(found.get("odd", 0)), int(found.get("blank", 0))
        return About(odd, blank, int(deep["images"]) if deep else 0, shown)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # described by nobody
        return About()


def _build(
    digests: Sequence[str],
    paths: dict[str, Path],
    sizes: Sequence[int],
    progress: ShowProgress | None,
    told: dict[str, Any],
) -> dict[str, str]:
    bad: dict[str, str] = {}
    parts = {size: _file(digests, size).with_suffix(f".part{os.getpid()}") for size in sizes}
    arrays: dict[int, np.memmap[Any, np.dtype[np.uint8]]] = {}
    seen: dict[int, Appearance] = {}
    # Of the rows with greys of more than 8 bits, whose scale follows from all of them.
    spans: dict[int, greys.Span] = {}

    def fill(row: int, shown: greys.Span | None = None) -> None:
        try:
            image, deep, (mode, (width, height)) = upright(paths[digests[row]], sizes)
            if deep is not None and shown is None:
                spans[row] = greys.span(deep)
                return
            if deep is not None and shown is not None:
                image = greys.eight_bits(deep, shown)
            for size, pixels in zip(sizes, squeezed(image, sizes), strict=True):
                arrays[size][row] = pixels
            seen[row] = Appearance(width, height, mode, spread(pixels))
        except ValueError as error:
            bad[digests[row]] = str(error)

    try:
        for size, part in parts.items():
            shape = (len(digests), size, size, 3)
            _reserve(part, math.prod(shape))
            arrays[size] = np.memmap(part, dtype=np.uint8, mode="r+", shape=shape)
        # Pillow lets go of the interpreter lock while it decodes and resizes. What it warns of is either
        # harmless (a damaged EXIF tag) or comes as an error from `decode`.
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, _ in enumerate(pool.map(fill, range(len(digests))), 1):
                if progress:
                    progress(done, len(digests))
            if spans and not bad:
                shown = greys.scale(spans.values())
                for done, _ in enumerate(pool.map(lambda row: fill(row, shown), list(spans)), 1):
                    if progress:
                        progress(done, len(spans))
                told["greys"] = {"images": len(spans), "low": shown.low, "high": shown.high}
        if not bad:
            if odd := count(seen.values()):
                told["odd"] = odd
            blank = sum(one.spread < BLANK for one in seen.values())
            if blank > FEW * len(seen):
                told["blank"] = blank
            for size, part in parts.items():
                arrays[size].flush()
                part.rename(_file(digests, size))
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return bad


def _digests(dataset: Dataset) -> list[str]:
    return sorted({image.digest for image in dataset.images})


def _key(digests: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([f"v{VERSION}", *digests]).encode()).hexdigest()[:16]


def _file(digests: Sequence[str], size: int) -> Path:
    return _folder() / f"{_key(digests)}-{size}.u8"


def _folder() -> Path:
    return cache_dir() / "decoded"


def _require_room(folder: Path, needed: int) -> None:
    if needed + MARGIN > shutil.disk_usage(folder).free:
        raise _no_room(folder, needed)


def _reserve(part: Path, size: int) -> None:
    """Make `part` a file of `size` bytes that the disk does hold.

    A mapped file may be larger than what its disk has room for; writing to it then ends the process with
    a signal. Raises BadInput if the disk is full.
    """
    with part.open("wb") as file:
        try:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except (AttributeError, OSError) as error:  # neither every system has it nor every file system
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                for start in range(0, size, len(ZEROS)):
                    file.write(ZEROS[: size - start])
                file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(part.parent, size) from None
            raise


def _no_room(folder: Path, needed: int) -> BadInput:
    free = shutil.disk_usage(folder).free
    return BadInput(
        f"decoded images need {needed / 1e9:.1f} GB in {folder}, but {free / 1e9:.1f} GB are free; "
        "make room or point XDG_CACHE_HOME to another disk"
    )
