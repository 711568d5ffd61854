"""A search space: the domain of every `TrialConfig` field, and its draws through Optuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tune_tl.experiment import OF_TRANSFER, TrialConfig
from tune_tl.training.backbones import BACKBONES, Backbone


class Proposal(Protocol):
    """What a space needs of an `optuna.Trial`."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Choice:
    values: tuple[Any, ...]

    def suggest(self, name: str, proposal: Proposal) -> Any:
        if len(self.values) == 1:
            return self.values[0]
        return proposal.suggest_categorical(name, list(self.values))

    def __contains__(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool = False

    def suggest(self, name: str, proposal: Proposal) -> Any:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return proposal.suggest_int(name, self.low, self.high, log=self.log)
        return proposal.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


Domain = Choice | Range


@dataclass(frozen=True)
class Space:
    """The domains of one search and its defaults; immutable and checked."""

    name: str
    path: Path
    domains: Mapping[str, Domain]
    dataset: str | None = None
    trials: int | None = None
    budget_s: float | None = None
    strategy: str = "asha-tpe"
    drop_bad_images: bool = False
    clean: bool = False  # what an audit would leave out is left out
    first: tuple[Mapping[str, Any], ...] = ()  # known-good points, tried before anything is proposed

    @property
    def backbones(self) -> tuple[str, ...]:
        return tuple(self.domains["backbone"].values)  # type: ignore[union-attr]  # checked at load

    @property
    def epochs(self) -> int:
        return int(self.domains["epochs"].values[0])  # type: ignore[union-attr]  # checked at load

    @property
    def seed(self) -> int | None:
        """Every trial's seed; None where the space has trials differ in it."""
        values: tuple[int, ...] = getattr(self.domains["seed"], "values", ())
        return values[0] if len(values) == 1 else None

    def fixed(self, **values: Any) -> Space:
        """The same space with some fields held constant, as `--epochs` and `--seed` do."""
        return replace(self, domains={**self.domains, **{k: Choice((v,)) for k, v in values.items()}})

    def dropping_bad_images(self) -> Space:
        return replace(self, drop_bad_images=True)

    def with_backbones(self, names: Iterable[str]) -> Space:
        kept = tuple(names)
        first = tuple(p for p in self.first if p.get("backbone", kept[0]) in kept)
        return replace(self, domains={**self.domains, "backbone": Choice(kept)}, first=first)

    def suggest(self, proposal: Proposal, stages: Mapping[str, int]) -> TrialConfig:
        """Draw one config; `stages` counts each backbone's stages, the deepest cut there is.

        What has no effect is not drawn, so the sampler never models it: a body learning rate where nothing
        of the body is unfrozen, the width of layers that there are none of, how to transfer where nothing
        is transferred. A network that starts from nothing has one learning rate, `head_lr`.
        """
        values: dict[str, Any] = {}
        for name, domain in self.domains.items():
            if self._matters(name, values):
                values[name] = domain.suggest(name, proposal)
            elif name == "pretrained":
                values[name] = False
        if not values["pretrained"]:
            return TrialConfig(**values | {"unfreeze": "all", "body_lr": values["head_lr"]})
        depth = values["unfreeze"]
        if depth != "all" and depth >= stages[values["backbone"]] - values["drop_stages"]:
            values["unfreeze"] = "all"
        return TrialConfig(**values)

    def point(self, config: TrialConfig) -> dict[str, Any]:
        """What Optuna suggested for a config that `suggest` drew: the inverse of it."""
        values = config.to_dict()
        depths = self.domains["unfreeze"]
        if config.unfreeze == "all" and "all" not in depths:  # was deeper than the backbone
            values["unfreeze"] = depths.high if isinstance(depths, Range) else max(depths.values)
        return {
            name: values[name]
            for name, domain in self.domains.items()
            if self._matters(name, values) and not _constant(domain)
        }

    def sizes(self, backbone: Backbone) -> set[int]:
        """Pixels a side of the images that trials of `backbone` may ask for."""
        drawn = self.domains["image_size"]
        fixed = _constant(drawn)
        sizes: set[int] = set()
        if fixed or not backbone.scratch:
            sizes |= {size or backbone.size for size in drawn.values}  # type: ignore[union-attr]  # checked
        if not fixed and (backbone.scratch or False in self.domains["pretrained"]):
            sizes.add(backbone.size)
        return sizes

    def _matters(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a field is drawn, given the values of those before it."""
        if name == "pretrained":
            known = BACKBONES.get(values["backbone"])
            return known is None or not known.scratch
        if name in OF_TRANSFER and not values["pretrained"]:
            return name == "image_size" and _constant(self.domains[name])
        if name == "body_lr":
            return bool(values["unfreeze"] != 0)
        return name != "head_width" or values["head_layers"] > 1


def _constant(domain: Domain) -> bool:
    return isinstance(domain, Choice) and len(domain.values) == 1
