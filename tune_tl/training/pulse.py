"""When this process last got somewhere, for whoever must tell a long epoch from one that hangs."""

from __future__ import annotations

_beats = 0


def beat() -> None:
    """This process has got somewhere: a batch, a chunk of images, a look at what it waits for."""
    global _beats
    _beats += 1


def beats() -> int:
    """How often it has, since it started."""
    return _beats
