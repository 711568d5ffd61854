"""Names of folders and files, which need not be text, nor to be told apart."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable


def is_text(name: str) -> bool:
    """Whether a name can be shown in one line: no control characters, no bytes that are not UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def look_alike(classes: Iterable[str]) -> list[str]:
    """A note for classes that a person would hardly tell apart: most often one class, written in two ways."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in classes:
        alike[unicodedata.normalize("NFKC", label).casefold().strip()].append(label)
    return [
        f"look alike, but are {len(them)} classes: {', '.join(map(ascii, them))}"
        for them in alike.values()
        if len(them) > 1
    ]
