"""What is needed to break things for real: a place to run the whole command in, and dice."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from support.hunt import Hunt
from support.place import TWO_AT_A_TIME, Place, place_in


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long is run by whoever asks for it: `-m long`."""
    if "long" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes long; run with -m long"))


@pytest.fixture(scope="package")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """What the searches that are hunted share: the images, and caches that are warm after the first."""
    with place_in(tmp_path_factory.mktemp("faults") / "hunting") as made:
        yield made


@pytest.fixture(scope="package")
def life(arena: Place) -> float:
    """Seconds that a search takes here if nothing disturbs it; caches are warm from here on."""
    begun = time.monotonic()
    Hunt(arena, TWO_AT_A_TIME).finish()
    return time.monotonic() - begun


@pytest.fixture
def dice() -> random.Random:
    """Set FAULTS_SEED to that of a failure to have it again, as far as a machine's timing allows."""
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(1_000_000))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)
