"""A batch's loss and gradients, within the memory there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig
from tune_tl.training.arithmetic import autocast
from tune_tl.training.model import Network


class Backward:
    """The loss of a batch and its gradients, in as many parts as the memory makes necessary."""

    def __init__(self, network: Network, config: TrialConfig, images: Images, device: torch.device) -> None:
        self._network, self._device = network, device
        self.parts = 1  # that a batch goes through in
        self._weights = _class_weights(images).to(device) if config.class_weights else None
        self._smoothing = config.label_smoothing

    @property
    def note(self) -> str:
        return f"batches in {self.parts} parts: GPU memory ran out" if self.parts > 1 else ""

    def __call__(self, x: Tensor, targets: Sequence[tuple[Tensor, float]]) -> Tensor:
        """Add the gradients of the mean loss, and return it; each target has its share in it.

        Raises torch.OutOfMemoryError if two images at a time, the fewest that batch norm trains on, are
        still too many.
        """
        while True:
            try:
                return self._in_parts(x, targets)
            except torch.OutOfMemoryError:
                if len(x) < 4 * self.parts:
                    raise
            self.parts *= 2
            self._network.zero_grad()
            torch.cuda.empty_cache()

    def _in_parts(self, x: Tensor, targets: Sequence[tuple[Tensor, float]]) -> Tensor:
        parts = min(self.parts, max(1, len(x) // 2))
        ends = [len(x) * part // parts for part in range(parts + 1)]
        total = torch.zeros((), device=self._device)
        for part in map(slice, ends, ends[1:]):
            with autocast(self._device):
                logits = self._network.trained(x[part])
                losses = [share * self._part_of_mean(logits, labels, part) for labels, share in targets]
                loss = sum(losses[1:], losses[0])
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _part_of_mean(self, logits: Tensor, labels: Tensor, part: slice) -> Tensor:
        """What `part` contributes to the cross-entropy of all `labels`, a mean weighted by class."""
        weights = self._weights
        summed = F.cross_entropy(
            logits, labels[part], weights, reduction="sum", label_smoothing=self._smoothing
        )
        return summed / (len(labels) if weights is None else weights[labels].sum())


def _class_weights(images: Images) -> Tensor:
    """Inverse class frequency on train, with mean 1 over the images."""
    counts = np.bincount(images.labels["train"], minlength=len(images.classes))
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)
