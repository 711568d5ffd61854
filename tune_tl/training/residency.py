"""Where the rows of large tensors are gathered from: a GPU's own memory, as far as a share of it goes."""

from __future__ import annotations

import torch
from torch import Tensor

GPU_SHARE = 0.25  # of the memory that is free at first


class Residency:
    """Gives rows on `device`, of tensors that lie there if there is room, else in this machine's memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda"
        self._room = GPU_SHARE * torch.cuda.mem_get_info(device)[0] if cuda else 0.0  # bytes still left

    def has_room(self, size: int) -> bool:
        """For `size` bytes."""
        return size <= self._room

    def placed(self, kept: Tensor) -> Tensor:
        """`kept`, moved to the GPU if there is room."""
        if not self.has_room(kept.nbytes):
            return kept
        self._room -= kept.nbytes
        return kept.to(self._device)

    def rows(self, kept: Tensor, chosen: Tensor) -> Tensor:
        return self.moved(kept[chosen.to(kept.device)])

    def moved(self, rows: Tensor) -> Tensor:
        """`rows` on the device; to a GPU through pinned memory, so that nobody waits."""
        if self._device.type == "cuda" and not rows.is_cuda:
            return rows.pin_memory().to(self._device, non_blocking=True)
        return rows.to(self._device)
