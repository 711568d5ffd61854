"""Disks of a test's own, really mounted: small ones and such as may only be read."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest


def with_disk(place: Path, options: str) -> list[str]:
    """What to put before a command that shall find another disk at `place`: `size=1m`, `ro`."""
    place.mkdir(parents=True, exist_ok=True)
    mount = f'mount -t tmpfs -o {options} none {shlex.quote(str(place))} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount a disk of its own")
    return command
