"""What `search.json` and `result.json` in a search's folder say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tune_tl.storage.files import sha256_of

SEARCH_FILE = "search.json"
RESULT_FILE = "result.json"
PACKAGES = ("tune-tl", "torch", "torchvision", "timm", "ray", "optuna", "mlflow", "scikit-learn", "pandas")


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def code() -> str:
    """Eight hex digits over the source of this package, which may change between two versions of it."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    said = "".join(f"{file.relative_to(package)} {sha256_of(file)}\n" for file in files)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def recorded(folder: Path, fact: str) -> str | None:
    """What the search in `folder` says of itself; None if it does not."""
    try:
        found = json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))[fact]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
