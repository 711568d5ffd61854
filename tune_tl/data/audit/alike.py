"""Which images show one thing, though their bytes differ: near copies and mirror images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tune_tl.data.audit.facts import SIDE, ImageFacts

# Of two images that are one. Looked at on five datasets: photographs of different things on the same
# board come to 0.88, two shots of one thing in a burst begin at 0.9.
BITS = 12  # of 64 in which their perceptual hashes may differ
ALIKE = 0.9  # least correlation of their pixels, and of their details
BLUR = 9  # pixels of SIDE: what is coarser is light and background
DETAIL = 3.0  # standard deviation of an image's details; with less, noise would be compared
BLOCK = 256  # images compared with all others at once
PAIRS = 20_000  # looked at again at once

Rows = npt.NDArray[np.int64]


def detailed(digests: Sequence[str], facts: Mapping[str, ImageFacts]) -> list[str]:
    """Those of the images that have details to compare."""
    found: list[str] = []
    for start in range(0, len(digests), BLOCK):
        some = digests[start : start + BLOCK]
        rich = _details(np.stack([facts[digest].pixels for digest in some])).std(axis=1) > DETAIL
        found += [digest for digest, is_rich in zip(some, rich, strict=True) if is_rich]
    return found


def alike_pairs(facts: Sequence[ImageFacts]) -> tuple[Rows, Rows, npt.NDArray[np.bool_]]:
    """Pairs of rows that show one image, and whether one is the other's mirror image.

    Perceptual hashes (imagehash.phash) propose them; of plain images they propose too many, so their
    thumbnails must agree as well, in colour and in detail.
    """
    pixels = np.stack([one.pixels for one in facts])
    hashes, mirrors = (
        np.array([getattr(one, which) for one in facts], dtype=np.uint64) for which in ("hash", "mirrored")
    )
    found: list[tuple[Rows, Rows, npt.NDArray[np.bool_]]] = []
    for start in range(0, len(facts), BLOCK):
        for mirrored, others in ((False, hashes), (True, mirrors)):
            near = np.bitwise_count(hashes[start : start + BLOCK, None] ^ others[None, start:]) <= BITS
            first, second = np.divmod(np.flatnonzero(near), near.shape[1])
            first, second = first + start, second + start
            first, second = first[first < second], second[first < second]
            for some in range(0, len(first), PAIRS):
                a, b = first[some : some + PAIRS], second[some : some + PAIRS]
                other = pixels[b][:, :, ::-1] if mirrored else pixels[b]
                same = _agree(pixels[a], other)
                found.append((a[same], b[same], np.full(same.sum(), mirrored)))
    if not found:
        none = np.empty(0, dtype=np.int64)
        return none, none, none.astype(bool)
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))  # type: ignore[return-value]


def _agree(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which of the pairs, (n, SIDE, SIDE, 3) each, correlate in their pixels and in their details."""
    flat = [x.reshape(len(x), -1).astype(np.float32) for x in (a, b)]
    agree: npt.NDArray[np.bool_] = _correlation(*flat) > ALIKE
    agree[agree] = _correlation(_details(a[agree]), _details(b[agree])) > ALIKE
    return agree


def _details(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What is finer than light and background, (n, SIDE * SIDE)."""
    from scipy.ndimage import uniform_filter

    grey = pixels.astype(np.float32).mean(axis=3)
    fine: npt.NDArray[np.float32] = grey - uniform_filter(grey, (0, BLUR, BLUR), mode="nearest")
    return fine.reshape(len(fine), SIDE * SIDE)


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(length, 1e-6)  # type: ignore[no-any-return]
