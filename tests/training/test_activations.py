"""Freeze once: a trial that reads its prefix's activations is the trial that computes them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tune_tl.data.catalog import cache_dir
from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig, Unfreeze
from tune_tl.training import activations
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.inputs import VIEWS, Inputs
from tune_tl.training.model import build, fused
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained, find

CUTS = [(name, depth) for name, b in BACKBONES.items() for depth in range(len(b.stages))]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_dir() / "activations"


@pytest.fixture
def keyed(images: Images) -> Images:
    return replace(images, key="textures")


def config(unfreeze: Unfreeze, **values: Any) -> TrialConfig:
    body_lr = 1e-3 if unfreeze else None
    chosen = {"augment": "medium", "batch_size": 12, "epochs": 6, "head_lr": 1e-2, "body_lr": body_lr}
    return TrialConfig("efficientnet_lite0", unfreeze, **chosen | values)


def scores(epochs: Iterator[EpochMetrics]) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.val_loss) for epoch in epochs]


@pytest.mark.parametrize("name, unfreeze", CUTS)
def test_kept_activations_are_the_computed_ones_at_every_cut(
    name: str, unfreeze: int, keyed: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, whatever the cost model would say of this cut."""
    monkeypatch.setattr("tune_tl.training.inputs.precision", lambda device: "f32")
    monkeypatch.setattr(activations, "pays", lambda *_: (True, "asked for"))
    backbone = replace(BACKBONES[name], size=96)
    network = build(backbone, None, unfreeze, 3).eval()
    pretrained = Pretrained(backbone, Path(__file__), "cache")  # random weights: any file's digest will do
    few = replace(
        keyed,
        pixels=keyed.pixels.repeat(2, axis=1)[:, :96].repeat(2, axis=2)[:, :, :96],
        rows={split: rows[:5] for split, rows in keyed.rows.items()},
        labels={split: labels[:5] for split, labels in keyed.labels.items()},
    )
    chosen = TrialConfig(name, unfreeze, augment="strong", batch_size=2)
    device = torch.device("cpu")

    def seen(images: Images) -> list[Tensor]:
        inputs = Inputs(network, images, pretrained, chosen, device)
        batches = [*(x for x, _ in inputs.training(2, seed=1)), *inputs.evaluation("val")]
        with torch.no_grad():
            return [network.trained(x) for x in batches]

    computed, kept = seen(replace(few, key="")), seen(few)
    assert list(own_cache.glob("*.act"))
    for one, other in zip(computed, kept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_a_cached_trial_equals_its_uncached_twin(
    unfreeze: Unfreeze, pretrained: Pretrained, keyed: Images, images: Images, own_cache: Path
) -> None:
    computed = scores(train(config(unfreeze), pretrained, images))
    first = scores(train(config(unfreeze), pretrained, keyed))
    again = scores(train(config(unfreeze), pretrained, keyed))
    assert first == again, "the trial that builds the cache and the one that finds it"
    for (loss, val), (cached_loss, cached_val) in zip(computed, first, strict=True):
        assert cached_loss == pytest.approx(loss, rel=0.02)  # bfloat16 rounds by batches
        assert cached_val == pytest.approx(val, rel=0.02)


def test_augmentation_survives_as_views_and_each_is_kept_once(
    pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    list(train(config(1, epochs=VIEWS + 2), pretrained, keyed))
    assert len(list(own_cache.glob("*.act"))) == VIEWS + 1  # and validation as it is
    list(train(config(1, epochs=VIEWS + 2, head_lr=2e-3, batch_size=6, seed=3), pretrained, keyed))
    assert len(list(own_cache.glob("*.act"))) == VIEWS + 1, "whatever else a trial with this cut tries"
    list(train(config(1, epochs=1, augment="none"), pretrained, keyed))
    assert len(list(own_cache.glob("*.act"))) == VIEWS + 2, "validation is shared among policies"


@pytest.mark.parametrize("change", [{"augment": "light"}, {"unfreeze": 3}])
def test_another_policy_or_cut_shares_no_training_activations(
    change: dict[str, Any], pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    list(train(config(2, epochs=1), pretrained, keyed))
    before = set(own_cache.glob("*.act"))
    list(train(replace(config(2, epochs=1), **change), pretrained, keyed))
    assert set(own_cache.glob("*.act")) - before


def test_other_weights_share_nothing(pretrained: Pretrained, keyed: Images, own_cache: Path) -> None:
    list(train(config(0, epochs=1), pretrained, keyed))
    before = len(list(own_cache.glob("*.act")))
    other = own_cache.parent / "other.pth"
    state = torch.load(pretrained.weights, weights_only=True)
    torch.save({k: v * 1.01 if v.is_floating_point() else v for k, v in state.items()}, other)
    list(train(config(0, epochs=1), replace(pretrained, weights=other), keyed))
    assert len(list(own_cache.glob("*.act"))) == 2 * before


def test_nothing_is_kept_where_nothing_is_frozen(
    pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    (epoch,) = train(config("all", epochs=1), pretrained, keyed)
    assert epoch.prefix == "nothing frozen"
    assert not own_cache.exists()


def test_the_cost_model_weighs_reading_against_computing_and_the_room_there_is(own_cache: Path) -> None:
    cheap, why = activations.pays(bytes_an_image=2_000, images=10_000, seconds_an_image=0.01)
    assert cheap and why.startswith("cached, 20 MB")
    slow, why = activations.pays(bytes_an_image=10**7, images=100, seconds_an_image=0.001)
    assert not slow and "1.00 ms to compute, 10.00 ms to read" in why
    large, why = activations.pays(bytes_an_image=10**6, images=10**9, seconds_an_image=1)
    assert not large and "share of" in why


def test_a_damaged_file_is_no_cache(own_cache: Path) -> None:
    rows = torch.arange(12.0).view(4, 3)
    assert torch.equal(activations.build("x", 4, lambda: rows.split(2)), rows)  # type: ignore[arg-type]
    (file,) = own_cache.glob("*.act")
    os.truncate(file, 20)
    assert activations.find("x", 4) is None
    assert torch.equal(activations.build("x", 4, lambda: rows.split(3)), rows)  # type: ignore[arg-type]


def _endless() -> Iterator[Tensor]:
    while True:
        yield torch.zeros(2, 3)


def test_a_killed_build_leaves_nothing_and_a_running_one_is_not_waited_for(own_cache: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=activations.build, args=("x", 4, _endless))
    process.start()
    try:
        while not list(own_cache.glob("*.part*")):
            assert process.is_alive()
        assert activations.build("x", 4, lambda: [torch.ones(4, 3)]) is None, "its builder is at it"
    finally:
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
    assert activations.find("x", 4) is None
    assert activations.build("x", 4, lambda: [torch.ones(4, 3)]) is not None


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES.keys())
def test_folding_batch_norms_changes_nothing_but_rounding(backbone: Backbone) -> None:
    found = find(backbone)
    network = build(backbone, found.weights if found else None, 1, 3).eval()
    folded = fused(network.prefix, 96)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network.prefix(x), rtol=1e-3, atol=1e-3)
    norms = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms, "every one could be folded"
