"""Finds the best way to transfer a pretrained network to a folder of labelled images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_tl.results.frame import leaderboard_frame as leaderboard_frame

__version__ = "0.1.0"

_HOME = {"leaderboard_frame": "tune_tl.results.frame"}  # imported when it is asked for: pandas takes a while


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
