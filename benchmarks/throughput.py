"""Images a second: the trainer, its data pipeline included, against plain loops that have none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from benchmarks.loops import CPU, trained_part, whole_network
from benchmarks.rows import Row
from benchmarks.setting import Setting
from tune_tl.data.store import Images, open_images
from tune_tl.experiment import TrialConfig, Unfreeze
from tune_tl.training.model import network_for
from tune_tl.training.trainer import train

REQUIRED = 0.95
BATCH = 32
ROUNDS = 5
WARM = 5  # epochs after which each of an image's four views has been seen, and what pays is kept
# Training images of an epoch: enough for a round of about a second at each depth.
IMAGES: dict[Unfreeze, int] = {0: 512, 1: 256, 2: 256, 3: 256, 5: 128, "all": 96}
WHOLE = 96  # images of a round of the loop over the whole network
VAL = 32


def measure(setting: Setting) -> Iterator[Row]:
    torch.set_num_threads(1)  # as in a trial that holds one core
    depths: dict[Unfreeze, int] = {0: 16, 1: 16, "all": 16} if setting.fast else IMAGES
    for name in setting.networks:
        for depth, images in depths.items():
            yield from _compared(setting, name, depth, images)


def _compared(setting: Setting, name: str, depth: Unfreeze, images: int) -> Iterator[Row]:
    """The trainer's epochs and rounds of both loops in turn: A B C A B C …; medians of their ratios."""
    rounds, warm = (2, 1) if setting.fast else (ROUNDS, 1 if depth == "all" else WARM)
    batch = 8 if setting.fast else BATCH
    all_images = open_images(setting.dataset, setting.size(name))
    config = TrialConfig(
        backbone=name,
        unfreeze=depth,
        body_lr=1e-4 if depth else None,
        batch_size=batch,
        image_size=setting.image_size,
        epochs=warm + rounds,
    )
    few = subset(all_images, images, VAL)
    epochs = train(config, setting.networks[name], few)
    for _ in range(warm):
        next(epochs)
    size = setting.size(name)
    network = network_for(config, setting.networks[name], len(few.classes), CPU)
    limits = {
        "plain loop over the whole network": whole_network(network, size, batch),
        "plain loop over the trained part alone": trained_part(network, size, batch),
    }
    if depth == "all":
        del limits["plain loop over the trained part alone"]  # it is the whole
    ours: list[float] = []
    note = ""
    theirs: dict[str, list[float]] = {limit: [] for limit in limits}
    for _ in range(rounds):
        metrics = next(epochs)
        ours.append(metrics.images_per_s)
        note = metrics.prefix
        for limit, loop in limits.items():
            theirs[limit].append(loop(min(images, WHOLE) if "whole" in limit else images))
    epochs.close()
    for limit, speeds in theirs.items():
        ratio = median(a / b for a, b in zip(ours, speeds, strict=True))
        yield Row(
            f"training, {name}, unfreeze {depth}",
            f"{median(ours):,.1f} images/s",
            f"{limit}: {median(speeds):,.1f}",
            ratio,
            required=f"≥ {REQUIRED}",
            met=ratio >= REQUIRED,
            note=f"prefix {note}" if note and "whole" in limit else "",
        )


def subset(images: Images, train: int, val: int) -> Images:
    """The same store with fewer images, spread over the classes as they come."""
    random = np.random.default_rng(0)
    rows, labels = dict(images.rows), dict(images.labels)
    for split, wanted in (("train", train), ("val", val)):
        chosen = random.permutation(len(rows[split]))[:wanted]
        rows[split], labels[split] = rows[split][chosen], labels[split][chosen]
    return replace(images, rows=rows, labels=labels)
