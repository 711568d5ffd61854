"""Plain PyTorch loops on random tensors in memory: what the hardware does at most."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_tl.training.arithmetic import autocast
from tune_tl.training.model import Network

CPU = torch.device("cpu")
POOL = 8  # batches in memory, taken in turn


@dataclass(frozen=True)
class Arithmetic:
    """How numbers are held; the defaults are the trainer's."""

    mixed: bool | None = None  # bfloat16 or float32; None for what the trainer takes here
    channels_last: bool = True

    def context(self) -> contextlib.AbstractContextManager[object]:
        if self.mixed is None:
            return autocast(CPU)
        return torch.autocast(CPU.type, torch.bfloat16, enabled=self.mixed)

    def laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(
            memory_format=torch.channels_last
            if self.channels_last and x.ndim == 4
            else torch.contiguous_format
        )


def whole_network(
    network: Network, size: int, batch: int, arithmetic: Arithmetic = Arithmetic()
) -> Callable[[int], float]:
    """A loop over random images: prefix without gradient, the rest trained. Images -> images a second."""
    pool = [arithmetic.laid_out(torch.randn(batch, 3, size, size)) for _ in range(POOL)]
    return _training(network, pool, network.forward, arithmetic)


def trained_part(
    network: Network, size: int, batch: int, arithmetic: Arithmetic = Arithmetic()
) -> Callable[[int], float]:
    """A loop over random activations as the prefix gives them in shape and type: no prefix, no data."""
    with torch.no_grad(), arithmetic.context():
        like = network.prefix(arithmetic.laid_out(torch.randn(batch, 3, size, size)))
    pool = [arithmetic.laid_out(torch.rand(like.shape).to(like.dtype)) for _ in range(POOL)]
    return _training(network, pool, network.trained, arithmetic)


def forward_only(
    network: Network, size: int, batch: int, arithmetic: Arithmetic = Arithmetic()
) -> Callable[[int], float]:
    """A loop that only infers."""
    pool = [arithmetic.laid_out(torch.randn(batch, 3, size, size)) for _ in range(POOL)]
    network.eval()

    @torch.no_grad()
    def run(images: int) -> float:
        start = time.perf_counter()
        for step in range(steps := -(-images // batch)):
            with arithmetic.context():
                network(pool[step % POOL])
        return steps * batch / (time.perf_counter() - start)

    run(batch)
    return run


def _training(
    network: Network, pool: list[Tensor], forward: Callable[[Tensor], Tensor], arithmetic: Arithmetic
) -> Callable[[int], float]:
    batch = len(pool[0])
    linear = network.head[-1]
    assert isinstance(linear, nn.Linear)
    labels = torch.randint(linear.out_features, (batch,))
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=1e-4)
    loss_of = nn.CrossEntropyLoss()
    network.train()

    def run(images: int) -> float:
        start = time.perf_counter()
        for step in range(steps := -(-images // batch)):
            with arithmetic.context():
                loss = loss_of(forward(pool[step % POOL]), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return steps * batch / (time.perf_counter() - start)

    run(batch)  # the first step is not like the others
    return run
