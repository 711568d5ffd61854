from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator

import pytest

from tune_tl.tuning.cluster import Cluster


@pytest.fixture(scope="package", autouse=True)
def own_ray() -> Iterator[None]:
    """Ray's sessions and its key are no other's; the paths of its sockets have to be short.

    One key for all: a process that has used Ray keeps the first.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One Ray for the searches of a file: to start one takes longer than most of them."""
    with Cluster(None) as made:
        yield made
