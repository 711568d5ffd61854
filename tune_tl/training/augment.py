"""Augmentation of whole batches on the trial's device: each image changed by its own draw, then mixed.

A draw is a row of uniform numbers, so an augmented image is a pure function of the image and its row:
the same view of an image can be made again, or cached. Mixing pairs the images of a batch anew in every
step; it comes last, on what the trained part is fed, and so costs no cache anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the policies' names are read by doors that must not wait for torch
    import numpy as np
    from torch import Tensor

DRAWS = 13  # uniform numbers an image takes
# Images that a thread of a CPU changes at once: what is computed on the way to them stays in its core's
# cache. At 224 pixels a side `strong` takes 0.70 of the time that it takes for 32 at once, `light` 0.77.
CHUNK = 8


@dataclass(frozen=True)
class Policy:
    """How far each random change goes; zero switches it off. `mix` is `mix`'s, the others `augment`'s."""

    zoom: float = 0.0  # up to this fraction of each side is cropped away
    rotate: float = 0.0  # degrees either way
    flip: bool = False  # left and right, half of the time
    colour: float = 0.0  # brightness, contrast and saturation, each by a factor of 1 ± this
    erase: float = 0.0  # probability that a random box, 2 to 20 % of the image, is greyed out
    mix: float = 0.0  # alpha of Beta(alpha, alpha), from which the shares of two mixed images are drawn


# Growing strength.
POLICIES = {
    "none": Policy(),
    "light": Policy(zoom=0.15, flip=True),
    "medium": Policy(zoom=0.3, flip=True, rotate=15, colour=0.2),
    "strong": Policy(zoom=0.5, flip=True, rotate=30, colour=0.4, erase=0.3, mix=0.2),
}


def augment(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
    """Change `images`, (N, 3, H, W) float in [0, 1], by `draws`, (N, DRAWS) uniform in [0, 1).

    What comes lies in memory as `images` does, of which it is a copy unless nothing is to be changed.
    """
    import torch

    if not (policy.zoom or policy.rotate or policy.flip or policy.colour or policy.erase):
        return images
    chunk = CHUNK * torch.get_num_threads() if images.device.type == "cpu" else len(images)
    changed = torch.empty_like(images)
    parts = (torch.split(tensor, chunk) for tensor in (changed, images, draws.to(images.device)))
    for target, part, rows in zip(*parts, strict=True):
        target.copy_(_augment(part, policy, rows))
    return changed


def grey(images: Tensor) -> Tensor:
    """The luma (ITU-R BT.601) of RGB images: (N, 3, H, W) to (N, 1, H, W)."""
    return 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]


def _augment(images: Tensor, policy: Policy, draws: Tensor) -> Tensor:
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
    # Where the pixel at (x, y) comes from, in coordinates from -1 to 1; the sum of a row's part and a
    # column's part, which is cheaper than a matrix product for each pixel.
    y, x = (_centres(length, images) for length in images.shape[-2:])
    across = torch.stack([cos * side, sin * side], dim=1)[:, None, None] * x[:, None]
    along = torch.stack([-sin, cos], dim=1)[:, None, None] * y[:, None, None]
    along = along + torch.stack([shift_x, shift_y], dim=1)[:, None, None]
    return F.grid_sample(
        images, across + along, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _centres(length: int, like: Tensor) -> Tensor:
    """Of the pixels of a line from -1 to 1."""
    import torch

    return (2 * torch.arange(length, device=like.device, dtype=like.dtype) + 1) / length - 1


def _recolour(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Brightness; contrast about the image's mean; saturation about each pixel's grey; then clipped.

    The three are linear. Taken together they are `factor * pixel + grey`, in one pass over the channels.
    """
    factors = 1 + strength * (2 * draws - 1)
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    grey = images.mean(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True) * brightness
    gain = contrast * brightness
    grey = grey.mul_((1 - saturation) * gain).add_((1 - contrast) * mean)
    return (images * (saturation * gain)).add_(grey).clamp_(0, 1)


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


def mix(x: Tensor, alpha: float, random: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Mix each row of a batch with another: the mixed rows, each one's partner and the share of its own.

    `x` is (N, C, H, W) or (N, F), pixels or activations; its type and memory layout stay. For the
    targets `t` of the rows the loss is `share * loss(t) + (1 - share) * loss(t[partner])`. Where
    `alpha` is 0 or there is a single row, `x` itself comes back, with share 1.

    Either mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412; of activations: manifold mixup,
    Verma et al. 2019, https://arxiv.org/abs/1806.05236) or, for half of the batches that have a height
    and a width, cutmix (Yun et al. 2019, https://arxiv.org/abs/1905.04899), as timm has it.
    """
    import torch

    if not alpha or len(x) < 2:
        return x, torch.arange(len(x), device=x.device), 1.0
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(x))).to(x.device)
    if x.ndim != 4 or min(x.shape[2:]) < 2 or random.random() < 0.5:
        return torch.lerp(x[partner], x, share), partner, share
    rows, columns = (_span(length, math.sqrt(1 - share), random) for length in x.shape[2:])
    mixed = x.clone()
    mixed[:, :, rows, columns] = x[:, :, rows, columns][partner]
    box = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, partner, 1 - box / (x.shape[2] * x.shape[3])


def _span(length: int, share: float, random: np.random.Generator) -> slice:
    """About a `share` of `length` pixels around any of them, cut off at the border."""
    middle, wide = random.integers(length), round(share * length)
    start = int(middle) - wide // 2
    return slice(max(start, 0), min(start + wide, length))
