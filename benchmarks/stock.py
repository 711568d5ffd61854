"""The stock recipe: Ray Tune, OptunaSearch, ASHA and torchvision's ImageFolder, as their guides teach them.

Sources: Ray's guides "Tune with PyTorch" and "Tune with Optuna", and PyTorch's transfer-learning tutorial
(Resize, CenterCrop and RandomResizedCrop; the head alone or everything). What a competent user leaves at
its default is at its default: one CPU a trial, so that as many trials run as there are cores, each with
the one thread that Ray gives it; no loader workers, which would compete for the same cores. Written to
the recipe's advantage where there was a choice: no checkpoints, which Ray's guide calls optional, Adam in
place of SGD, and a range of learning rates that suits fine-tuning.

It is run as a process of its own and appends a line to `--out` for every epoch that the driver hears of.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

START = time.monotonic()  # before the imports that a user waits for

import torch  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import ASHAScheduler  # noqa: E402
from ray.tune.search.optuna import OptunaSearch  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from tune_tl.training.backbones import BACKBONES  # noqa: E402
from tune_tl.training.library import create, load_weights  # noqa: E402

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
EPOCHS = 10


def loaders(data: Path, batch_size: int, size: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    normalise = transforms.Normalize(MEAN, STD)
    train = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            normalise,
        ]
    )
    val = transforms.Compose(
        [
            transforms.Resize(size * 256 // 224),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            normalise,
        ]
    )
    return (
        DataLoader(ImageFolder(str(data / "train"), train), batch_size=batch_size, shuffle=True),
        DataLoader(ImageFolder(str(data / "val"), val), batch_size=batch_size),
    )


def network(name: str, weights: str, classes: int, finetune: bool) -> nn.Module:
    """The library's model with the same file of weights that tune_tl uses, and a new head."""
    model = create(BACKBONES[name])
    load_weights(model, Path(weights))
    model.requires_grad_(finetune)
    parent, _, last = BACKBONES[name].head.rpartition(".")
    features = model.get_submodule(BACKBONES[name].head).in_features
    setattr(model.get_submodule(parent), last, nn.Linear(features, classes))  # type: ignore[arg-type]
    return model


def train(config: dict[str, Any], data: Path, weights: dict[str, str], size: int) -> None:
    train_loader, val_loader = loaders(data, config["batch_size"], size)
    # Not `.classes`: cloudpickle would take it for `torch.classes`, and fail to send this function.
    classes = len(train_loader.dataset.class_to_idx)  # type: ignore[attr-defined]
    model = network(config["backbone"], weights[config["backbone"]], classes, config["finetune"])
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=config["lr"])
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for images, labels in train_loader:
            optimiser.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimiser.step()
        truth, predictions = map(torch.cat, zip(*_evaluated(model, val_loader), strict=True))
        tune.report({"val_f1": float(f1_score(truth, predictions, average="macro")), "epoch": epoch})


@torch.no_grad()
def _evaluated(model: nn.Module, loader: DataLoader[Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    model.eval()
    for images, labels in loader:
        yield labels, model(images).argmax(dim=1)


def nothing(config: dict[str, Any]) -> None:
    """A trial that costs nothing but what Ray Tune itself does for it."""
    tune.report({"val_f1": config["lr"], "epoch": 1})


class Record(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """A line for every epoch, and one for every end of a trial."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self._append({"trial": trial.trial_id, "epoch": result["epoch"], "val_f1": result["val_f1"]})

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._append({"trial": trial.trial_id, "ended": round(time.monotonic() - START, 3)})

    def _append(self, row: dict[str, Any]) -> None:
        with self._out.open("a") as file:
            file.write(json.dumps({"t": round(time.monotonic() - START, 3), **row}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stock", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file of lines")
    parser.add_argument("--data", type=Path, help="a folder with train/<class>/ and val/<class>/")
    parser.add_argument("--weights", nargs="*", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--null", type=int, metavar="N", help="N trials that do nothing")
    given = parser.parse_args()
    weights = dict(item.split("=", 1) for item in given.weights)
    space = {"lr": tune.loguniform(1e-4, 1e-2)}
    if given.null:
        trainable, search, scheduler = nothing, None, None
    else:
        trainable = partial(train, data=given.data.resolve(), weights=weights, size=given.size)
        search = OptunaSearch(seed=0)
        scheduler = ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=1, reduction_factor=2)
        space |= {
            "backbone": tune.choice(list(weights)),
            "finetune": tune.choice([False, True]),
            "batch_size": tune.choice([16, 32, 64]),
        }
    tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_f1",
            mode="max",
            search_alg=search,
            scheduler=scheduler,
            num_samples=given.null or 1000,  # until it is stopped
        ),
        run_config=tune.RunConfig(
            storage_path=str(given.out.resolve().parent / "ray_results"),
            callbacks=[Record(given.out.resolve())],
        ),
    ).fit()


if __name__ == "__main__":
    main()
