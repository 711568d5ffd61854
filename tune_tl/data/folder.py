"""Files on disk -> a `Dataset`: every image with its label, its split and the hash of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class Image:
    path: Path  # absolute
    label: int  # index into Dataset.classes
    split: Split
    digest: str  # SHA-256 of the file's bytes, hexadecimal


@dataclass(frozen=True)
class Dataset:
    name: str
    source: Literal["local", "download", "sample"]
    root: Path
    classes: tuple[str, ...]
    images: tuple[Image, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was done to it, a line each

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over every image's class, content and split, wherever the folder lies."""
        lines = sorted(f"{self.classes[i.label]}/{i.digest}/{i.split}" for i in self.images)
        return hashlib.sha256("\n".join([*self.classes, *lines]).encode()).hexdigest()[:16]
