"""Networks with random values under which every layer shows in the output, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tune_tl.training.backbones import Backbone
from tune_tl.training.library import create

SMALLEST = {"inception_v3": 75}  # pixels a side that a network can take, where more than 64


def batch(backbone: Backbone, seed: int = 1) -> Tensor:
    size = SMALLEST.get(backbone.name, 64)
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def wake(model: nn.Module, x: Tensor) -> None:
    """Give `model`, left in eval mode, values under which every layer shows in its output.

    In fresh deep networks activations die out, and outputs are equal whatever the layers do.
    """
    random = torch.Generator().manual_seed(0)
    norms = [module for module in model.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for vector in (p for p in model.parameters() if p.numel() == max(p.shape)):
            vector.add_(torch.randn(vector.shape, generator=random), alpha=0.02)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train().reset_running_stats()
            norm.momentum = None  # the statistics of `x` alone
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


@cache
def woken(backbone: Backbone) -> nn.Module:
    model = create(backbone)
    wake(model, batch(backbone))
    return model


def weights_file(folder: Path, backbone: Backbone, make: Callable[[Backbone], nn.Module]) -> Path:
    """A file in `folder` with the values of `make(backbone)`, made once.

    Of one file `model.build` loads one network for all of its cuts; without one it makes one each time.
    """
    file = folder / f"{make.__name__}-{backbone.name}.safetensors"
    if not file.exists():
        save_file(make(backbone).state_dict(), file)
    return file
