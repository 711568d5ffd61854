"""Freeze once: what a frozen network gives for every image, kept in memory-mapped files.

In transfer learning most of the work of most trials is the same frozen layers run over the same images.
Here they run once for an image and view. A pass over the images leaves a file for each place where a
trial may cut the network, so the next trial of that network, cut elsewhere, finds its own or goes on from
the nearest one before it. Processes that need the same pass share the work: each takes the shards that
nobody is at.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tune_tl.data.catalog import cache_dir

VERSION = 2  # of what a file holds; part of its folder's name
SHARD = 128  # images that a process takes at once
READ_BYTES_PER_S = 1e9  # of rows gathered from mapped memory, a cautious figure for one core
DISK_SHARE = 0.25  # of the disk that is free or ours, for all activations together
MEMORY_SHARE = 0.5  # of the machine's memory: pages that do not fit are read from disk over and over
ABOUT_FILE = "about.json"

_TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}

# From the images of a shard, or from what a cut before gave for them, to what is kept of them, by cut.
Produce = Callable[[range, int, Tensor | None], Mapping[int, Tensor]]


@dataclass(frozen=True)
class View:
    """Images, seen one way, on their way through one network; a cut counts the stages behind them."""

    identity: str  # everything that decides the activations: images, augmentation, weights, arithmetic
    rows: int
    about: str = "{}"  # JSON: the same for people

    @property
    def folder(self) -> Path:
        key = hashlib.sha256(f"v{VERSION} {self.identity}".encode()).hexdigest()[:24]
        return cache_dir() / "activations" / key

    @property
    def shards(self) -> list[range]:
        return [range(i, min(i + SHARD, self.rows)) for i in range(0, self.rows, SHARD)]


def find(view: View, cut: int) -> Tensor | None:
    """The activations kept at `cut`, (rows, ...), to be read only; None if there are none."""
    for path in view.folder.glob(f"{cut}.*.act"):
        with suppress(FileNotFoundError):
            file = _File(path, view)
            if path.stat().st_size == file.size:
                os.utime(view.folder)
                return file.read(range(view.rows))
            path.unlink()  # damaged: not what its name says
    return None


def build(view: View, cut: int, produce: Produce) -> Tensor | None:
    """Keep what `produce` gives, up to `cut`, together with any other process that is at it.

    None if somebody cleared the cache meanwhile. A killed process leaves nothing that is taken for a
    cache, and its shards to the others. Raises OSError if the disk cannot hold it.
    """
    trim(but=view.folder)
    view.folder.mkdir(parents=True, exist_ok=True)
    about = view.folder / ABOUT_FILE
    if not about.exists():
        about.write_text(view.about)
    for patience in (0, -1):  # first what nobody is at, then what the others have not finished
        for number, shard in enumerate(view.shards):
            if _done(view, cut, number):
                continue
            with suppress(Timeout), FileLock(view.folder / f"{number}.lock", timeout=patience):
                if not _done(view, cut, number):
                    _fill(view, cut, number, shard, produce)
    for file in _files(view, "*", "part"):
        with suppress(FileNotFoundError):  # another process was first
            file.complete()
    return find(view, cut)


def trim(but: Path | None = None) -> None:
    """Remove the passes not used for longest until all together keep to their share of the disk."""
    root = cache_dir() / "activations"
    if not root.is_dir():
        return
    used = {folder: _bytes(folder) for folder in root.iterdir()}
    excess = sum(used.values()) - room(used=sum(used.values()))
    oldest = sorted((f for f in used if f != but), key=lambda f: f.stat().st_mtime if f.exists() else 0)
    for folder in oldest:
        if excess <= 0:
            return
        shutil.rmtree(folder, ignore_errors=True)  # whoever has it mapped goes on reading
        excess -= used[folder]


def room(used: int = 0) -> float:
    """Bytes that all activations together may take, `used` of which they take now."""
    place = cache_dir()
    place.mkdir(parents=True, exist_ok=True)
    return DISK_SHARE * (shutil.disk_usage(place).free + used)


def pays(bytes_an_image: int, images: int, seconds_an_image: float) -> tuple[bool, str]:
    """Whether to keep activations: are they read much faster than computed, and is there room?

    Says why in a few words.
    """
    reading = bytes_an_image / READ_BYTES_PER_S
    total = bytes_an_image * images
    disk, memory = room(), MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = f"{seconds_an_image * 1e3:.2f} ms to compute, {reading * 1e3:.2f} ms to read an image"
    if reading > seconds_an_image / 2:
        return False, f"not cached: {speed}"
    if total > min(disk, memory):
        of = "disk" if disk < memory else "memory"
        share = f"{min(disk, memory) / 1e9:.1f} GB share of {of}"
        return False, f"not cached: {total / 1e9:.1f} GB, above the {share}"
    return True, f"cached, {total / 1e6:.0f} MB: {speed}"


@dataclass(frozen=True)
class _File:
    """What is kept at one cut: a row for each image, then a byte for each shard that is there."""

    path: Path  # <cut>.<shape>.<type>.act, or .<boot>.part while it is made
    view: View

    @property
    def cut(self) -> int:
        return int(self.path.name.split(".")[0])

    @property
    def row(self) -> tuple[list[int], torch.dtype]:
        _, shape, kind, *_ = self.path.name.split(".")
        return [*map(int, shape.split("x"))], _TYPES[kind]

    @property
    def row_bytes(self) -> int:
        shape, dtype = self.row
        return prod(shape) * dtype.itemsize

    @property
    def size(self) -> int:
        return self.view.rows * self.row_bytes + len(self.view.shards)

    def read(self, rows: range) -> Tensor:
        shape, dtype = self.row
        flat = torch.from_file(
            str(self.path), shared=False, size=self.view.rows * prod(shape), dtype=dtype
        ).view(self.view.rows, *shape)
        return _outward(flat[rows.start : rows.stop])

    def write(self, number: int, rows: range, inward: Tensor) -> None:
        with self.path.open("r+b", buffering=0) as file:
            # Not through a mapping: that would end the process, not this call, on a full disk.
            data = inward.view(torch.uint8).numpy().reshape(-1).data
            written = 0
            while written < len(data):
                written += os.pwrite(file.fileno(), data[written:], rows.start * self.row_bytes + written)
            os.pwrite(file.fileno(), b"\1", self.view.rows * self.row_bytes + number)

    def has(self, number: int) -> bool:
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            return os.pread(file.fileno(), 1, self.view.rows * self.row_bytes + number) == b"\1"
        return False

    def complete(self) -> None:
        """Take the name of a finished file, if every shard is there."""
        if all(self.has(number) for number in range(len(self.view.shards))):
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            self.path.rename(self.path.with_suffix("").with_suffix(".act"))


def _files(view: View, cut: int | str, *kinds: str) -> Iterator[_File]:
    for kind in kinds:
        ending = f"{_boot()}.part" if kind == "part" else kind
        for path in view.folder.glob(f"{cut}.*.{ending}"):
            yield _File(path, view)


def _done(view: View, cut: int, number: int) -> bool:
    return any(True for _ in _files(view, cut, "act")) or any(
        file.has(number) for file in _files(view, cut, "part")
    )


def _fill(view: View, cut: int, number: int, shard: range, produce: Produce) -> None:
    before = {
        file.cut: file
        for file in _files(view, "*", "part", "act")
        if file.cut < cut and (file.path.suffix == ".act" or file.has(number))
    }
    start = max(before, default=0)
    kept = produce(shard, start, before[start].read(shard) if start else None)
    for at, batch in kept.items():
        inward = _inward(batch).contiguous().cpu()
        _created(view, at, inward).write(number, shard, inward)


def _created(view: View, cut: int, like: Tensor) -> _File:
    """The file for rows as those of `like`, made if this is the first shard."""
    shape = "x".join(map(str, like.shape[1:]))
    kind = next(name for name, dtype in _TYPES.items() if dtype == like.dtype)
    file = _File(view.folder / f"{cut}.{shape}.{kind}.{_boot()}.part", view)
    with FileLock(view.folder / "files.lock"):
        if not file.path.exists():
            for left in view.folder.glob(f"{cut}.*.part"):  # from before the machine was started
                left.unlink()
            new = file.path.with_suffix(".new")
            with new.open("wb") as empty:
                empty.truncate(file.size)
            new.rename(file.path)
    return file


@cache
def _boot() -> str:
    """Names this run of the machine: pages not yet on disk do not survive a sudden end of it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return "unknown"


def _bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                total += entry.stat().st_blocks * 512
    return total


# Images lie with their channels last, in memory as in the file.
def _inward(batch: Tensor) -> Tensor:
    return batch.permute(0, 2, 3, 1) if batch.ndim == 4 else batch


def _outward(kept: Tensor) -> Tensor:
    return kept.permute(0, 3, 1, 2) if kept.ndim == 4 else kept
