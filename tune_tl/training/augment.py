"""Augmentation of whole batches on the trial's device, each image changed by its own draw.

A draw is a row of uniform numbers, so an augmented image is a pure function of the image and its row:
the same view of an image can be made again, or cached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the policies' names are read by doors that must not wait for torch
    from torch import Tensor

DRAWS = 13  # uniform numbers an image takes


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


def augment(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
    """Change `images`, (N, 3, H, W) float in [0, 1], by `draws`, (N, DRAWS) uniform in [0, 1)."""
    draws = draws.to(images.device)
    warps, colours, boxes = draws[:, :5], draws[:, 5:8], draws[:, 8:]
    if policy.zoom or policy.rotate or policy.flip:
        images = _warp(images, policy, warps)
    if policy.colour:
        images = _recolour(images, policy.colour, colours)
    if policy.erase:
        images = _erase(images, policy.erase, boxes)
    return images


def _warp(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
    """Crop, rotate and flip in one resampling."""
    import torch
    import torch.nn.functional as F

    zoom, turn, mirror, right, down = draws.unbind(dim=1)
    scale = 1 - policy.zoom * zoom
    angle = (2 * turn - 1) * math.radians(policy.rotate)
    side = 1 - 2 * (mirror < 0.5).to(scale.dtype) * policy.flip
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift_x, shift_y = (2 * right - 1) * (1 - scale), (2 * down - 1) * (1 - scale)
    # Maps where a pixel lands to where it comes from, in coordinates from -1 to 1.
    matrix = torch.stack([cos * side, -sin, shift_x, sin * side, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolour(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    factors = 1 + strength * (2 * draws - 1)
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean
    grey = images.mean(dim=1, keepdim=True)
    return ((images - grey) * saturation + grey).clamp(0, 1)


def _erase(images: Tensor, probability: float, draws: Tensor) -> Tensor:
    """Random erasing (Zhong et al. 2020, https://arxiv.org/abs/1708.04896), filled with mid-grey."""
    import torch

    height, width = images.shape[-2:]
    size, shape, right, down, chance = draws.unbind(dim=1)
    area = 0.02 + 0.18 * size
    ratio = (math.log(0.3) + (math.log(3.3) - math.log(0.3)) * shape).exp()
    tall, wide = (area * ratio).sqrt().clamp(max=1) * height, (area / ratio).sqrt().clamp(max=1) * width
    top, left = down * (height - tall), right * (width - wide)
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None]) & (chance < probability)[:, None]
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    return images.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0.5)
