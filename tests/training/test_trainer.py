"""The trainer, on a real network and without Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig, Unfreeze
from tune_tl.training.augment import POLICIES
from tune_tl.training.checkpoint import Checkpoints, load
from tune_tl.training.inference import predict, restore
from tune_tl.training.library import create
from tune_tl.training.metrics import confusion, macro_f1
from tune_tl.training.model import Network, build
from tune_tl.training.trainer import Diverged, train
from tune_tl.training.weights import Pretrained

DEPTHS = [0, 2, "all"]


def config(unfreeze: Unfreeze = 0, **values: Any) -> TrialConfig:
    body_lr = 1e-3 if unfreeze else None
    chosen = {"augment": "none", "batch_size": 18, "epochs": 2, "head_lr": 1e-2, "body_lr": body_lr}
    return TrialConfig("efficientnet_lite0", unfreeze=unfreeze, **chosen | values)


def numbers(epochs: list[EpochMetrics]) -> list[dict[str, Any]]:
    """All but the times, which are never the same."""
    times = {"seconds", "images_per_s"}
    return [{k: v for k, v in epoch.to_dict().items() if k not in times} for epoch in epochs]


def first(images: Images, n: int) -> Images:
    """The same dataset with only `n` images to train on."""
    return replace(
        images,
        rows=images.rows | {"train": images.rows["train"][:n]},
        labels=images.labels | {"train": images.labels["train"][:n]},
    )


@contextmanager
def watched() -> Iterator[list[list[dict[str, Any]]]]:
    """The parameter groups of whatever optimiser steps meanwhile, an entry a step."""
    steps: list[list[dict[str, Any]]] = []
    hook = register_optimizer_step_post_hook(
        lambda optimiser, *_: steps.append([dict(group) for group in optimiser.param_groups])
    )
    try:
        yield steps
    finally:
        hook.remove()


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_it_learns_and_yields_each_epoch_once(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images
) -> None:
    epochs = list(train(config(unfreeze, epochs=5), pretrained, images))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5]
    assert max(epoch.val_f1 for epoch in epochs) > 0.8
    assert epochs[-1].train_loss < epochs[0].train_loss
    for epoch in epochs:
        assert len(epoch.val_f1_per_class) == 3
        assert epoch.val_f1 == pytest.approx(np.mean(epoch.val_f1_per_class))
        assert 0 <= epoch.val_accuracy <= 1
        assert epoch.images_per_s > 36 / epoch.seconds, "validation is no training time"


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_the_same_seed_gives_the_same_numbers_and_another_others(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images
) -> None:
    same = config(unfreeze, augment="strong", epochs=1)
    once = numbers(list(train(same, pretrained, images)))
    torch.rand(5)  # whatever else the process draws
    assert numbers(list(train(same, pretrained, images))) == once
    assert numbers(list(train(replace(same, seed=1), pretrained, images))) != once


def test_the_test_split_is_never_read(pretrained: Pretrained, images: Images) -> None:
    nowhere = np.full(12, 10**9)
    poisoned = replace(images, rows=images.rows | {"test": nowhere}, labels=images.labels | {"test": nowhere})
    wanted = numbers(list(train(config(2), pretrained, images)))
    assert numbers(list(train(config(2), pretrained, poisoned))) == wanted


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_validation_images_teach_nothing(unfreeze: Unfreeze, pretrained: Pretrained, images: Images) -> None:
    others = replace(images, rows=images.rows | {"val": images.rows["test"][::-1].copy()})
    one, other = (list(train(config(unfreeze), pretrained, given)) for given in (images, others))
    assert [epoch.train_loss for epoch in one] == [epoch.train_loss for epoch in other]
    assert one[0].val_loss != other[0].val_loss


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_the_checkpoint_always_holds_the_best_epoch_that_counts_so_far(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    wrong = (images.labels["val"] + 1) % 3  # the more it learns, the worse its F1
    spoilt = replace(images, labels=images.labels | {"val": wrong})
    chosen = config(unfreeze, epochs=4)
    files, seen = Checkpoints(tmp_path, chosen.key), []
    for epoch in train(chosen, pretrained, spoilt, checkpoints=files):
        seen.append(epoch)
        best = max(m.val_f1 for m in seen if m.epoch > 2 or epoch.epoch <= 2)
        assert epoch.best_val_f1 == best
        logits = predict(*restore(chosen, pretrained, spoilt, load(files.best, chosen).tensors), "val")
        assert macro_f1(confusion(wrong, logits.argmax(axis=1), 3)) == best
    assert best < max(m.val_f1 for m in seen)  # of an early epoch, which does not count in the end


def test_restoring_needs_no_luck_with_seeds(pretrained: Pretrained, images: Images, tmp_path: Path) -> None:
    files = Checkpoints(tmp_path, config(2).key)
    list(train(config(2), pretrained, images, checkpoints=files))
    weights = load(files.best, config(2)).tensors
    torch.manual_seed(1)
    once = predict(*restore(config(2), pretrained, images, weights), "val")
    torch.manual_seed(2)
    assert np.array_equal(predict(*restore(config(2), pretrained, images, weights), "val"), once)


def test_a_trial_stopped_early_leaves_its_checkpoints_and_nothing_else(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    chosen = config(2, epochs=50)
    files = Checkpoints(tmp_path, chosen.key)
    running = train(chosen, pretrained, images, checkpoints=files)
    next(running)
    running.close()
    assert set(tmp_path.iterdir()) == {files.best, files.state(1)}
    restore(chosen, pretrained, images, load(files.best, chosen).tensors)


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_a_loss_that_is_no_number_ends_the_trial_naming_the_epoch(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    absurd = config(unfreeze, head_lr=1e38, epochs=20)
    epochs = []
    with pytest.raises(Diverged, match=r"^(validation )?loss became (nan|inf) in epoch \d+$") as ended:
        for epoch in train(absurd, pretrained, images, checkpoints=Checkpoints(tmp_path, absurd.key)):
            epochs.append(epoch)
    assert str(ended.value).endswith(f" in epoch {len(epochs) + 1}")
    assert all(np.isfinite([epoch.train_loss, epoch.val_loss, epoch.val_f1]).all() for epoch in epochs)


def test_weights_that_are_no_numbers_end_the_trial_at_once(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    state = {k: v.float() * float("nan") for k, v in create(pretrained.backbone).state_dict().items()}
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(Diverged, match=r"^loss became nan in epoch 1$"):
        next(train(config(), replace(pretrained, weights=tmp_path / "nan.pth"), images))


@pytest.mark.parametrize("class_weights", [False, True])
def test_class_weights_undo_how_often_a_class_occurs(
    class_weights: bool, pretrained: Pretrained, images: Images
) -> None:
    """Whole-batch steps on features that never change, so that only the loss' weights can matter."""
    plain = replace(pretrained, backbone=replace(pretrained.backbone, dropout=0.0))
    often = np.concatenate([np.arange(36), *[np.flatnonzero(images.labels["train"] == 0)] * 3])
    uneven = replace(
        images,
        rows=images.rows | {"train": images.rows["train"][often]},
        labels=images.labels | {"train": images.labels["train"][often]},
    )
    chosen = config(batch_size=72, epochs=4, class_weights=class_weights)
    even_losses, uneven_losses = (
        [epoch.train_loss for epoch in train(chosen, plain, given)] for given in (images, uneven)
    )
    assert (uneven_losses == pytest.approx(even_losses, rel=0.02)) is class_weights


@pytest.mark.parametrize("unfreeze", DEPTHS)
@pytest.mark.parametrize("n, size", [(8, 2), (17, 16), (9, 9), (9, 64), (3, 2), (2, 32)])
def test_every_batch_size_works_even_if_one_image_is_left_over(
    n: int, size: int, unfreeze: Unfreeze, pretrained: Pretrained, images: Images
) -> None:
    # At 32 pixels a single image has one value a channel in the last stage, of which no norm can be had.
    small = replace(first(images, n), pixels=images.pixels[:, ::2, ::2])
    (epoch,) = train(config(unfreeze, batch_size=size, epochs=1), pretrained, small)
    assert np.isfinite(epoch.train_loss)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_trains(policy: str, pretrained: Pretrained, images: Images) -> None:
    (epoch,) = train(config(1, augment=policy, epochs=1), pretrained, images)
    assert np.isfinite(epoch.train_loss)


def test_label_smoothing_raises_the_training_loss_and_no_other_figure(
    pretrained: Pretrained, images: Images
) -> None:
    hard, soft = (
        list(train(config(epochs=12, label_smoothing=smoothing), pretrained, images))[-1]
        for smoothing in (0.0, 0.2)
    )
    assert soft.train_loss > hard.train_loss + 0.1
    assert soft.val_f1 > 0.8


@pytest.mark.parametrize("epochs, n", [(1, 12), (2, 12), (3, 12), (1, 36), (4, 12), (10, 36)])
def test_the_learning_rate_rises_and_falls_once_over_exactly_the_steps_there_are(
    epochs: int, n: int, pretrained: Pretrained, images: Images
) -> None:
    with watched() as steps:
        assert (
            len(list(train(config(1, batch_size=12, epochs=epochs), pretrained, first(images, n)))) == epochs
        )
    assert len(steps) == epochs * n // 12
    for group in range(len(steps[0])):
        rates = [step[group]["lr"] for step in steps]
        peak = rates.index(max(rates))
        assert rates[: peak + 1] == sorted(rates[: peak + 1])
        assert rates[peak:] == sorted(rates[peak:], reverse=True)
        assert min(rates) > 0
        if len(steps) == 30:
            assert 5 <= peak <= 9, "a quarter of the way"
            assert rates[-1] < 0.05 * rates[peak]


def test_head_and_body_have_their_own_rates(pretrained: Pretrained, images: Images) -> None:
    with watched() as steps:
        list(train(config(2, head_lr=8e-3, body_lr=2e-3, epochs=20), pretrained, first(images, 12)))
    peaks = sorted({max(step[group]["lr"] for step in steps) for group in range(len(steps[0]))})
    assert peaks == [pytest.approx(2e-3, rel=0.02), pytest.approx(8e-3, rel=0.02)]


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_matrices_decay_and_biases_and_norms_do_not(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images
) -> None:
    with watched() as steps:
        list(train(config(unfreeze, weight_decay=0.03, epochs=1), pretrained, images))
    decays = [(p.ndim, group["weight_decay"]) for group in steps[0] for p in group["params"]]
    assert all(decay == (0.03 if ndim > 1 else 0) for ndim, decay in decays)
    assert {ndim for ndim, _ in decays} == ({1, 2, 4} if unfreeze else {1, 2})


@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_what_is_behind_the_cut_is_optimised_and_nothing_else(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images
) -> None:
    with watched() as steps:
        list(train(config(unfreeze, epochs=1), pretrained, images))
    optimised = [p for group in steps[0] for p in group["params"]]
    network = build(pretrained.backbone, None, unfreeze, classes=3)
    wanted = [p for part in (network.suffix, network.head) for p in part.parameters()]
    assert len({id(p) for p in optimised}) == len(optimised)
    assert Counter(p.shape for p in optimised) == Counter(p.shape for p in wanted)


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Memory for `most` images at a time; the sizes of the batches that went through while training."""
    through, trained = [], Network.trained

    def narrow(self: Network, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.training:
            through.append(len(x))
        return trained(self, x)

    monkeypatch.setattr(Network, "trained", narrow)
    return through


@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_that_there_is_no_memory_for_goes_through_in_parts_and_the_note_says_so(
    weighted: bool, pretrained: Pretrained, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(batch_size=12, label_smoothing=0.1, class_weights=weighted)
    if weighted:  # one class four times as often as the others
        labels = np.where(np.arange(36) % 6 < 4, 0, np.arange(36) % 6 - 3)
        images = replace(images, labels=images.labels | {"train": labels})
    whole = list(train(chosen, pretrained, images))
    through = limited(monkeypatch, 3)
    parts = list(train(chosen, pretrained, images))
    assert through == [3] * 24, "12 images in 4 parts, 6 times"
    assert "batches in 4 parts: GPU memory ran out" in parts[0].prefix
    assert [e.train_loss for e in parts] == pytest.approx([e.train_loss for e in whole], rel=0.01)
    assert [e.val_loss for e in parts] == pytest.approx([e.val_loss for e in whole], rel=0.01)


def test_a_trial_that_cannot_be_made_smaller_fails_for_want_of_memory(
    pretrained: Pretrained, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        list(train(config(batch_size=12), pretrained, images))


def test_a_test_split_smaller_than_the_others_is_scored(
    pretrained: Pretrained, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = {"rows": images.rows | {"test": images.rows["test"][:3]}}
    kept = replace(images, key="few", **few, labels=images.labels | {"test": images.labels["test"][:3]})
    chosen = config(1, epochs=1)
    files = Checkpoints(tmp_path, chosen.key)
    list(train(chosen, pretrained, kept, checkpoints=files))
    weights = load(files.best, chosen).tensors
    assert predict(*restore(chosen, pretrained, kept, weights), "test").shape == (3, 3)


@pytest.mark.gpu
def test_a_gpu_short_of_memory_trains_in_parts(pretrained: Pretrained, images: Images) -> None:
    many = replace(
        images,
        pixels=images.pixels.repeat(4, axis=1).repeat(4, axis=2),
        rows=images.rows | {"train": np.resize(images.rows["train"], 512)},
        labels=images.labels | {"train": np.resize(images.labels["train"], 512)},
    )
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(3e9 / total)  # a batch of 512 takes some 10 GB
    try:
        (epoch,) = train(config("all", batch_size=512, epochs=1), pretrained, many, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "GPU memory ran out" in epoch.prefix


@pytest.mark.gpu
@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_it_learns_on_a_gpu_and_its_checkpoint_serves_on_a_cpu(
    unfreeze: Unfreeze, pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    chosen = config(unfreeze, epochs=5, augment="strong")
    files = Checkpoints(tmp_path, chosen.key)
    epochs = list(train(chosen, pretrained, images, device="cuda", checkpoints=files))
    assert max(epoch.val_f1 for epoch in epochs) > 0.8
    logits = predict(*restore(chosen, pretrained, images, load(files.best, chosen).tensors), "val")
    f1 = macro_f1(confusion(images.labels["val"], logits.argmax(axis=1), 3))
    assert f1 == pytest.approx(max(epoch.val_f1 for epoch in epochs), abs=0.2)
