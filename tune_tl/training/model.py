"""A backbone cut in two: the frozen prefix, and the suffix that is trained with a new head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tune_tl.experiment import TrialConfig, Unfreeze
from tune_tl.training.backbones import Backbone
from tune_tl.training.library import assemble, create, load_weights
from tune_tl.training.weights import Pretrained

LOADED = 2  # networks that a process keeps loaded for its next trials


class Network(nn.Module):
    """`head(neck(suffix(prefix(x))))` for x of (N, 3, S, S) float, normalised; returns (N, classes).

    The prefix takes no gradient and stays in eval mode, its batch-norm statistics included: what it
    gives for an image never changes, which is what makes it worth caching.
    """

    def __init__(self, prefix: nn.Sequential, suffix: nn.Sequential, head: nn.Sequential) -> None:
        super().__init__()
        self.prefix = prefix.requires_grad_(False).eval()
        self.suffix = suffix
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.prefix(x)
        return self.trained(x)

    def trained(self, x: Tensor) -> Tensor:
        """From what the prefix gave to logits."""
        return self.head(self.suffix(x))  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Network:
        self.training = mode
        self.suffix.train(mode)
        self.head.train(mode)
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training changes; the prefix is the published weights and stays out."""
        return {**self.suffix.state_dict(prefix="suffix."), **self.head.state_dict(prefix="head.")}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave. Raises ValueError, changing nothing, if it does not fit."""
        own = self.trained_state()
        wrong = [
            k for k in {**own, **state} if k not in own or k not in state or own[k].shape != state[k].shape
        ]
        if wrong:
            raise ValueError(f"the checkpoint is of another network: {wrong[0]!r} does not fit")
        self.load_state_dict(state, strict=False)


def build(
    backbone: Backbone,
    weights: Path | None,
    unfreeze: Unfreeze,
    classes: int,
    hidden: Sequence[int] = (),
) -> Network:
    """Cut `backbone`, with the weights in the file `weights`, `unfreeze` stages before its end.

    The head has a layer of each of the widths `hidden`, with ReLU and dropout, before the last one. The
    prefix is shared by all networks that a process builds of these weights; suffix and head are its own,
    and the head's first values follow from torch's seed alone. With `weights=None` all values do, as
    torch's default initialisation gives them. Raises BadInput if the file holds another network.
    """
    whole = _stages(backbone) if weights is None else _loaded(backbone, weights, weights.stat().st_mtime_ns)
    stages, features = len(backbone.stages), whole[1]
    depth = stages if unfreeze == "all" else min(unfreeze, stages)
    # Pooling has nothing to train: with all stages frozen it belongs to the prefix.
    cut = stages - depth if depth else stages + 1
    suffix = copy.deepcopy(whole[0][cut:]).requires_grad_(True)
    head: list[nn.Module] = [nn.Dropout(backbone.dropout)]
    for before, after in pairwise((features, *hidden)):
        head += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(backbone.dropout)]
    head.append(nn.Linear((features, *hidden)[-1], classes))
    return Network(whole[0][:cut], suffix, nn.Sequential(*head))


def network_for(config: TrialConfig, pretrained: Pretrained, classes: int, device: torch.device) -> Network:
    """The network of a trial as it is trained and used on `device`: cut, folded, laid out as it runs fastest.

    Its trained part is as `build` makes it; `load_trained_state` makes it that of a checkpoint. Raises
    BadInput if the file of weights holds another network.
    """
    pretrained = pretrained.for_trial(config)
    backbone, weights = pretrained.backbone, pretrained.weights
    hidden = [config.head_width] * (config.head_layers - 1)
    network = build(backbone, weights, config.unfreeze, classes, hidden)
    if weights and len(network.prefix):
        network.prefix = frozen(backbone, weights)[: len(network.prefix)]
    if device.type == "cpu":
        grouped_in_float32(network)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def gives_maps(backbone: Backbone) -> bool:
    """Whether every stage but the last gives (N, channels, height, width), which `shortened` takes it for."""
    model, x = create(backbone).eval(), torch.zeros(1, 3, backbone.size, backbone.size)
    with torch.no_grad():
        for stage in backbone.stages[:-1]:
            x = assemble(model, stage)(x)
            if x.ndim != 4 or x.shape[2] != x.shape[3]:
                return False
    return True


def frozen(backbone: Backbone, weights: Path) -> nn.Sequential:
    """All stages and the neck of `backbone` for running only: in eval mode, batch norms folded."""
    return _folded(backbone, weights, weights.stat().st_mtime_ns)


@lru_cache(maxsize=LOADED)
def _loaded(backbone: Backbone, weights: Path, changed: int) -> tuple[nn.Sequential, int]:
    return _stages(backbone, weights)


@lru_cache(maxsize=LOADED)
def _folded(backbone: Backbone, weights: Path, changed: int) -> nn.Sequential:
    stages = fused(_loaded(backbone, weights, changed)[0], backbone.size)
    return stages.requires_grad_(False).eval()


def _stages(backbone: Backbone, weights: Path | None = None) -> tuple[nn.Sequential, int]:
    """The stages with the neck as the last of them, and the number of features that the head takes."""
    with torch.random.fork_rng(devices=[]):  # values that are overwritten must not move the head's
        model = create(backbone)
    if weights is not None:
        load_weights(model, weights)
    whole = nn.Sequential(*(assemble(model, stage) for stage in (*backbone.stages, backbone.neck)))
    with torch.no_grad():
        features = whole.eval()(torch.zeros(1, 3, backbone.size, backbone.size)).shape[1]
    return whole, features


def grouped_in_float32(network: Network) -> Network:
    """Let grouped convolutions of the trained part compute in float32 where the rest does in bfloat16.

    On CPUs their bfloat16 gradient is slower than all the others save: the last three stages of
    efficientnet_lite0 trained at 34 images/s in float32, 15 in bfloat16 and 58 mixed like this (one core
    with AMX, torch 2.15, in one run).
    """
    for module in network.suffix.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = partial(_in_float32, module.forward)  # type: ignore[method-assign]
    return network


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())


def fused(prefix: nn.Sequential, size: int) -> nn.Sequential:
    """`prefix`, in eval mode, with each batch norm folded into the convolution before it.

    The fold goes by the order in which a network registers its layers, so the result is compared with
    the original on random pixels, and the original returned if they differ.
    """
    prefix.eval()
    if not any(isinstance(m, nn.BatchNorm2d) for m in prefix.modules()):
        return prefix
    folded = copy.deepcopy(prefix)
    _fold(folded)
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = torch.allclose(folded(x), prefix(x), rtol=1e-3, atol=1e-3)
    return folded if same else prefix


def _fold(module: nn.Module) -> None:
    before: tuple[str, nn.Module] = ("", module)
    for name, child in list(module.named_children()):
        if (
            isinstance(child, nn.BatchNorm2d)
            and isinstance(before[1], nn.Conv2d)
            and before[1].out_channels == child.num_features
        ):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's norms carry the activation that follows them.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold(child)
        before = (name, child)
