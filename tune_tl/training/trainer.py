"""The one trainer: every trial of every space, with or without Ray around it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig
from tune_tl.training.augment import POLICIES, mix
from tune_tl.training.backward import Backward
from tune_tl.training.checkpoint import Checkpoint, Checkpoints
from tune_tl.training.inference import predict
from tune_tl.training.inputs import Inputs
from tune_tl.training.metrics import confusion, macro_f1, per_class
from tune_tl.training.model import Network, network_for
from tune_tl.training.weights import Pretrained

CLIP = 1.0  # the gradient's largest norm
WARM_UP = 0.25  # fraction of all steps in which the learning rate rises
# What an epoch goes over the images for a network that starts from nothing: it needs so many more, and
# schedulers, which compare trials by epochs, would stop it for being young.
PASSES = 6
OPTIMISER = "optimiser"  # what its tensors are called in a checkpoint, with a parameter's number


class Diverged(Exception):
    """The loss is no longer a number; the message says where."""


def train(
    config: TrialConfig,
    pretrained: Pretrained,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Checkpoints | None = None,
) -> Iterator[EpochMetrics]:
    """Train `config` and yield its metrics after each of `config.epochs` epochs.

    AdamW under a one-cycle schedule (Smith & Topin 2019, https://arxiv.org/abs/1708.07120), clipped
    gradients, mixed precision where the hardware has bfloat16. Training sees `train`, the metrics come
    from `val`; `test` is not touched. The same config and seed give the same numbers on one machine.
    An epoch is a pass over the images, or PASSES of a network that starts from nothing.

    `checkpoints` receive the trained tensors of the best epoch so far (of the settled ones as soon as there
    is one), and what it takes to go on, before an epoch is yielded. If they hold that already, the last epoch
    there is yielded once more (nobody may have heard of it) and training goes on behind it, to the numbers
    it would have come to by itself.

    Raises Diverged as soon as a loss is not finite, and OSError if a checkpoint cannot be written.
    """
    training = _Training(config, pretrained, images, torch.device(device))
    saved, notes = checkpoints.newest(config) if checkpoints else (None, [])
    last, best, note = 0, -1.0, "; ".join(notes)
    if saved:
        try:
            training.load_state(saved)
        except (ValueError, KeyError, RuntimeError) as error:  # of other versions of the libraries
            note = f"checkpoint of epoch {saved.metrics.epoch} does not fit ({error}): starting again"
            training = _Training(config, pretrained, images, torch.device(device))
        else:
            last, best = saved.metrics.epoch, saved.metrics.best_val_f1
            yield replace(saved.metrics, said=note)
            note = ""
    for epoch in range(last + 1, config.epochs + 1):
        if config.settled(epoch) and not config.settled(epoch - 1):
            best = -1.0
        metrics = training.epoch(epoch)
        metrics = replace(metrics, best_val_f1=max(best, metrics.val_f1))
        if checkpoints:
            if metrics.val_f1 > best:  # in this order: a state knows of no best that is not there
                checkpoints.save_best(Checkpoint(config, metrics, training.network.trained_state()))
            checkpoints.save_state(training.state(metrics))
        best = metrics.best_val_f1
        yield replace(metrics, said=note)
        note = ""


class _Training:
    """A network on its way through the epochs of a trial."""

    def __init__(
        self, config: TrialConfig, pretrained: Pretrained, images: Images, device: torch.device
    ) -> None:
        torch.manual_seed(config.seed)
        self._config, self._labels, self._device = config, images.labels["val"], device
        self._passes = 1 if config.pretrained else PASSES
        self.network = network_for(config, pretrained, len(images.classes), device)
        self._inputs = Inputs(self.network, images, pretrained, config, device)
        self._optimiser = _optimiser(self.network, config)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            [group["lr"] for group in self._optimiser.param_groups],
            total_steps=(steps := config.epochs * self._passes * self._inputs.steps + 1),
            pct_start=max(WARM_UP, 2 / steps),  # at least one step up, which the schedule divides by
        )
        self._backward = Backward(self.network, config, images, device)
        # Once: going through all of a network's modules takes longer than a step of a head alone.
        self._trained = [p for group in self._optimiser.param_groups for p in group["params"]]

    def epoch(self, epoch: int) -> EpochMetrics:
        """Train one epoch and validate. Raises Diverged."""
        start = time.perf_counter()
        self.network.train()
        passes = range((epoch - 1) * self._passes + 1, epoch * self._passes + 1)
        totals = [self._pass(epoch, number) for number in passes]
        mean = sum(total for total, _ in totals) / (seen := sum(images for _, images in totals))
        if not math.isfinite(mean):
            raise Diverged(f"loss became {mean} in epoch {epoch}")
        end = time.perf_counter()
        logits = predict(self.network, self._inputs, "val")
        metrics = _metrics(epoch, mean, logits, self._labels, seen, end - start, start)
        passes_note = f"{self._passes} passes an epoch" if self._passes > 1 else ""
        notes = filter(None, (self._inputs.prefix.note, passes_note, self._backward.note))
        return replace(metrics, prefix="; ".join(notes))

    def _pass(self, epoch: int, number: int) -> tuple[float, int]:
        """Train on every image once; the sum of the images' losses, and their number."""
        # Each pass draws from its own seed: what it does cannot depend on how it was reached.
        torch.manual_seed(seed := self._config.seed * 100_003 + number)
        total, seen = torch.zeros((), device=self._device), 0
        random = np.random.default_rng(seed)
        for x, labels in self._inputs.training(epoch, seed):
            x, partner, share = mix(x, POLICIES[self._config.augment].mix, random)
            targets = [(labels, share), *([(labels[partner], 1 - share)] if share < 1 else [])]
            self._optimiser.zero_grad()
            total += self._backward(x, targets) * len(labels)
            seen += len(labels)
            nn.utils.clip_grad_norm_(self._trained, CLIP)
            self._optimiser.step()
            self._schedule.step()
        return total.item(), seen  # looked at once: a GPU would stop and wait for every look

    def state(self, metrics: EpochMetrics) -> Checkpoint:
        """Everything that the epochs to come depend on."""
        optimiser = self._optimiser.state_dict()
        moments = {
            f"{OPTIMISER}.{index}.{name}": value
            for index, values in optimiser["state"].items()
            for name, value in values.items()
        }
        progress = {
            "groups": optimiser["param_groups"],
            "schedule": self._schedule.state_dict(),
            "parts": self._backward.parts,
            "cache": self._inputs.prefix.keep,
            "note": self._inputs.prefix.note,
        }
        return Checkpoint(self._config, metrics, self.network.trained_state() | moments, progress)

    def load_state(self, saved: Checkpoint) -> None:
        """Go on from what `state` gave. Raises ValueError, KeyError or RuntimeError if it does not fit."""
        weights, progress = dict(saved.tensors), saved.progress
        moments: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
        for key in [key for key in weights if key.startswith(f"{OPTIMISER}.")]:
            value, (_, index, name) = weights.pop(key), key.split(".")
            if value.ndim:
                # In memory as the parameter is: a fused step goes through both from end to end.
                value = torch.empty_like(self._trained[int(index)], device="cpu").copy_(value)
            moments[int(index)][name] = value
        self.network.load_trained_state(weights)
        self._optimiser.load_state_dict({"state": moments, "param_groups": progress["groups"]})
        self._schedule.load_state_dict(progress["schedule"])
        self._backward.parts = progress["parts"]
        self._inputs.prefix.keep, self._inputs.prefix.note = progress["cache"], progress["note"]


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
