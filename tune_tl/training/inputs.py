"""What the trained part of a network is fed: augmented images through the frozen prefix, or its cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tune_tl.data.splits import Split
from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig
from tune_tl.storage.files import sha256_of
from tune_tl.training.activation_files import View
from tune_tl.training.augment import DRAWS, POLICIES
from tune_tl.training.model import Network
from tune_tl.training.pixels import Preprocessing
from tune_tl.training.prefix import Prefix, Source, chunk_size
from tune_tl.training.pulse import beat
from tune_tl.training.residency import Residency
from tune_tl.training.weights import Pretrained

# Behind a frozen prefix, augmentation is this many views of each image, in turn: few enough to compute
# once and keep, whether or not they are kept. Without a prefix every epoch draws anew.
VIEWS = 4


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
        pretrained = pretrained.for_trial(config)
        self._backbone, self._digest = pretrained.backbone, _digest_of(pretrained)
        self._policy = POLICIES[config.augment]
        size = images.pixels.shape[1]
        self._preprocess = Preprocessing(
            self._backbone, size, device, grayscale=config.grayscale, policy=self._policy
        )
        self.prefix = Prefix(network.prefix, self._backbone, size, device)
        self.prefix.keep = None if images.key else False  # images without a key have no place in a cache
        self._views = 1 if config.augment == "none" else VIEWS
        self._residency = Residency(device)
        self._kept: dict[tuple[Split, int], Tensor] = {}
        self._store: Tensor | None = None
        n = len(images.rows["train"])
        # Batch norm cannot train on a single image: a rest of one is not trained on, another one each epoch.
        self.steps = n // config.batch_size + (n % config.batch_size > 1) or 1

    def training(self, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches in the order that `seed` gives, with their labels."""
        labels = torch.from_numpy(self._images.labels["train"]).to(self._device)
        view = (epoch - 1) % self._views if self.prefix else seed
        source = self._source("train", view)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for chosen in torch.split(order, self._config.batch_size)[: self.steps]:
            beat()
            yield source(chosen), labels[chosen.to(self._device)]

    def evaluation(self, split: Split) -> Iterator[Tensor]:
        """Batches of all images of `split`, in their order and as they are."""
        source = self._source(split, -1)
        for chosen in torch.split(torch.arange(len(self._images.rows[split])), chunk_size(self._device)):
            beat()
            yield source(chosen)

    def _source(self, split: Split, view: int) -> Source:
        """Gives the inputs of chosen images of one view; view -1 is the image as it is."""
        rows = self._images.rows[split]
        augmented = view >= 0 and self._config.augment != "none"
        draws = _draws(len(rows), view) if augmented else None

        def pixels(chosen: Tensor) -> Tensor:
            return self._preprocess(
                self._decoded(rows[chosen.numpy()]), None if draws is None else draws[chosen]
            )

        if not self.prefix:
            return pixels
        kept = self._kept.get((split, view))
        if kept is None:
            read = self._views * len(self._images.rows["train"]) + len(self._images.rows["val"])
            kept = self.prefix.kept(self._view(split, view), pixels, read)
            if kept is None:
                return lambda chosen: self.prefix.computed(chosen, pixels)
            kept = self._kept[split, view] = self._residency.placed(kept)
        return lambda chosen: self._residency.rows(kept, chosen)

    def _view(self, split: Split, view: int) -> View:
        rows = self._images.rows[split]
        which = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
        augmented = f"{replace(self._policy, mix=0.0)} view {view}" if view >= 0 else "as it is"
        if self._config.grayscale:
            augmented += ", grey"
        about = {
            "dataset": self._images.name,
            "images": len(rows),
            "backbone": self._backbone.name,
            "split": split,
            "view": f"{self._config.augment} {view + 1}" if view >= 0 else "as it is",
        }
        # Whatever changes a word of this loses what earlier versions kept.
        what = f"{self._digest} {self._backbone} {self._images.key} {which} {augmented}"
        return View(f"{what} {self.prefix.arithmetic}", len(rows), json.dumps(about))

    def _decoded(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Rows of the store, (n, S, S, 3) bytes on the device; of a copy there if every epoch needs them."""
        store = self._images.pixels
        if self._store is None and not self.prefix and self._residency.has_room(store.nbytes):
            self._store = self._residency.placed(torch.from_numpy(np.array(store)))
        if self._store is not None:
            return self._residency.rows(self._store, torch.from_numpy(rows))
        return self._residency.moved(torch.from_numpy(store[rows]))


def _draws(rows: int, view: int) -> Tensor:
    return torch.rand(rows, DRAWS, generator=torch.Generator().manual_seed(view))


def _digest_of(pretrained: Pretrained) -> str:
    weights = pretrained.weights
    return _digest(weights, weights.stat().st_mtime_ns) if weights else "no weights"


@lru_cache
def _digest(weights: Path, changed: int) -> str:
    return sha256_of(weights)[:16]
