"""Networks that start from nothing, heads of several layers, backbones cut short, and grey images."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, Transfer, TrialConfig
from tune_tl.training.augment import grey
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.checkpoint import Checkpoints, load
from tune_tl.training.inference import predict, restore
from tune_tl.training.inputs import Inputs
from tune_tl.training.library import create
from tune_tl.training.model import build
from tune_tl.training.scratch import small_resnet
from tune_tl.training.trainer import PASSES, train
from tune_tl.training.weights import Pretrained, local_weights

SCRATCH = [name for name, backbone in BACKBONES.items() if backbone.scratch]
NEW = {"unfreeze": "all", "head_lr": 3e-3, "body_lr": 3e-3, "augment": "light", "batch_size": 12, "epochs": 3}


def network(name: str) -> Pretrained:
    found = local_weights(BACKBONES[name])
    assert found
    assert found.weights is None
    return found


def scores(config: TrialConfig, pretrained: Pretrained, images: Images) -> list[EpochMetrics]:
    """The metrics less the times."""
    return [
        dataclasses.replace(m, seconds=0.0, images_per_s=0.0, prefix="")
        for m in train(config, pretrained, images)
    ]


def test_the_tanks_network_is_the_one_described() -> None:
    model = create(BACKBONES["tank_cnn"])
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, *m.kernel_size) for m in convolutions] == [
        (1, 8, 3, 3), (8, 16, 3, 3), (16, 32, 3, 3), (32, 64, 3, 3),
    ]  # fmt: skip
    assert [m.kernel_size for m in model.modules() if isinstance(m, nn.MaxPool2d)] == [2, 2, 3, 3]
    last = nn.Sequential(*list(model)[:4])(torch.rand(5, 3, 40, 40))
    assert last.shape == (5, 64, 1, 1)  # the embedding, without averaging anything


def test_the_scenes_network_is_residual_blocks_that_halve() -> None:
    model = small_resnet()
    sides = [32, 16, 8, 4]
    x = torch.rand(2, 3, 32, 32)
    for stage, side in zip(list(model)[:4], sides, strict=True):
        x = stage(x)
        assert x.shape[-1] == side
    block = model[1]
    assert isinstance(block.conv1, nn.Conv2d)
    assert isinstance(block.conv2, nn.Conv2d)
    nn.init.zeros_(block.bn2.weight)  # then the convolutions add nothing to the shortcut
    y = model[0](torch.rand(2, 3, 32, 32))
    assert torch.allclose(block.eval()(y), block.shortcut(y).relu())


@pytest.mark.parametrize("name", SCRATCH)
def test_a_network_that_starts_from_nothing_learns(name: str, images: Images) -> None:
    config = TrialConfig(name, pretrained=False, **NEW)
    assert config.transfer is Transfer.SCRATCH
    epochs = scores(config, network(name), images)
    assert [m.epoch for m in epochs] == [1, 2, 3]
    assert epochs[-1].train_loss < 0.8 * epochs[0].train_loss
    assert epochs == scores(config, network(name), images)
    other = dataclasses.replace(config, seed=1)
    assert epochs[0].train_loss != scores(other, network(name), images)[0].train_loss


def test_an_epoch_from_nothing_goes_over_the_images_several_times(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    training = Inputs.training

    def watched(self: Inputs, epoch: int, seed: int):  # type: ignore[no-untyped-def]
        seen.append(seed)
        return training(self, epoch, seed)

    monkeypatch.setattr(Inputs, "training", watched)
    config = TrialConfig("tank_cnn", pretrained=False, **NEW | {"epochs": 2})
    (_, last) = train(config, network("tank_cnn"), images)
    assert len(set(seen)) == 2 * PASSES  # each with its own draws
    assert f"{PASSES} passes an epoch" in last.prefix


def test_a_known_network_can_start_from_nothing_too(pretrained: Pretrained, images: Images) -> None:
    new = TrialConfig("efficientnet_lite0", pretrained=False, **NEW | {"epochs": 1})
    kept = dataclasses.replace(new, pretrained=True)
    without, with_ = scores(new, pretrained, images)[0], scores(kept, pretrained, images)[0]
    assert with_.val_f1 > without.val_f1
    assert without == scores(new, Pretrained(pretrained.backbone, None, "none"), images)[0]


def test_training_from_nothing_goes_on_from_a_checkpoint_to_the_same_numbers(
    images: Images, tmp_path: Path
) -> None:
    config = TrialConfig("small_resnet", pretrained=False, **NEW)
    whole = scores(config, network("small_resnet"), images)
    files = Checkpoints(tmp_path, config.key)
    list(islice(train(config, network("small_resnet"), images, checkpoints=files), 2))
    rest = list(train(config, network("small_resnet"), images, checkpoints=files))
    assert [m.epoch for m in rest] == [2, 3]
    assert (rest[-1].train_loss, rest[-1].val_loss) == (whole[-1].train_loss, whole[-1].val_loss)


@pytest.mark.parametrize("unfreeze", [0, 1, "all"])
@pytest.mark.parametrize("drop", [1, 3])
def test_a_backbone_cut_short_is_its_own_first_stages_averaged(
    drop: int, unfreeze: int | str, pretrained: Pretrained
) -> None:
    backbone = pretrained.backbone.shortened(drop)
    short = build(backbone, pretrained.weights, unfreeze, 3).eval()  # type: ignore[arg-type]
    whole = build(pretrained.backbone, pretrained.weights, 0, 3).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = short.suffix(short.prefix(x))
        wanted = whole.prefix[: len(pretrained.backbone.stages) - drop](x).mean(dim=(2, 3))
    assert torch.allclose(features, wanted, atol=1e-5)
    assert short.head[-1].in_features == wanted.shape[1]


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "tank_cnn"])
def test_every_kind_of_network_can_be_cut_short(name: str) -> None:
    backbone = BACKBONES[name]
    for drop in (1, len(backbone.stages) - 1):
        made = build(backbone.shortened(drop), None, "all", 3).eval()
        with torch.no_grad():
            assert made(torch.rand(2, 3, backbone.size, backbone.size)).shape == (2, 3)


def test_a_head_has_the_layers_that_were_asked_for(pretrained: Pretrained) -> None:
    head = build(pretrained.backbone, pretrained.weights, 0, 3, hidden=[32, 32]).head
    linear = [m for m in head if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(1280, 32), (32, 32), (32, 3)]
    kinds = [type(m) for m in head]
    assert kinds == [nn.Dropout, *[nn.Linear, nn.ReLU, nn.Dropout] * 2, nn.Linear]


@pytest.mark.parametrize(
    "fields",
    [
        {"drop_stages": 2, "unfreeze": 1, "body_lr": 1e-3},
        {"drop_stages": 1, "head_layers": 3, "head_width": 32},
        {"grayscale": True, "unfreeze": 2, "body_lr": 1e-3},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_kept_activations_are_those_that_would_be_computed_and_weights_come_back(
    fields: dict[str, object], pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    config = TrialConfig("efficientnet_lite0", augment="light", batch_size=12, epochs=2, **fields)  # type: ignore[arg-type]
    kept = dataclasses.replace(images, key="scratch")
    files = Checkpoints(tmp_path, config.key)
    cached = list(train(config, pretrained, kept, checkpoints=files))
    assert "cached" in cached[0].prefix
    computed = scores(config, pretrained, images)
    assert [m.val_f1 for m in cached] == [m.val_f1 for m in computed]
    assert [m.train_loss for m in cached] == pytest.approx([m.train_loss for m in computed], rel=1e-2)
    best = load(files.best, config)
    again, inputs = restore(config, pretrained, images, best.tensors)
    predictions = predict(again, inputs, "val").argmax(axis=1)
    assert (predictions == images.labels["val"]).mean() == pytest.approx(best.metrics.val_accuracy)


def test_grey_images_have_no_colour_left(pretrained: Pretrained, images: Images) -> None:
    config = TrialConfig("efficientnet_lite0", grayscale=True, unfreeze="all", body_lr=1e-3)
    fresh = build(pretrained.backbone, pretrained.weights, "all", 3).trained_state()
    _, inputs = restore(config, pretrained, images, fresh)
    rows = images.rows["test"]
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (pretrained.backbone.mean, pretrained.backbone.std)
    )
    seen = torch.cat(list(inputs.evaluation("test"))) * std + mean
    red, green, blue = torch.from_numpy(images.pixels[rows]).movedim(3, 0) / 255
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (red - blue).abs().max() > 0.3
    for channel in seen.unbind(dim=1):
        assert torch.allclose(channel, luma, atol=1e-5)
    assert torch.allclose(grey(seen)[:, 0], luma, atol=1e-5)
