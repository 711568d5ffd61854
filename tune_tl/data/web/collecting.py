"""Images from the web for a class that has no dataset yet, and a record of where each came from.

An image is kept if it decodes as every other image of a dataset does. Its name is made from its content:
nothing that a server calls it reaches the disk, and copies are one file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tune_tl.data.formats import IMAGE_SUFFIXES
from tune_tl.data.sources.download import host_of
from tune_tl.data.web.listing import Candidate, in_file, is_web, on_engine, on_page, without_login
from tune_tl.data.web.visitor import Refused, Web
from tune_tl.errors import BadInput
from tune_tl.storage.files import replacing, write_text
from tune_tl.storage.tables import escaped

PROVENANCE = "provenance.csv"
COLUMNS = ("file", "class", "url", "found_on", "query", "time", "sha256", "bytes")
SIDE = 224  # pixels that an image is decoded to, to see whether it can be
# What a folder of images may hold, by Pillow's name of the format. MPO is a camera's JPEG and a second one.
SUFFIXES = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "GIF": ".gif",
    "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "PPM": ".ppm",
}  # fmt: skip

LEFT = "[0-9a-f]{16}[.][a-z]+[.]part[0-9]+"  # an image of ours on its way, as `replacing` calls it


@dataclass(frozen=True)
class Wanted:
    """A class to collect images of."""

    name: str  # of the class and its folder
    query: str  # what an engine is asked; empty with `sources`
    sources: tuple[str, ...] = ()  # pages, or files that list URLs, instead of an engine


@dataclass
class Outcome:
    """What became of one class."""

    had: int  # images that were there
    new: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # why images were not kept
    trouble: list[str] = field(default_factory=list)  # pages that gave nothing, a line each

    @property
    def images(self) -> int:
        return self.had + self.new


class Kept:
    """A folder of class folders and its record of what came from where; for one process at a time.

    Raises BadInput if the record is no such record, OSError if the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._record = folder, folder / PROVENANCE
        rows = self._read()  # before anything changes: it tells a folder of ours
        for left in folder.glob("*/*.part*"):  # by a process that was killed
            if re.fullmatch(LEFT, left.name):
                left.unlink()
        # Those too whose files are gone: who threw an image out does not want it again.
        self.urls = {row["url"] for row in rows}
        self._digests = {row["sha256"] for row in rows}

    def count(self, name: str) -> int:
        files = (self.folder / name).rglob("*")
        return sum(file.suffix.lower() in IMAGE_SUFFIXES for file in files)

    def add(self, wanted: Wanted, found: Candidate, content: bytes) -> None:
        """Write an image, then its line in the record. Raises Refused if it is none, or not a new one."""
        from tune_tl.data.decoding import decode

        digest = hashlib.sha256(content).hexdigest()
        if digest in self._digests:
            raise Refused("a copy of one that came before")
        with warnings.catch_warnings(action="ignore"):  # of damage that does no harm, as in the store
            path = self.folder / wanted.name / f"{digest[:16]}{_suffix(content)}"
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(content)
                try:
                    decode(part, [SIDE])
                except ValueError:
                    raise Refused("a damaged image") from None
        url, now = without_login(found.url), datetime.now(UTC).isoformat(timespec="seconds")
        file = f"{wanted.name}/{path.name}"
        self._append(file, wanted.name, url, found.on, wanted.query, now, digest, len(content))
        self.urls.add(url)
        self._digests.add(digest)

    def _read(self) -> list[dict[str, str]]:
        try:
            # As bytes have it: a URL may hold what else would end a line.
            text = self._record.read_bytes().decode() if self._record.exists() else ""
            whole, _, torn = text.rpartition("\n")
            rows = list(csv.DictReader(io.StringIO(whole), strict=True))
            if whole and set(COLUMNS) - set(rows[0] if rows else whole.split(",")):
                raise ValueError("other columns")
            if any(None in row.values() for row in rows):
                raise ValueError("lines that are too short")
        except (ValueError, csv.Error) as error:
            raise BadInput(
                f"{str(self._record)!r} is no record of collected images ({error}); restore it, or give "
                "--output another folder"
            ) from None
        if torn or not whole:  # by a process that was killed in the middle of a line
            write_text(self._record, f"{whole or ','.join(COLUMNS)}\n")
        return rows

    def _append(self, *values: object) -> None:
        with self._record.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([escaped(value) for value in values])
            file.flush()
            os.fsync(file.fileno())


def collect(
    wanted: Wanted, kept: Kept, web: Web, *, engine: str, images: int, show: Callable[[Outcome], None]
) -> Outcome:
    """Add images of `wanted` to `kept` until there are `images` of its class, or no more are found.

    `show` hears of every image that was tried. Raises BadInput if a source cannot be read or a disk fails.
    """
    outcome = Outcome(kept.count(wanted.name))
    if outcome.images >= images:
        return outcome
    tried: set[str] = set()
    for found in _find(wanted, engine, web, outcome.trouble):
        url = without_login(found.url)
        if url in tried or url in kept.urls:
            continue
        tried.add(url)
        try:
            kept.add(wanted, found, found.content or web.get(found.url).content)
            outcome.new += 1
        except Refused as no:
            outcome.refused[str(no)] += 1
        show(outcome)
        if outcome.images >= images:
            break
    return outcome


def _find(wanted: Wanted, engine: str, web: Web, trouble: list[str]) -> Iterator[Candidate]:
    """What may be images of `wanted`, asking for no page before it is needed; `trouble` hears of bad ones."""
    for source in wanted.sources or (engine,):
        listing = on_page if is_web(source) else in_file if wanted.sources else on_engine
        none = True
        try:
            for found in listing(source, wanted.query, web):
                none = False
                yield found
        except Refused as no:
            trouble.append(f"{host_of(source) if is_web(source) else source}: {no}")
        else:
            if none:
                trouble.append(f"{without_login(source)}: names no image")


def _suffix(content: bytes) -> str:
    """What a file of this content is to end with. Raises Refused if it is no image, or not one we take."""
    from PIL import Image, UnidentifiedImageError

    from tune_tl.data.decoding import MAX_PIXELS
    from tune_tl.data.formats import formats

    many = f"more than {MAX_PIXELS // 10**6} million pixels"
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Refused(many)
            if image.format not in SUFFIXES:
                raise Refused(f"of a format that is not searched for in folders ({image.format})")
            return SUFFIXES[image.format]
    except Image.DecompressionBombError:
        raise Refused(many) from None
    except UnidentifiedImageError:
        raise Refused("no image") from None
    except Refused:
        raise
    # Pillow's readers raise whatever a damaged file makes them stumble over.
    except Exception:
        raise Refused("a damaged image") from None
