"""Freeze once: what a frozen prefix gives for every image, kept in a memory-mapped file.

In transfer learning most of the work of most trials is the same frozen layers run over the same images.
Here they run once for an image and view; every epoch, and every other trial that cuts the same network
at the same place, reads what they gave.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tune_tl.data.catalog import cache_dir

VERSION = 1  # of what a file holds; part of its name
READ_BYTES_PER_S = 1e9  # of rows gathered from mapped memory, a cautious figure for one core
DISK_SHARE = 0.25  # of the free disk, at most, for all views of one cut
MEMORY_SHARE = 0.5  # of the machine's memory: pages that do not fit are read from disk over and over

_TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def find(identity: str, rows: int) -> Tensor | None:
    """The activations kept for `identity`, (rows, ...), to be read only; None if there are none.

    `identity` says everything that decides them: images, view, weights, stages, arithmetic.
    """
    stem = _stem(identity)
    for path in stem.parent.glob(f"{stem.name}.*.act"):
        found = re.fullmatch(r"[^.]+\.([\dx]+)\.(\w+)\.act", path.name)
        if not found:
            continue
        shape, dtype = [rows, *map(int, found[1].split("x"))], _TYPES[found[2]]
        if path.stat().st_size == prod(shape) * dtype.itemsize:
            flat = torch.from_file(str(path), shared=False, size=prod(shape), dtype=dtype)
            return _outward(flat.view(shape))
        path.unlink(missing_ok=True)  # damaged: not what its name says
    return None


def build(identity: str, rows: int, batches: Callable[[], Iterable[Tensor]]) -> Tensor | None:
    """Keep what `batches` yields for `rows` images in order; None if another process is at it.

    A killed build leaves nothing that is taken for a cache.
    """
    stem = _stem(identity)
    stem.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(stem.with_suffix(".lock"), timeout=0):
            if (found := find(identity, rows)) is not None:
                return found
            part = stem.with_suffix(f".part{os.getpid()}")
            try:
                with part.open("wb") as file:
                    for batch in batches():
                        inward = _inward(batch).contiguous().cpu()
                        file.write(inward.view(torch.uint8).numpy().data)
                    file.flush()
                    os.fsync(file.fileno())
                shape = "x".join(map(str, inward.shape[1:]))
                kind = next(name for name, dtype in _TYPES.items() if dtype == inward.dtype)
                part.rename(stem.with_suffix(f".{shape}.{kind}.act"))
            finally:
                part.unlink(missing_ok=True)
            return find(identity, rows)
    except Timeout:
        return None


def pays(bytes_an_image: int, images: int, seconds_an_image: float) -> tuple[bool, str]:
    """Whether to keep activations: are they read much faster than computed, and is there room?

    Says why in a few words.
    """
    reading = bytes_an_image / READ_BYTES_PER_S
    total = bytes_an_image * images
    place = cache_dir()
    place.mkdir(parents=True, exist_ok=True)
    disk = DISK_SHARE * shutil.disk_usage(place).free
    memory = MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = f"{seconds_an_image * 1e3:.2f} ms to compute, {reading * 1e3:.2f} ms to read an image"
    if reading > seconds_an_image / 2:
        return False, f"not cached: {speed}"
    if total > min(disk, memory):
        room = "disk" if disk < memory else "memory"
        return (
            False,
            f"not cached: {total / 1e9:.1f} GB, above the {min(disk, memory) / 1e9:.1f} GB share of {room}",
        )
    return True, f"cached, {total / 1e6:.0f} MB: {speed}"


# Images lie with their channels last, in memory as in the file.
def _inward(batch: Tensor) -> Tensor:
    return batch.permute(0, 2, 3, 1) if batch.ndim == 4 else batch


def _outward(kept: Tensor) -> Tensor:
    return kept.permute(0, 3, 1, 2) if kept.ndim == 4 else kept


def _stem(identity: str) -> Path:
    key = hashlib.sha256(f"v{VERSION} {identity}".encode()).hexdigest()[:24]
    return cache_dir() / "activations" / key
