"""Train, val and test, and the words in a folder's name that mean them."""

from __future__ import annotations

import re
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip


def split_of(name: str) -> Split | None:
    return next((_WORDS[word] for word in _words(name) if word in _WORDS), None)


def stem(name: str) -> frozenset[str]:
    """The words of a split's name that say what it is the split of; `s` at their ends makes no difference."""
    return frozenset(word.rstrip("s") for word in _words(name) if word and word not in _WORDS)


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())
