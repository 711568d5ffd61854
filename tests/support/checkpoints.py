"""A trial of a few epochs, and checkpoints as it would write them."""

from __future__ import annotations

from typing import Any

import torch

from tune_tl.experiment import EpochMetrics, TrialConfig, Unfreeze
from tune_tl.training.checkpoint import Checkpoint


def config(unfreeze: Unfreeze = 0, **values: Any) -> TrialConfig:
    body_lr = 1e-3 if unfreeze else None
    chosen = {"augment": "strong", "batch_size": 8, "epochs": 5, "head_lr": 1e-2, "body_lr": body_lr}
    return TrialConfig("efficientnet_lite0", unfreeze=unfreeze, **chosen | values)


def checkpoint(epoch: int, of: TrialConfig | None = None, size: int = 40) -> Checkpoint:
    metrics = EpochMetrics(epoch, 0.1, 0.2, 0.6, epoch / 10, (0.5, 0.25), 123.4, 1.5)
    tensors = {"head.weight": torch.rand(size), "head.count": torch.tensor(epoch)}
    return Checkpoint(of or config(), metrics, tensors, {"best": epoch / 10})
