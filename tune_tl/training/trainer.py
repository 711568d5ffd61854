"""The one trainer: every trial of every space, with or without Ray around it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tune_tl.data.folder import Split
from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig
from tune_tl.training.arithmetic import autocast
from tune_tl.training.augment import POLICIES, mix
from tune_tl.training.inputs import Inputs
from tune_tl.training.metrics import confusion, macro_f1, per_class
from tune_tl.training.model import Network, build, frozen, grouped_in_float32
from tune_tl.training.weights import Pretrained

CLIP = 1.0  # the gradient's largest norm
WARM_UP = 0.25  # fraction of all steps in which the learning rate rises


class Diverged(Exception):
    """The loss is no longer a number; the message says where."""


def train(
    config: TrialConfig,
    pretrained: Pretrained,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Iterator[EpochMetrics]:
    """Train `config` and yield its metrics after each of `config.epochs` epochs.

    AdamW under a one-cycle schedule (Smith & Topin 2019, https://arxiv.org/abs/1708.07120), clipped
    gradients, mixed precision where the hardware has bfloat16. Training sees `train`, the metrics come
    from `val`; `test` is not touched. `checkpoint` receives the trained tensors of the best epoch so
    far before that epoch is yielded. The same config and seed give the same numbers on one machine.

    Raises Diverged as soon as a loss is not finite.
    """
    device = torch.device(device)
    torch.manual_seed(config.seed)
    network = _ready(config, pretrained, images, device)
    inputs = Inputs(network, images, pretrained, config, device)
    optimiser = _optimiser(network, config)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=(steps := config.epochs * inputs.steps + 1),
        pct_start=max(WARM_UP, 2 / steps),  # at least one step up, which the schedule divides by
    )
    backward = _Backward(network, config, images, device)
    # Once: going through all of a network's modules takes longer than a step of a head alone.
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    best = -1.0
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        # Each epoch draws from its own seed: what it does cannot depend on how it was reached.
        torch.manual_seed(seed := _epoch_seed(config.seed, epoch))
        network.train()
        total, seen = torch.zeros((), device=device), 0
        random = np.random.default_rng(seed)
        for x, labels in inputs.training(epoch, seed):
            x, partner, share = mix(x, POLICIES[config.augment].mix, random)
            targets = [(labels, share), *([(labels[partner], 1 - share)] if share < 1 else [])]
            optimiser.zero_grad()
            total += backward(x, targets) * len(labels)
            seen += len(labels)
            nn.utils.clip_grad_norm_(trained, CLIP)
            optimiser.step()
            schedule.step()
        # Looked at once an epoch: a GPU would stop and wait for every look.
        if not math.isfinite(mean := total.item() / seen):
            raise Diverged(f"loss became {mean} in epoch {epoch}")
        end = time.perf_counter()
        logits = predict(network, inputs, "val")
        metrics = _metrics(epoch, mean, logits, images.labels["val"], seen, end - start, start)
        metrics = replace(metrics, prefix="; ".join(filter(None, (inputs.note, backward.note))))
        if checkpoint and metrics.val_f1 > best:
            save(network, checkpoint, {"config": config.to_dict(), "epoch": epoch})
        best = max(best, metrics.val_f1)
        yield metrics


class _Backward:
    """The loss of a batch and its gradients, in as many parts as the memory makes necessary."""

    def __init__(self, network: Network, config: TrialConfig, images: Images, device: torch.device) -> None:
        self._network, self._device, self._parts = network, device, 1
        self._weights = _class_weights(images).to(device) if config.class_weights else None
        self._smoothing = config.label_smoothing

    @property
    def note(self) -> str:
        return f"batches in {self._parts} parts: GPU memory ran out" if self._parts > 1 else ""

    def __call__(self, x: Tensor, targets: Sequence[tuple[Tensor, float]]) -> Tensor:
        """Add the gradients of the mean loss, and return it; each target has its share in it.

        Raises torch.OutOfMemoryError if two images at a time, the fewest that batch norm trains on, are
        still too many.
        """
        while True:
            try:
                return self._in_parts(x, targets)
            except torch.OutOfMemoryError:
                if len(x) < 4 * self._parts:
                    raise
            self._parts *= 2
            self._network.zero_grad()
            torch.cuda.empty_cache()

    def _in_parts(self, x: Tensor, targets: Sequence[tuple[Tensor, float]]) -> Tensor:
        parts = min(self._parts, max(1, len(x) // 2))
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


@torch.no_grad()
def predict(network: Network, inputs: Inputs, split: Split) -> npt.NDArray[np.float32]:
    """Logits of every image of `split`, (N, classes)."""
    network.eval()
    device = next(network.head.parameters()).device
    with autocast(device):
        parts = [network.trained(x).float().cpu() for x in inputs.evaluation(split)]
    return torch.cat(parts).numpy()


def restore(
    config: TrialConfig, pretrained: Pretrained, images: Images, checkpoint: Path, device: str = "cpu"
) -> tuple[Network, Inputs]:
    """A trained network as `checkpoint` holds it, and the inputs it takes."""
    target = torch.device(device)
    network = _ready(config, pretrained, images, target)
    network.load_trained_state(load_file(checkpoint))
    return network, Inputs(network, images, pretrained, config, target)


def _ready(config: TrialConfig, pretrained: Pretrained, images: Images, device: torch.device) -> Network:
    """The network as it is trained and used on `device`."""
    network = build(pretrained.backbone, pretrained.weights, config.unfreeze, len(images.classes))
    network.prefix = frozen(pretrained.backbone, pretrained.weights)[: len(network.prefix)]
    if device.type == "cpu":
        grouped_in_float32(network)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def save(network: Network, path: Path, about: dict[str, object]) -> None:
    """Write the trained tensors so that `path` holds a whole checkpoint at every moment."""
    part = path.with_suffix(f".part{os.getpid()}")
    tensors = {k: v.detach().contiguous().cpu() for k, v in network.trained_state().items()}
    try:
        save_file(tensors, part, metadata={"tune_tl": json.dumps(about)})
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _metrics(
    epoch: int,
    train_loss: float,
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    seen: int,
    training_s: float,
    start: float,
) -> EpochMetrics:
    val_loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    if not math.isfinite(val_loss):
        raise Diverged(f"validation loss became {val_loss} in epoch {epoch}")
    predictions = logits.argmax(axis=1)
    counts = confusion(labels, predictions, logits.shape[1])
    return EpochMetrics(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=val_loss,
        val_accuracy=float((predictions == labels).mean()),
        val_f1=macro_f1(counts),
        val_f1_per_class=tuple(map(float, per_class(counts)[2])),
        images_per_s=seen / training_s,
        seconds=time.perf_counter() - start,
    )


def _optimiser(network: Network, config: TrialConfig) -> torch.optim.Optimizer:
    """AdamW with a learning rate for the head and one for the body; biases and norms do not decay."""
    groups = []
    for module, lr in ((network.head, config.head_lr), (network.suffix, config.body_lr)):
        for decay, wanted in ((config.weight_decay, True), (0.0, False)):
            parameters = [p for p in module.parameters() if (p.ndim > 1) is wanted]
            if parameters:
                assert lr is not None, "spaces give every trainable body a learning rate"
                groups.append({"params": parameters, "lr": lr, "weight_decay": decay})
    return torch.optim.AdamW(groups, fused=True)  # one call a step, on CPUs as well


def _class_weights(images: Images) -> Tensor:
    """Inverse class frequency on train, with mean 1 over the images."""
    counts = np.bincount(images.labels["train"], minlength=len(images.classes))
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 100_003 + epoch
