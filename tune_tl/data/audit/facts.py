"""What the content of an image says, found once and kept: is it whole, how is it stored, how does it look."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tune_tl.data.decoding import OF_THE_IMAGE, decode
from tune_tl.data.formats import formats
from tune_tl.errors import BadInput
from tune_tl.storage.files import cache_dir
from tune_tl.terminal.progress import ShowProgress

VERSION = 1  # of what a fact means; part of the table's name
FILE = "inspected.sqlite"  # in the cache folder
SIDE = 32  # pixels of the thumbnail that copies are compared on: what a perceptual hash looks at
AT_ONCE = 500  # images between two writes: what a kill costs
FILL = 24  # zeros in a row: not one such run in 10,588 real images, one in every damaged one
GREY = 128  # what a decoder leaves where it got nothing


@dataclass(frozen=True)
class ImageFacts:
    unreadable: str = ""  # why it cannot be decoded
    half: str = ""  # why it is not taken for whole, though it can be decoded
    width: int = 0
    height: int = 0
    mode: str = ""  # Pillow's, with `, alpha` where a palette has one
    frames: int = 1
    hash: int = 0  # perceptual, 64 bits (imagehash.phash), and the same of its mirror image
    mirrored: int = 0
    thumb: bytes = b""  # (SIDE, SIDE, 3) RGB, upright

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """The thumbnail, (SIDE, SIDE, 3)."""
        return np.frombuffer(self.thumb, dtype=np.uint8).reshape(SIDE, SIDE, 3)


def gather(paths: Mapping[str, Path], progress: ShowProgress | None = None) -> dict[str, ImageFacts]:
    """The facts of each image, by the SHA-256 of its content; those known from before are not found again.

    A cache that cannot be used costs time and nothing else. Raises BadInput if a disk fails.
    """
    found: dict[str, ImageFacts] = {}
    kept = cache_dir() / FILE
    try:
        found = dict(_known(kept, list(paths)))
    except sqlite3.OperationalError:  # without this version's table, or held for long
        pass
    except (OSError, sqlite3.Error, ValueError, TypeError):  # damaged: made anew
        with suppress(OSError):
            kept.unlink(missing_ok=True)
    missing = [digest for digest in paths if digest not in found]
    done = len(found)
    # What Pillow warns of is either harmless or comes as an error.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            fresh: dict[str, ImageFacts] = {}
            for digest, facts in zip(some, pool.map(look, [paths[d] for d in some]), strict=True):
                fresh[digest] = facts
                done += 1
                if progress:
                    progress(done, len(paths))
            with suppress(OSError, sqlite3.Error):
                _keep(kept, fresh)
            found |= fresh
    return found


def look(path: Path) -> ImageFacts:
    """The facts of one file. Raises BadInput if it cannot be read for what is no fault of the image."""
    import imagehash

    try:
        (pixels,) = decode(path, [SIDE])
    except ValueError as error:
        return ImageFacts(unreadable=str(error))
    try:
        with Pillow.open(path, formats=formats()) as image:
            (width, height), mode = image.size, image.mode
            clear = mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            jpeg = image.format in ("JPEG", "MPO")
            # Cameras put a preview beside the picture.
            frames = 1 if jpeg else _frames(image)
        filled = _filled(path.read_bytes()) if jpeg else ""
    except OSError as error:  # it was decoded a moment ago
        raise cannot_read(path, error) from None
    mirror = np.ascontiguousarray(pixels[:, ::-1])
    hashes = [int(str(imagehash.phash(Pillow.fromarray(p))), 16) for p in (pixels, mirror)]
    return ImageFacts(
        half=filled or _grey_below(pixels) or ("" if frames else "its later frames are damaged"),
        width=width,
        height=height,
        mode=f"{mode}, alpha" if clear and mode not in ("RGBA", "LA", "PA") else mode,
        frames=frames or 1,
        hash=hashes[0],
        mirrored=hashes[1],
        thumb=pixels.tobytes(),
    )


def cannot_read(path: Path, error: OSError) -> BadInput:
    why = error.strerror or error
    return BadInput(f"{str(path)!r} cannot be read ({why}); run it again when the images stay as they are")


def _frames(image: Pillow.Image) -> int:
    """How many there are; 0 where those after the first cannot be counted. Raises OSError if a disk fails."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:  # as in the store
        if getattr(error, "errno", None) not in OF_THE_IMAGE:
            raise
        return 0


def _filled(data: bytes) -> str:
    """Why a JPEG that decodes without a complaint is damaged all the same: part of it was filled in.

    Zeros where data was lost are read as coefficients, and nothing notices (ITU-T T.81, annex F: zero
    bits are a code like others). An honest run of them is possible only where the shortest code of every
    Huffman table is the end of a block: in large flat parts of a file with tables of its own. Progressive
    files, whose scans of flat parts are zeros, are not judged.
    """
    progressive = any(marker == 0xC2 for marker, _ in _segments(data))
    if progressive or all(symbol == 0 for symbol in _shortest(data)):
        return ""
    return "part of it is zeros" if any(bytes(FILL) in scan for scan in _scans(data)) else ""


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The marker and the start of each segment of a JPEG, up to its end."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # may be repeated
            at += 1
            continue
        if marker == 0xD9:
            return
        yield marker, at + 2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            at = _end_of_scan(data, at)


def _end_of_scan(data: bytes, start: int) -> int:
    # 0xFF is followed by 0 where it is data; D0 to D7 restart the decoder within a scan.
    found = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, start)
    return found.start() if found else len(data)


def _scans(data: bytes) -> Iterator[bytes]:
    for marker, at in _segments(data):
        if marker == 0xDA:
            start = at + int.from_bytes(data[at : at + 2], "big")
            yield data[start : _end_of_scan(data, start)]


def _shortest(data: bytes) -> Iterator[int]:
    """The symbol of the all-zero code of each AC table."""
    for marker, at in _segments(data):
        if marker == 0xC4:
            end, table = at + int.from_bytes(data[at : at + 2], "big"), at + 2
            while table + 17 <= end <= len(data):
                if data[table] >> 4:
                    yield data[table + 17]
                table += 17 + sum(data[table + 1 : table + 17])


def _grey_below(pixels: npt.NDArray[np.uint8]) -> str:
    """Whether the lower part is the grey of a decoder that ran out of data, saved again as a picture."""
    other = np.flatnonzero((np.abs(pixels.astype(np.int16) - GREY) > 2).any(axis=(1, 2)))  # rows
    rows = SIDE - 1 - int(other[-1]) if len(other) else SIDE
    return f"the lower {100 * rows / SIDE:.0f} % are plain grey" if 2 <= rows < SIDE else ""


def _known(kept: Path, digests: Sequence[str]) -> Iterator[tuple[str, ImageFacts]]:
    if not kept.exists():
        return
    with closing(sqlite3.connect(kept)) as database:
        for start in range(0, len(digests), AT_ONCE):
            some = digests[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            asked = f"SELECT digest, about, thumb FROM facts{VERSION} WHERE digest IN ({marks})"
            for digest, about, thumb in database.execute(asked, some):
                facts = ImageFacts(**json.loads(about), thumb=thumb)
                if facts.unreadable or len(thumb) == SIDE * SIDE * 3:
                    yield digest, facts


def _keep(kept: Path, fresh: Mapping[str, ImageFacts]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for digest, facts in fresh.items():
        about = asdict(facts)
        rows.append((digest, about.pop("thumb"), json.dumps(about)))
    with closing(sqlite3.connect(kept)) as database, database:
        database.execute(
            f"CREATE TABLE IF NOT EXISTS facts{VERSION} (digest TEXT PRIMARY KEY, thumb BLOB, about TEXT)"
        )
        database.executemany(f"INSERT OR REPLACE INTO facts{VERSION} VALUES (?, ?, ?)", rows)
