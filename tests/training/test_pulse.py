"""A trial that gets somewhere can be told from one that hangs."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig, Unfreeze
from tune_tl.training import activations
from tune_tl.training.activation_files import View
from tune_tl.training.prefix import CHUNK
from tune_tl.training.pulse import beats
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained


@pytest.mark.parametrize("unfreeze", [0, 2, "all"])
@pytest.mark.parametrize("key", ["", "kept"])
def test_every_batch_and_every_chunk_of_images_is_a_beat(
    unfreeze: Unfreeze,
    key: str,
    pretrained: Pretrained,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = TrialConfig(
        "efficientnet_lite0", unfreeze=unfreeze, body_lr=1e-3, batch_size=6, augment="none", epochs=3
    )
    counts = [beats()]
    for _ in train(config, pretrained, replace(images, key=key)):
        counts.append(beats())
    batches = 36 // 6 + -(-12 // CHUNK["cpu"])
    chunks = 36 // CHUNK["cpu"]
    first, *later = (after - before for before, after in pairwise(counts))
    assert first >= batches + (chunks if unfreeze != "all" else 0)
    assert min(later) >= batches + (chunks if unfreeze != "all" and not key else 0)


def test_who_waits_for_another_process_s_part_of_a_pass_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(activations, "LOOK_S", 0.05)
    view, kept = View("x", 300), []

    def produce(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        return {1: torch.ones(len(shard), 3)}

    def build() -> None:
        kept.append(activations.build(view, 1, produce))

    view.folder.mkdir(parents=True)
    waiting = threading.Thread(target=build)
    with FileLock(view.folder / "1.lock"):  # as somebody who is at the second part holds it
        waiting.start()
        while not list(view.folder.glob("*.part")):
            assert waiting.is_alive()
        before = beats()
        while beats() < before + 5:
            assert waiting.is_alive()
    waiting.join()
    assert torch.equal(kept[0], torch.ones(300, 3))
