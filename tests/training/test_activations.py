"""Freeze once: a trial that reads its prefix's activations is the trial that computes them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.networks import weights_file
from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig, Unfreeze
from tune_tl.storage.files import cache_dir
from tune_tl.training import activation_files, activations
from tune_tl.training.activation_files import View
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.inputs import VIEWS, Inputs
from tune_tl.training.library import create
from tune_tl.training.model import build, fused
from tune_tl.training.pixels import Preprocessing
from tune_tl.training.prefix import Prefix
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained, local_weights

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
    return TrialConfig("efficientnet_lite0", unfreeze=unfreeze, **chosen | values)


def scores(epochs: Iterator[EpochMetrics]) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.val_loss) for epoch in epochs]


@pytest.mark.parametrize("name, unfreeze", CUTS)
def test_kept_activations_are_the_computed_ones_at_every_cut(
    name: str,
    unfreeze: int,
    keyed: Images,
    own_cache: Path,
    network_files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32, whatever the cost model would say of this cut."""
    for module in ("arithmetic", "prefix"):
        monkeypatch.setattr(f"tune_tl.training.{module}.precision", lambda device: "f32")
    monkeypatch.setattr(activations, "pays", lambda *_: (True, "asked for"))
    backbone = replace(BACKBONES[name], size=96)
    network = build(backbone, weights_file(network_files, BACKBONES[name], create), unfreeze, 3).eval()
    pretrained = Pretrained(backbone, Path(__file__), "cache")  # random weights: any file's digest will do
    few = replace(
        keyed,
        pixels=keyed.pixels.repeat(2, axis=1)[:, :96].repeat(2, axis=2)[:, :, :96],
        rows={split: rows[:5] for split, rows in keyed.rows.items()},
        labels={split: labels[:5] for split, labels in keyed.labels.items()},
    )
    chosen = TrialConfig(name, unfreeze=unfreeze, augment="strong", batch_size=2)
    device = torch.device("cpu")

    def seen(images: Images) -> list[Tensor]:
        inputs = Inputs(network, images, pretrained, chosen, device)
        batches = [*(x for x, _ in inputs.training(2, seed=1)), *inputs.evaluation("val")]
        with torch.no_grad():
            return [network.trained(x) for x in batches]

    computed, kept = seen(replace(few, key="")), seen(few)
    assert list(own_cache.glob("*/*.act"))
    for one, other in zip(computed, kept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unfreeze, augment", [(0, "medium"), (2, "medium"), (2, "strong")])
def test_a_cached_trial_equals_its_uncached_twin(
    unfreeze: Unfreeze,
    augment: str,
    pretrained: Pretrained,
    keyed: Images,
    images: Images,
    own_cache: Path,
) -> None:
    """Mixing included, which `strong` does behind the cut."""
    chosen = config(unfreeze, augment=augment)
    computed = scores(train(chosen, pretrained, images))
    first = scores(train(chosen, pretrained, keyed))
    again = scores(train(chosen, pretrained, keyed))
    assert first == again, "the trial that builds the cache and the one that finds it"
    for (loss, val), (cached_loss, cached_val) in zip(computed, first, strict=True):
        assert cached_loss == pytest.approx(loss, rel=0.02)  # bfloat16 rounds by batches
        assert cached_val == pytest.approx(val, rel=0.02)


def passes(own_cache: Path) -> set[Path]:
    return set(own_cache.iterdir())


def test_augmentation_survives_as_views_and_each_is_kept_once(
    pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    list(train(config(1, epochs=VIEWS + 2), pretrained, keyed))
    assert len(passes(own_cache)) == VIEWS + 1  # and validation as it is
    kept = {path: path.stat().st_mtime_ns for path in own_cache.glob("*/*.act")}
    list(train(config(1, epochs=VIEWS + 2, head_lr=2e-3, batch_size=6, seed=3), pretrained, keyed))
    assert {path: path.stat().st_mtime_ns for path in own_cache.glob("*/*.act")} == kept
    list(train(config(1, epochs=1, augment="none"), pretrained, keyed))
    assert len(passes(own_cache)) == VIEWS + 2, "validation is shared among policies"


def test_another_policy_shares_no_training_activations(
    pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    list(train(config(2, epochs=1), pretrained, keyed))
    before = passes(own_cache)
    list(train(config(2, epochs=1, augment="light"), pretrained, keyed))
    assert len(passes(own_cache) - before) == 1


def test_a_trial_cut_elsewhere_goes_on_from_the_same_pass(
    pretrained: Pretrained, keyed: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(train(config(2, epochs=1), pretrained, keyed))
    before = passes(own_cache)

    def no_pixels(*_: Any) -> Tensor:
        raise AssertionError("an image was looked at again")

    monkeypatch.setattr(Preprocessing, "__call__", no_pixels)
    monkeypatch.setattr(Prefix, "_pays", lambda *_: (True, "asked for"))
    for unfreeze in (3, 1, 0):
        list(train(config(unfreeze, epochs=1), pretrained, keyed))
    assert passes(own_cache) == before


def test_a_trial_that_goes_on_from_a_pass_equals_one_that_starts_at_the_images(
    pretrained: Pretrained, keyed: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = scores(train(config(0, epochs=2), pretrained, keyed))
    shutil.rmtree(own_cache)
    list(train(config(3, epochs=2), pretrained, keyed))
    assert scores(train(config(0, epochs=2), pretrained, keyed)) == direct


def test_other_weights_share_nothing(pretrained: Pretrained, keyed: Images, own_cache: Path) -> None:
    list(train(config(0, epochs=1), pretrained, keyed))
    before = passes(own_cache)
    other = own_cache.parent / "other.pth"
    state = torch.load(pretrained.weights, weights_only=True)
    torch.save({k: v * 1.01 if v.is_floating_point() else v for k, v in state.items()}, other)
    list(train(config(0, epochs=1), replace(pretrained, weights=other), keyed))
    assert len(passes(own_cache)) == 2 * len(before)


def test_nothing_is_kept_where_nothing_is_frozen(
    pretrained: Pretrained, keyed: Images, own_cache: Path
) -> None:
    (epoch,) = train(config("all", epochs=1), pretrained, keyed)
    assert epoch.prefix == "nothing frozen"
    assert not own_cache.exists()


def test_the_cost_model_weighs_reading_against_computing_and_the_room_there_is(own_cache: Path) -> None:
    cheap, why = activations.pays(2_000, 5_000, images=10_000, seconds=0.01)
    assert cheap and why.startswith("cached, 50 MB")
    slow, why = activations.pays(10**7, 10**7, images=100, seconds=0.001)
    assert not slow and "1.00 ms to compute, 10.00 ms to read" in why
    large, why = activations.pays(10**3, 10**6, images=10**9, seconds=1)
    assert not large and "share of disk" in why, "a pass keeps more than one trial reads"


def straight(rows: Tensor, cut: int = 1) -> activations.Produce:
    """A pass that gives `rows` themselves at `cut`, from the images."""

    def produce(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        assert before is None
        return {cut: rows[shard.start : shard.stop]}

    return produce


def test_a_damaged_file_is_no_cache(own_cache: Path) -> None:
    rows, view = torch.arange(12.0).view(4, 3), View("x", 4)
    kept = activations.build(view, 1, straight(rows))
    assert kept is not None and torch.equal(kept, rows)
    (file,) = own_cache.glob("*/*.act")
    os.truncate(file, 20)
    assert activations.cached(view, 1) is None
    again = activations.build(view, 1, straight(rows))
    assert again is not None and torch.equal(again, rows)


def test_a_pass_goes_on_from_the_nearest_cut_before_it(own_cache: Path) -> None:
    """Stages that add 1, 10 and 100: what a cut holds says how it was reached."""
    rows, view, starts = torch.arange(300.0).view(-1, 1), View("x", 300), []

    def produce(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        x = rows[shard.start : shard.stop] if before is None else before
        starts.append(start)
        kept = {}
        for cut in range(start + 1, wanted + 1):
            kept[cut] = x = x + 10.0 ** (cut - 1)
        return kept

    shards = len(view.shards)
    wanted = 2
    assert torch.equal(activations.build(view, 2, produce), rows + 11)  # type: ignore[arg-type]
    assert starts == [0] * shards
    assert torch.equal(activations.cached(view, 1), rows + 1)  # type: ignore[arg-type]
    wanted = 3
    assert torch.equal(activations.build(view, 3, produce), rows + 111)  # type: ignore[arg-type]
    assert starts == [0] * shards + [2] * shards


def _slowly(folder: Path, mark: int) -> activations.Produce:
    """Rows that carry `mark`; leaves a file for each shard taken, and waits in it until told to go on."""

    def produce(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        (folder / f"{mark}-{shard.start}").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        return {1: torch.full((len(shard), 3), float(mark))}

    return produce


def _build(folder: Path, mark: int) -> None:
    activations.build(View("x", 300), 1, _slowly(folder, mark))


def test_two_processes_share_a_pass_and_do_nothing_twice(own_cache: Path, tmp_path: Path) -> None:
    both = [multiprocessing.get_context("spawn").Process(target=_build, args=(tmp_path, m)) for m in (1, 2)]
    for process in both:
        process.start()
    while len(list(tmp_path.glob("[12]-*"))) < 2:  # one shard each
        assert all(process.is_alive() for process in both)
    (tmp_path / "go").touch()
    for process in both:
        process.join()
        assert process.exitcode == 0
    taken = [path.name.split("-") for path in tmp_path.glob("[12]-*")]
    assert {mark for mark, _ in taken} == {"1", "2"}
    assert sorted(int(start) for _, start in taken) == [shard.start for shard in View("x", 300).shards]
    kept = activations.cached(View("x", 300), 1)
    assert kept is not None
    for mark, start in taken:
        assert kept[int(start), 0] == float(mark)


def test_a_pass_that_somebody_is_at_is_not_removed_for_room(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_build, args=(tmp_path, 1))
    process.start()
    while not list(tmp_path.glob("1-*")):
        assert process.is_alive()
    monkeypatch.setattr(activations, "room", lambda used: 0.0)
    activations.trim()
    (tmp_path / "go").touch()
    process.join()
    assert activations.cached(View("x", 300), 1) is not None
    activations.trim()
    assert activations.cached(View("x", 300), 1) is None


def test_what_is_cleared_while_it_is_made_is_no_error(own_cache: Path) -> None:
    view = View("x", 300)

    def cleared(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        shutil.rmtree(view.folder)
        return {1: torch.ones(len(shard), 3)}

    assert activations.build(view, 1, cleared) is None


def test_a_damaged_cut_is_not_gone_on_from(own_cache: Path) -> None:
    rows, view = torch.arange(900.0).view(300, 3), View("x", 300)
    activations.build(view, 1, straight(rows))
    (file,) = own_cache.glob("*/*.act")
    os.truncate(file, 20)
    assert torch.equal(activations.build(view, 2, straight(rows, cut=2)), rows)  # type: ignore[arg-type]


def test_a_killed_process_leaves_its_shards_to_the_others(own_cache: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_build, args=(tmp_path, 1))
    process.start()
    while not list(tmp_path.glob("1-*")):
        assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    assert activations.cached(View("x", 300), 1) is None
    rows = torch.arange(900.0).view(300, 3)
    kept = activations.build(View("x", 300), 1, straight(rows))
    assert kept is not None and torch.equal(kept, rows)


def test_what_was_not_finished_before_the_machine_was_started_is_made_anew(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that a finished shard is in may never have reached the disk."""
    rows, view = torch.ones(300, 3), View("x", 300)
    stops = iter([True, False])

    def interrupted(shard: range, start: int, before: Tensor | None) -> dict[int, Tensor]:
        if not next(stops):
            raise KeyboardInterrupt
        return {1: rows[shard.start : shard.stop] * 0}

    with pytest.raises(KeyboardInterrupt):
        activations.build(view, 1, interrupted)
    for module in (activations, activation_files):
        monkeypatch.setattr(module, "boot", lambda: f"{activation_files.host()}-another")
    assert torch.equal(activations.build(view, 1, straight(rows)), rows)  # type: ignore[arg-type]
    assert not list(own_cache.glob("*/*.part"))


def test_the_passes_not_used_for_longest_leave_when_the_disk_share_is_spent(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = torch.ones(300, 1000)
    views = [View(name, 300) for name in "abc"]
    for age, view in zip((3000, 1000, 2000), views, strict=True):
        activations.build(view, 1, straight(rows))
        then = time.time() - age
        os.utime(view.folder, (then, then))
    mapped = activations.cached(views[0], 1)
    assert mapped is not None
    os.utime(views[0].folder, (0, 0))
    monkeypatch.setattr(activations, "room", lambda used: 2.5 * used / 3)
    activations.trim()
    assert [view.folder.exists() for view in views] == [False, True, True]
    assert torch.equal(mapped, rows), "who reads it already goes on"


def test_a_disk_that_cannot_hold_them_leaves_a_trial_to_compute_them(
    pretrained: Pretrained, keyed: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    (epoch,) = train(config(1, epochs=1), pretrained, keyed)
    assert epoch.prefix == "not cached: No space left on device"
    assert not list(own_cache.glob("*/*.part")), "a full disk is not kept full"


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES.keys())
def test_folding_batch_norms_changes_nothing_but_rounding(backbone: Backbone) -> None:
    found = local_weights(backbone)
    network = build(backbone, found.weights if found else None, 1, 3).eval()
    folded = fused(network.prefix, 96)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network.prefix(x), rtol=1e-3, atol=1e-3)
    norms = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms, "every one could be folded"
