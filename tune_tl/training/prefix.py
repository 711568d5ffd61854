"""The frozen prefix of a network: what it gives for images, computed, or kept from an earlier pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tune_tl.training import activations
from tune_tl.training.activation_files import View
from tune_tl.training.arithmetic import autocast, precision
from tune_tl.training.backbones import Backbone
from tune_tl.training.pulse import beat

# Images through a frozen network at once. Early layers are large: 8 of them stay in a core's own cache,
# where 64 take half as long again (efficientnet_lite0: 6.5 and 8.9 ms an image in bfloat16, one core).
CHUNK = {"cpu": 8}
GPU_CHUNK = 128

Source = Callable[[Tensor], Tensor]  # from numbers of images, (n,), to a tensor of what is fed for each


def chunk_size(device: torch.device) -> int:
    return CHUNK.get(device.type, GPU_CHUNK)


class Prefix:
    """The frozen stages of a network on `device`; its length is the cut.

    `keep` is whether what the stages give is kept (None: not known yet), and `note` how that was decided,
    in words. A trial that goes on takes both over: measured anew, it might be decided otherwise.
    """

    def __init__(self, stages: nn.Sequential, backbone: Backbone, size: int, device: torch.device) -> None:
        self._stages, self._device = list(stages), device
        self._deepest, self._image_bytes = len(backbone.stages), 3 * size * size
        self._chunk = chunk_size(device)
        self.keep: bool | None = None
        self.note = "" if self._stages else "nothing frozen"

    def __len__(self) -> int:
        return len(self._stages)

    @property
    def arithmetic(self) -> str:
        """What decides the last digits of what it gives."""
        kind, number = self._device.type, precision(self._device)
        return f"{kind} {number} by {self._chunk}, torch {torch.__version__}"

    def computed(self, chosen: Tensor, pixels: Source) -> Tensor:
        """What the last stage gives for the images `chosen`."""
        parts = (self._onward(pixels(few)) for few in torch.split(chosen, self._chunk))
        return torch.cat([part[len(self)] for part in parts])

    def kept(self, view: View, pixels: Source, images: int) -> Tensor | None:
        """What the last stage gives for all images of `view`, (rows, ...), found or made and then kept.

        None if it does not pay for a trial that reads so many `images`, or cannot be kept.
        """
        if self.keep is False:
            return None
        found = activations.cached(view, len(self))
        if found is not None:
            self.note = self.note or "cached before"
            return found
        if self.keep is None:
            self.keep, self.note = self._pays(view, pixels, images)
        if not self.keep:
            return None

        def produce(shard: range, start: int, before: Tensor | None) -> Mapping[int, Tensor]:
            parts: dict[int, list[Tensor]] = {}
            for few in torch.split(torch.arange(shard.start, shard.stop), self._chunk):
                x = pixels(few) if before is None else before[few - shard.start].to(self._device)
                for cut, part in self._onward(x, start).items():
                    parts.setdefault(cut, []).append(part)
            return {cut: torch.cat(few) for cut, few in parts.items()}

        try:
            return activations.build(view, len(self), produce)
        except OSError as error:
            self.keep, self.note = False, f"not cached: {error.strerror or error}"
            return None

    def _pays(self, view: View, pixels: Source, images: int) -> tuple[bool, str]:
        """Whether to keep what the stages give, by the time that a few images take; and why."""
        few = pixels(torch.arange(min(self._chunk, view.rows)))
        self._onward(few)  # the first time is not like the others
        start = self._now()
        kept = self._onward(few)
        seconds = (self._now() - start) / len(few)
        read, of_all = kept[len(self)][0].nbytes, sum(x[0].nbytes for x in kept.values())
        return activations.pays(read, of_all, images, seconds)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @torch.no_grad()
    def _onward(self, x: Tensor, start: int = 0) -> dict[int, Tensor]:
        """From what the cut `start` gives for images to what is kept of them, by cut.

        That is what the last stage gives, and on the way there whatever a trial that unfreezes more
        could start from and is smaller than the image itself.
        """
        beat()
        kept, last = {}, len(self)
        with autocast(self._device):
            for cut, stage in enumerate(self._stages[start:], start + 1):
                x = stage(x)
                if cut == last or (cut < self._deepest and x[0].nbytes < self._image_bytes):
                    kept[cut] = x
        return kept
