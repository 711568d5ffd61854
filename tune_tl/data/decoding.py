"""An image file to pixels: whole or refused, upright, in RGB, squeezed to a square."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

from tune_tl.data import greys
from tune_tl.data.formats import formats
from tune_tl.errors import BadInput

MAX_PIXELS = 50_000_000  # a larger header is taken for a decompression bomb
# Error numbers, none among them, of a file that sends its reader to a place that no file has.
OF_THE_IMAGE = (None, errno.EINVAL, errno.EOVERFLOW)


def decode(path: Path, sizes: Sequence[int], shown: greys.Span | None = None) -> list[npt.NDArray[np.uint8]]:
    """The image at each size, (size, size, 3) RGB; turned upright by its EXIF tag.

    Greys of more than 8 bits are scaled as `shown` says, their dataset's scale, or else by their own range.
    Raises ValueError with a short reason if the file is no whole image.
    """
    image, deep, _ = upright(path, sizes)
    if deep is not None:
        image = greys.eight_bits(deep, shown or greys.scale([greys.span(deep)]))
    return squeezed(image, sizes)


def upright(
    path: Path, sizes: Sequence[int]
) -> tuple[Pillow.Image, npt.NDArray[np.float64] | None, tuple[str, tuple[int, int]]]:
    """The image in RGB, or as it is with its values where it has greys of more than 8 bits; and the mode and
    size that its file has. Raises as `decode` does."""
    try:
        with Pillow.open(path, formats=formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, above {MAX_PIXELS // 10**6} million")
            mode, size = image.mode, image.size
            # JPEG decodes at a fraction of its size for a fraction of the cost; twice leaves detail.
            image.draft("RGB", (2 * max(sizes), 2 * max(sizes)))
            image.load()
            turned = _transposed(image)
            deep = greys.values(turned)
            return turned if deep is not None else _rgb(turned), deep, (mode, size)
    except MemoryError:
        raise BadInput(f"{str(path)!r} cannot be decoded: memory ran out") from None
    # Pillow's readers raise whatever a damaged file makes them stumble over.
    except Exception as error:
        if getattr(error, "errno", None) not in OF_THE_IMAGE:  # but of the disk: may pass
            raise BadInput(f"{str(path)!r} cannot be read ({getattr(error, 'strerror', error)})") from None
        empty = path.is_file() and path.stat().st_size == 0
        raise ValueError("empty file" if empty else _short(error)) from None


def squeezed(rgb: Pillow.Image, sizes: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    return [
        np.asarray(rgb.resize((size, size), Pillow.Resampling.BILINEAR), dtype=np.uint8) for size in sizes
    ]


def _transposed(image: Pillow.Image) -> Pillow.Image:
    """Upright by its EXIF tag; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # the image was decoded: what fails is its description
        return image


def _rgb(image: Pillow.Image) -> Pillow.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Pillow.new("RGBA", clear.size, "white")
        image = Pillow.alpha_composite(white, clear)
    return image.convert("RGB")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return "no image in a known format" if text.startswith("cannot identify") else text or repr(error)
