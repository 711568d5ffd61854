"""Networks trained from nothing: what a search compares transfer with. One function a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from tune_tl.training.augment import grey


def tank_cnn() -> nn.Sequential:
    """Tanks against elephants: four 3x3 convolutions on 40x40 grey pixels, to an embedding of 64.

    Each with ReLU and max pooling, by 2, 2, 3 and 3: 40, 20, 10, 3 and 1 pixels a side. For other sizes the
    last map is averaged.
    """
    channels = (1, 8, 16, 32, 64)
    blocks = [
        nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool))
        for (before, after), pool in zip(pairwise(channels), (2, 2, 3, 3), strict=True)
    ]
    blocks[0].insert(0, Grey())
    return _whole(blocks, channels[-1])


def small_resnet() -> nn.Sequential:
    """Intel scenes: a stem and three residual blocks on 32x32 pixels, each halving height and width.

    Blocks as of He et al. 2016, https://arxiv.org/abs/1512.03385, figure 2.
    """
    channels = (16, 32, 64, 128)
    stem = nn.Sequential(
        nn.Conv2d(3, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
    )
    return _whole([stem, *(Residual(before, after) for before, after in pairwise(channels))], channels[-1])


def _whole(stages: Sequence[nn.Module], features: int) -> nn.Sequential:
    """With a head for as many classes as ImageNet has, like the libraries' networks."""
    parts: dict[str, nn.Module] = {f"stage{i}": stage for i, stage in enumerate(stages, 1)}
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(features, 1000)}
    return nn.Sequential(OrderedDict(parts))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"tank_cnn": tank_cnn, "small_resnet": small_resnet}


class Grey(nn.Module):
    """The first layer of a network with a single channel: (N, 3, H, W) to (N, 1, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return grey(x)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a projection; both halve the height and the width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
