"""An epoch of a linear probe: from activations that are kept, against computing the prefix every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import torch

from benchmarks.rows import Row
from benchmarks.setting import Setting
from tune_tl.data.store import open_images
from tune_tl.experiment import TrialConfig
from tune_tl.training.trainer import train

REQUIRED = 100.0
CACHED_EPOCHS = 5  # for each uncached one


def measure(setting: Setting) -> Iterator[Row]:
    """Whole epochs, validation included, on all images; without augmentation, which costs uncached more."""
    torch.set_num_threads(1)
    rounds = 1 if setting.fast else 2
    for name, pretrained in setting.networks.items():
        images = open_images(setting.dataset, setting.size(name))
        config = TrialConfig(
            backbone=name,
            augment="none",
            image_size=setting.image_size,
            batch_size=8 if setting.fast else 32,
            epochs=1 + rounds * CACHED_EPOCHS,
        )
        kept = train(config, pretrained, images)
        computed = train(config, pretrained, replace(images, key=""))  # without a key nothing is kept
        filled = next(kept)
        cached: list[float] = []
        uncached: list[float] = []
        for _ in range(rounds):
            cached += [next(kept).seconds for _ in range(CACHED_EPOCHS)]
            uncached.append(next(computed).seconds)
        kept.close()
        computed.close()
        ratio = median(uncached) / median(cached)
        yield Row(
            f"probe epoch, {name}",
            f"{median(cached):.4f} s from the cache",
            f"{median(uncached):.2f} s uncached",
            ratio,
            required=f"≥ {REQUIRED:g}",
            met=ratio >= REQUIRED,
            note=f"the first epoch, which fills the cache, took {filled.seconds:.1f} s",
        )
