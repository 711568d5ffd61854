"""From decoded images to what a network takes: one preprocessing, in training, in scoring and in use."""

from __future__ import annotations

import torch
from torch import Tensor

from tune_tl.training.augment import POLICIES, Policy, augment, grey
from tune_tl.training.backbones import Backbone


class Preprocessing:
    """Makes bytes floats, takes colours out if asked to, augments if asked to, and normalises."""

    def __init__(
        self,
        backbone: Backbone,
        size: int,
        device: torch.device,
        *,
        grayscale: bool = False,
        policy: Policy = POLICIES["none"],
    ) -> None:
        self._grayscale, self._policy = grayscale, policy
        # For a line of pixels, channel after channel: a line at a time is quick, three channels are not.
        self._mean, self._std = (
            torch.tensor(values, device=device).repeat(size) for values in (backbone.mean, backbone.std)
        )

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """(n, size, size, 3) bytes on the device to (n, 3, size, size) float, channels last in memory.

        With `draws`, (n, augment.DRAWS) uniform in [0, 1), each image is augmented by its own.
        """
        pixels = images.float().div_(255).permute(0, 3, 1, 2)
        if self._grayscale:
            pixels = grey(pixels).expand_as(pixels).contiguous(memory_format=torch.channels_last)
        if draws is not None:
            pixels = augment(pixels, self._policy, draws)
        lines = pixels.permute(0, 2, 3, 1).flatten(2)  # the same memory, as is what comes back
        lines.sub_(self._mean).div_(self._std)
        return lines.view(len(lines), lines.shape[1], -1, 3).permute(0, 3, 1, 2)
