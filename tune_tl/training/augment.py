"""Augmentation of whole batches on the trial's device, each image drawn for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the policies' names are read by doors that must not wait for torch
    from torch import Generator, Tensor

    Uniform = Callable[[float, float], Tensor]  # a draw for each image between two bounds


@dataclass(frozen=True)
class Policy:
    """How far each random change goes; zero switches it off."""

    zoom: float = 0.0  # up to this fraction of each side is cropped away
    rotate: float = 0.0  # degrees either way
    flip: bool = False  # left and right, half of the time
    colour: float = 0.0  # brightness, contrast and saturation, each by a factor of 1 ± this
    erase: float = 0.0  # probability that a random box, 2 to 20 % of the image, is greyed out


# Growing strength.
POLICIES = {
    "none": Policy(),
    "light": Policy(zoom=0.15, flip=True),
    "medium": Policy(zoom=0.3, flip=True, rotate=15, colour=0.2),
    "strong": Policy(zoom=0.5, flip=True, rotate=30, colour=0.4, erase=0.3),
}


def augment(images: Tensor, policy: Policy, random: Generator) -> Tensor:
    """Change `images`, (N, 3, H, W) float in [0, 1], each by its own draw from `random`."""
    import torch

    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=random).mul_(high - low).add_(low)

    if policy.zoom or policy.rotate or policy.flip:
        images = _warp(images, policy, uniform)
    if policy.colour:
        images = _recolour(images, policy.colour, uniform)
    if policy.erase:
        images = _erase(images, policy.erase, uniform)
    return images


def _warp(images: Tensor, policy: Policy, uniform: Uniform) -> Tensor:
    """Crop, rotate and flip in one resampling."""
    import torch
    import torch.nn.functional as F

    scale = 1 - uniform(0, policy.zoom)
    angle = uniform(-policy.rotate, policy.rotate) * (math.pi / 180)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if policy.flip else torch.ones(len(images))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift_x, shift_y = uniform(-1, 1) * (1 - scale), uniform(-1, 1) * (1 - scale)
    # Maps where a pixel lands to where it comes from, in coordinates from -1 to 1.
    matrix = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolour(images: Tensor, strength: float, uniform: Uniform) -> Tensor:
    brightness, contrast, saturation = (
        uniform(1 - strength, 1 + strength).view(-1, 1, 1, 1).to(images.device) for _ in range(3)
    )
    images = images * brightness
    images = (images - (mean := images.mean(dim=(1, 2, 3), keepdim=True))) * contrast + mean
    grey = images.mean(dim=1, keepdim=True)
    return ((images - grey) * saturation + grey).clamp_(0, 1)


def _erase(images: Tensor, probability: float, uniform: Uniform) -> Tensor:
    """Random erasing (Zhong et al. 2020, https://arxiv.org/abs/1708.04896), filled with mid-grey."""
    import torch

    height, width = images.shape[-2:]
    area, ratio = uniform(0.02, 0.2), uniform(math.log(0.3), math.log(3.3)).exp()
    tall, wide = (area * ratio).sqrt().clamp(max=1) * height, (area / ratio).sqrt().clamp(max=1) * width
    top, left = uniform(0, 1) * (height - tall), uniform(0, 1) * (width - wide)
    chosen = uniform(0, 1) < probability
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None]) & chosen[:, None]
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    box = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1).to(images.device)
    return images.masked_fill(box, 0.5)
