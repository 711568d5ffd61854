"""What the trained part of a network is fed: augmented images through the frozen prefix, or its cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tune_tl.data.layout import Split
from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig
from tune_tl.storage.files import sha256_of
from tune_tl.training import activations
from tune_tl.training.activation_files import View
from tune_tl.training.arithmetic import autocast, precision
from tune_tl.training.augment import DRAWS, POLICIES, augment, grey
from tune_tl.training.model import Network
from tune_tl.training.pulse import beat
from tune_tl.training.weights import Pretrained

# Behind a frozen prefix, augmentation is this many views of each image, in turn: few enough to compute
# once and keep, whether or not they are kept. Without a prefix every epoch draws anew.
VIEWS = 4
# Images through the prefix at once. Early layers are large: 8 of them stay in a core's own cache, where
# 64 take half as long again (efficientnet_lite0: 6.5 and 8.9 ms an image in bfloat16, one core).
CHUNK = {"cpu": 8}
GPU_CHUNK = 128
GPU_SHARE = 0.25  # of the free memory of a GPU, for what is kept there to be gathered from


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
        self._images, self._config, self._device = images, config, device
        self._backbone = pretrained.backbone
        self._stages = list(network.prefix)
        self._policy = POLICIES[config.augment]
        # For a line of pixels, channel after channel: a line at a time is quick, three channels are not.
        width = images.pixels.shape[2]
        self._mean, self._std = (
            torch.tensor(values, device=device).repeat(width)
            for values in (pretrained.backbone.mean, pretrained.backbone.std)
        )
        self._views = 1 if config.augment == "none" else VIEWS
        self._chunk = CHUNK.get(device.type, GPU_CHUNK)
        # Bytes of the GPU's memory that are left for what is gathered from.
        cuda = device.type == "cuda"
        self._room = GPU_SHARE * torch.cuda.mem_get_info(device)[0] if cuda else 0.0
        self._kept: dict[tuple[Split, int], Tensor | None] = {}
        self._store: Tensor | None = None
        weights = pretrained.weights
        digest = _digest(weights, weights.stat().st_mtime_ns) if weights else "no weights"
        self._identity = f"{digest} {pretrained.backbone}"
        # Whether to keep what the prefix gives (None: not known yet), and how that was decided, in words.
        # A trial that goes on takes both over: measured anew, it might be decided otherwise.
        self.cache: bool | None = None if images.key else False
        self.note = "" if self._stages else "nothing frozen"
        n = len(images.rows["train"])
        # Batch norm cannot train on a single image: such a rest is left out, another one each epoch.
        self.steps = n // config.batch_size + (n % config.batch_size > 1) or 1

    def training(self, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches in the order that `seed` gives, with their labels."""
        labels = torch.from_numpy(self._images.labels["train"]).to(self._device)
        view = (epoch - 1) % self._views if self._stages else seed
        source = self._source("train", view)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for chosen in torch.split(order, self._config.batch_size)[: self.steps]:
            beat()
            yield source(chosen), labels[chosen.to(self._device)]

    def evaluation(self, split: Split) -> Iterator[Tensor]:
        source = self._source(split, -1)
        for chosen in torch.split(torch.arange(len(self._images.rows[split])), self._chunk):
            beat()
            yield source(chosen)

    def _source(self, split: Split, view: int) -> Callable[[Tensor], Tensor]:
        """Gives the inputs of chosen images of one view; view -1 is the image as it is."""
        rows = self._images.rows[split]
        draws = _draws(len(rows), view) if view >= 0 and self._config.augment != "none" else None

        def pixels(chosen: Tensor) -> Tensor:
            return self._pixels(rows[chosen.numpy()], None if draws is None else draws[chosen])

        def computed(chosen: Tensor) -> Tensor:
            last = len(self._stages)
            return torch.cat([self._onward(pixels(few), 0)[last] for few in torch.split(chosen, self._chunk)])

        if not self._stages:
            return pixels
        kept = self._kept.get((split, view))
        if kept is None:
            kept = self._kept[split, view] = self._keep(split, view, pixels)
        if kept is None:
            return computed
        return lambda chosen: _rows(kept, chosen, self._device)

    def _keep(self, split: Split, view: int, pixels: Callable[[Tensor], Tensor]) -> Tensor | None:
        if self.cache is False:
            return None
        way, cut = self._view(split, view), len(self._stages)
        found = activations.find(way, cut)
        if found is not None:
            self.note = self.note or "cached before"
            return self._resident(found)
        if self.cache is None:
            self.cache, self.note = self._weigh(split, pixels)
        if not self.cache:
            return None

        def produce(shard: range, start: int, before: Tensor | None) -> Mapping[int, Tensor]:
            parts: dict[int, list[Tensor]] = {}
            for few in torch.split(torch.arange(shard.start, shard.stop), self._chunk):
                x = pixels(few) if before is None else before[few - shard.start].to(self._device)
                for at, kept in self._onward(x, start).items():
                    parts.setdefault(at, []).append(kept)
            return {at: torch.cat(kept) for at, kept in parts.items()}

        try:
            made = activations.build(way, cut, produce)
        except OSError as error:
            self.cache, self.note = False, f"not cached: {error.strerror or error}"
            return None
        return None if made is None else self._resident(made)

    def _weigh(self, split: Split, pixels: Callable[[Tensor], Tensor]) -> tuple[bool, str]:
        few = pixels(torch.arange(min(self._chunk, len(self._images.rows[split]))))
        self._onward(few, 0)  # the first time is not like the others
        start = self._now()
        kept = self._onward(few, 0)
        seconds = (self._now() - start) / len(few)
        read, of_all = kept[len(self._stages)][0].nbytes, sum(x[0].nbytes for x in kept.values())
        images = self._views * len(self._images.rows["train"]) + len(self._images.rows["val"])
        return activations.pays(read, of_all, images, seconds)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _resident(self, kept: Tensor) -> Tensor:
        """`kept` on the GPU if there is room for it in what is set aside, else where it is."""
        if kept.nbytes > self._room:
            return kept
        self._room -= kept.nbytes
        return kept.to(self._device)

    def _view(self, split: Split, view: int) -> View:
        rows = self._images.rows[split]
        which = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
        augmented = f"{replace(self._policy, mix=0.0)} view {view}" if view >= 0 else "as it is"
        if self._config.grayscale:
            augmented += ", grey"
        arithmetic = (
            f"{self._device.type} {precision(self._device)} by {self._chunk}, torch {torch.__version__}"
        )
        about = {
            "dataset": self._images.name,
            "images": len(rows),
            "backbone": self._backbone.name,
            "split": split,
            "view": f"{self._config.augment} {view + 1}" if view >= 0 else "as it is",
        }
        identity = f"{self._identity} {self._images.key} {which} {augmented} {arithmetic}"
        return View(identity, len(rows), json.dumps(about))

    def _pixels(self, rows: npt.NDArray[np.int64], draws: Tensor | None) -> Tensor:
        pixels = self._decoded(rows).float().div_(255).permute(0, 3, 1, 2)
        if self._config.grayscale:
            pixels = grey(pixels).expand_as(pixels).contiguous(memory_format=torch.channels_last)
        if draws is not None:
            pixels = augment(pixels, self._policy, draws)
        lines = pixels.permute(0, 2, 3, 1).flatten(2)  # the same memory, as is what comes back
        lines.sub_(self._mean).div_(self._std)
        return lines.view(len(lines), lines.shape[1], -1, 3).permute(0, 3, 1, 2)

    def _decoded(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Rows of the store, (n, S, S, 3) bytes on the device; of a copy there if every epoch needs them."""
        store = self._images.pixels
        if self._store is None and not self._stages and store.nbytes <= self._room:
            self._store = self._resident(torch.from_numpy(np.array(store)))
        if self._store is not None:
            return _rows(self._store, torch.from_numpy(rows), self._device)
        return _moved(torch.from_numpy(store[rows]), self._device)

    @torch.no_grad()
    def _onward(self, x: Tensor, start: int) -> dict[int, Tensor]:
        """From what the cut `start` gives for images to what is kept of them, by cut.

        That is what the last stage gives, and on the way there whatever a trial that unfreezes more
        could start from and is smaller than the image itself.
        """
        beat()
        kept, last = {}, len(self._stages)
        image = self._images.pixels[0].nbytes
        with autocast(self._device):
            for cut, stage in enumerate(self._stages[start:], start + 1):
                x = stage(x)
                if cut == last or (cut < len(self._backbone.stages) and x[0].nbytes < image):
                    kept[cut] = x
        return kept


def _rows(kept: Tensor, chosen: Tensor, device: torch.device) -> Tensor:
    return _moved(kept[chosen.to(kept.device)], device)


def _moved(rows: Tensor, device: torch.device) -> Tensor:
    """`rows` on `device`; to a GPU through pinned memory, so that nobody waits."""
    if device.type == "cuda" and not rows.is_cuda:
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def _draws(rows: int, view: int) -> Tensor:
    return torch.rand(rows, DRAWS, generator=torch.Generator().manual_seed(view))


@lru_cache
def _digest(weights: Path, changed: int) -> str:
    return sha256_of(weights)[:16]
