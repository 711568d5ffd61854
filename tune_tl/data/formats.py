"""Which kinds of image can be decoded here, and how a file of each is told."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
# What cameras, scanners and the web make, under whatever suffix. Pillow knows more: PostScript, for one,
# which it hands to Ghostscript to be run.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
# How their files begin: JPEG, PNG, BMP, GIF, WebP, TIFF, PPM; in the second line JPEG 2000, twice, and ICO.
_MAGIC = (
    *(b"\xff\xd8", b"\x89PNG", b"BM", b"GIF8", b"RIFF", b"II", b"MM", b"P"),
    *(b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51", b"\x00\x00\x01\x00"),
)
_BOX = b"ftyp"  # at the fifth byte of AVIF and HEIF
# TIFF files, too, but not of pictures: sensor values, slides of gigabytes.
_RAW = frozenset({".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"})
_SLIDES = frozenset({".svs", ".ndpi", ".scn", ".mrxs"})
_INSTALL = {
    **dict.fromkeys((".heic", ".heif"), "pip install pillow-heif reads them"),
    ".avif": "a newer Pillow reads them: pip install --upgrade pillow",
    **dict.fromkeys(_RAW, "raw from a camera: convert them to JPEG or PNG"),
    **dict.fromkeys((".dcm", ".svg", ".psd", *_SLIDES), "convert them to PNG"),
}


@cache
def formats() -> tuple[str, ...]:
    """The formats that Pillow is to try here, by its names; with HEIF where pillow-heif is installed."""
    if not find_spec("pillow_heif"):
        return _FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


def begins_as_image(path: Path) -> bool:
    """Whether the first bytes of a file are those of an image; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_MAGIC) or start[4:8] == _BOX


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix or, where that is another one, by its content."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in _RAW | _SLIDES or not path.is_file() or not begins_as_image(path):
        return False
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats()):
            return True
    except Exception:  # Pillow's readers raise whatever a file makes them stumble over
        return False


def in_words(others: Mapping[str, int]) -> str:
    """How many files of which suffix are no images here, and what would help: `2 .heic (…), 1 .txt`."""
    said = []
    heif = "pillow-heif, which is installed, cannot read them" if find_spec("pillow_heif") else ""
    for suffix, count in sorted(others.items(), key=lambda item: (item[0] not in _INSTALL, -item[1])):
        help = (suffix in (".heic", ".heif") and heif) or _INSTALL.get(suffix)
        way = f" ({help})" if help else ""
        said.append(f"{count} {ascii(suffix)[1:-1] or 'without a suffix'}{way}")
    return ", ".join(said)
