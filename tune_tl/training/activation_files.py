"""The files of activations: one folder for a view of some images, in it one file for each cut."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from tune_tl.storage.files import cache_dir

VERSION = 2  # of what a file holds; part of its folder's name
SHARD = 128  # images that a process takes at once

_TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


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


@dataclass(frozen=True)
class ActivationFile:
    """What is kept at one cut: a row for each image, then a byte for each shard that is there."""

    path: Path  # <cut>.<shape>.<type>.act, or .<boot>.part while it is made
    view: View

    @classmethod
    def unfinished(cls, view: View, cut: int, batch: Tensor) -> ActivationFile:
        """Where rows as those of `batch` are kept while not all are there."""
        shape = "x".join(map(str, inward(batch).shape[1:]))
        kind = next(name for name, dtype in _TYPES.items() if dtype == batch.dtype)
        return cls(view.folder / f"{cut}.{shape}.{kind}.{boot()}.part", view)

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
        """Raises FileNotFoundError if it is gone, or damaged and so removed."""
        shape, dtype = self.row
        if self.path.stat().st_size != self.size:
            self.path.unlink(missing_ok=True)
            raise FileNotFoundError(self.path)
        try:
            size = self.view.rows * prod(shape)
            flat = torch.from_file(str(self.path), shared=False, size=size, dtype=dtype)
        except RuntimeError as error:  # gone since
            raise FileNotFoundError(self.path) from error
        return outward(flat.view(self.view.rows, *shape)[rows.start : rows.stop])

    def write(self, number: int, rows: range, batch: Tensor) -> None:
        with self.path.open("r+b", buffering=0) as file:
            # Not through a mapping: that would end the process, not this call, on a full disk.
            data = inward(batch).contiguous().cpu().view(torch.uint8).numpy().reshape(-1).data
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


@cache
def host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@cache
def boot() -> str:
    """Names this run of this machine: pages not yet on disk do not survive a sudden end of it."""
    boot = "unknown"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{host()}-{boot}"


# Images lie with their channels last, in memory as in the file.
def inward(batch: Tensor) -> Tensor:
    return batch.permute(0, 2, 3, 1) if batch.ndim == 4 else batch


def outward(kept: Tensor) -> Tensor:
    return kept.permute(0, 3, 1, 2) if kept.ndim == 4 else kept
