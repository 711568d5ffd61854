"""What the trained part of a network is fed: augmented images through the frozen prefix, or its cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tune_tl.data.folder import Split
from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig
from tune_tl.training import activations
from tune_tl.training.augment import DRAWS, POLICIES, augment
from tune_tl.training.model import Network
from tune_tl.training.weights import Pretrained

# Behind a frozen prefix, augmentation is this many views of each image, in turn: few enough to compute
# once and keep, whether or not they are kept. Without a prefix every epoch draws anew.
VIEWS = 4
CHUNK = 64  # images through the prefix at once


class Inputs:
    """Batches for `network.trained` on `device`: (n, ...) activations, or pixels where nothing is frozen."""

    def __init__(
        self,
        network: Network,
        images: Images,
        pretrained: Pretrained,
        config: TrialConfig,
        device: torch.device,
    ) -> None:
        self._network, self._images, self._config, self._device = network, images, config, device
        self._policy = POLICIES[config.augment]
        self._mean = torch.tensor(pretrained.backbone.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(pretrained.backbone.std, device=device).view(1, 3, 1, 1)
        self._views = 1 if config.augment == "none" else VIEWS
        self._frozen = len(network.prefix) > 0
        self._kept: dict[tuple[Split, int], Tensor | None] = {}
        self._identity = f"{_digest(pretrained.weights)} {pretrained.backbone} {len(network.prefix)}"
        self._cache: bool | None = None if images.key else False  # whether that pays; None: not known yet
        self.note = "" if self._frozen else "nothing frozen"  # how the prefix is dealt with, and why
        n = len(images.rows["train"])
        # Batch norm cannot train on a single image: such a rest is left out, another one each epoch.
        self.steps = n // config.batch_size + (n % config.batch_size > 1) or 1

    def training(self, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches in the order that `seed` gives, with their labels."""
        labels = torch.from_numpy(self._images.labels["train"])
        view = (epoch - 1) % self._views if self._frozen else seed
        source = self._source("train", view)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for chosen in torch.split(order, self._config.batch_size)[: self.steps]:
            yield source(chosen), labels[chosen].to(self._device)

    def evaluation(self, split: Split) -> Iterator[Tensor]:
        source = self._source(split, -1)
        for chosen in torch.split(torch.arange(len(self._images.rows[split])), CHUNK):
            yield source(chosen)

    def _source(self, split: Split, view: int) -> Callable[[Tensor], Tensor]:
        """Gives the inputs of chosen images of one view; view -1 is the image as it is."""
        rows = self._images.rows[split]
        draws = _draws(len(rows), view) if view >= 0 and self._policy != POLICIES["none"] else None

        def computed(chosen: Tensor) -> Tensor:
            return self._prefix(self._pixels(rows[chosen.numpy()], None if draws is None else draws[chosen]))

        if not self._frozen:
            return computed
        kept = self._kept.get((split, view))
        if kept is None:
            kept = self._kept[split, view] = self._keep(split, view, computed)
        if kept is None:
            return computed
        return lambda chosen: kept[chosen].to(self._device)

    def _keep(self, split: Split, view: int, computed: Callable[[Tensor], Tensor]) -> Tensor | None:
        if self._cache is False:
            return None
        rows = self._images.rows[split]
        identity = self._identified(split, view)
        found = activations.find(identity, len(rows))
        if found is not None:
            self.note = self.note or "cached before"
            return found
        if self._cache is None:
            self._cache, self.note = self._weigh(computed)
        if not self._cache:
            return None
        chunks = torch.split(torch.arange(len(rows)), CHUNK)
        return activations.build(identity, len(rows), lambda: map(computed, chunks))

    def _weigh(self, computed: Callable[[Tensor], Tensor]) -> tuple[bool, str]:
        few = torch.arange(min(8, len(self._images.rows["val"])))
        computed(few)  # the first time is not like the others
        start = time.perf_counter()
        one = computed(few)[0]
        seconds = (time.perf_counter() - start) / len(few)
        images = self._views * len(self._images.rows["train"]) + len(self._images.rows["val"])
        return activations.pays(one.nbytes, images, seconds)

    def _identified(self, split: Split, view: int) -> str:
        rows = hashlib.sha256(self._images.rows[split].tobytes()).hexdigest()[:16]
        augmented = f"{self._policy} view {view}" if view >= 0 else "as it is"
        arithmetic = f"{self._device.type} {precision(self._device)}"
        return f"{self._identity} {self._images.key} {rows} {augmented} {arithmetic}"

    def _pixels(self, rows: npt.NDArray[np.int64], draws: Tensor | None) -> Tensor:
        pixels = torch.from_numpy(self._images.pixels[rows]).to(self._device)
        pixels = pixels.permute(0, 3, 1, 2).float().div_(255)
        if draws is not None:
            pixels = augment(pixels, self._policy, draws)
        return pixels.sub(self._mean).div_(self._std).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _prefix(self, pixels: Tensor) -> Tensor:
        with autocast(self._device):
            return self._network.prefix(pixels)  # type: ignore[no-any-return]


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision where bfloat16 is in the hardware; emulated, it is slower than float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == "bf16")


def precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "f32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "f32"


def _draws(rows: int, view: int) -> Tensor:
    return torch.rand(rows, DRAWS, generator=torch.Generator().manual_seed(view))


@lru_cache
def _digest(weights: Path) -> str:
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
