"""Every registered backbone, cut at every depth."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.networks import batch, weights_file, woken
from tune_tl.experiment import Unfreeze
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.library import assemble
from tune_tl.training.model import Network, build
from tune_tl.training.weights import Pretrained

CLASSES = 3
CUTS = [
    (backbone, depth) for backbone in BACKBONES.values() for depth in (*range(len(backbone.stages)), "all")
]
LITE0 = BACKBONES["efficientnet_lite0"]


def built(backbone: Backbone, unfreeze: Unfreeze, classes: int = CLASSES, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(backbone, None, unfreeze, classes)


@pytest.fixture(scope="module", params=CUTS, ids=lambda cut: f"{cut[0].name}-{cut[1]}")
def once(
    request: pytest.FixtureRequest, network_files: Path
) -> tuple[Backbone, Unfreeze, Network, dict[str, Tensor]]:
    backbone, unfreeze = request.param
    weights = weights_file(network_files, backbone, woken)
    torch.manual_seed(0)
    network = build(backbone, weights, unfreeze, CLASSES)
    return backbone, unfreeze, network, copy(network.trained_state())


@pytest.fixture
def backbone(once: tuple[Backbone, Unfreeze, Network, dict[str, Tensor]]) -> Backbone:
    return once[0]


@pytest.fixture
def unfreeze(once: tuple[Backbone, Unfreeze, Network, dict[str, Tensor]]) -> Unfreeze:
    return once[1]


@pytest.fixture
def network(once: tuple[Backbone, Unfreeze, Network, dict[str, Tensor]]) -> Iterator[Network]:
    """In eval mode, as it was before any test trained it."""
    yield once[2].eval()
    once[2].load_trained_state(once[3])
    once[2].zero_grad()


def copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


SEEN: dict[str, Tensor] = {}  # the first cut's logits, which all others must give


@torch.no_grad()
def test_the_cut_changes_no_logit(network: Network, backbone: Backbone) -> None:
    given = network(batch(backbone))
    assert given.shape == (2, CLASSES)
    assert not torch.equal(given[0], given[1])
    assert torch.equal(SEEN.setdefault(backbone.name, given), given)


def test_the_last_stages_are_the_suffix(network: Network, backbone: Backbone, unfreeze: Unfreeze) -> None:
    shapes = [[p.shape for p in assemble(woken(backbone), s).parameters()] for s in backbone.stages]
    cut = 0 if unfreeze == "all" else len(shapes) - unfreeze
    assert [p.shape for p in network.prefix.parameters()] == [*chain(*shapes[:cut])]
    assert [p.shape for p in network.suffix.parameters()] == [*chain(*shapes[cut:])]


def test_training_reaches_all_of_suffix_and_head_and_nothing_of_the_prefix(
    network: Network, backbone: Backbone
) -> None:
    prefix, suffix = copy(network.prefix.state_dict()), copy(network.suffix.state_dict())
    network.train()
    F.cross_entropy(network(batch(backbone, seed=2)), torch.tensor([0, 1])).backward()
    assert all(not p.requires_grad and p.grad is None for p in network.prefix.parameters())
    assert not any(module.training for module in network.prefix.modules())
    assert same(network.prefix.state_dict(), prefix)
    for part in (network.suffix, network.head):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert all(module.training for module in part.modules())
    after = network.suffix.state_dict()
    assert all(not torch.equal(after[k], v) for k, v in suffix.items() if "running_" in k)


@torch.no_grad()
def test_the_trained_tensors_alone_bring_a_trained_network_back(network: Network, backbone: Backbone) -> None:
    before = network(batch(backbone))
    state = copy(network.trained_state())
    assert not any(key.startswith("prefix.") for key in state)
    assert len(state) == len(network.suffix.state_dict()) + len(network.head.state_dict())
    for tensor in network.trained_state().values():
        tensor.zero_()
    assert not torch.equal(network(batch(backbone)), before)
    network.load_trained_state(state)
    assert torch.equal(network(batch(backbone)), before)


def head_weight(network: Network) -> Tensor:
    (linear,) = [module for module in network.head.modules() if isinstance(module, nn.Linear)]
    return linear.weight


def test_the_heads_first_values_depend_on_the_seed_and_not_on_the_cut() -> None:
    weights = [head_weight(built(LITE0, unfreeze)) for unfreeze in (0, 3, "all")]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], head_weight(built(LITE0, 0, seed=1)))


def test_the_heads_first_values_do_not_depend_on_what_the_weights_are(pretrained: Pretrained) -> None:
    torch.manual_seed(0)
    network = build(pretrained.backbone, pretrained.weights, 0, CLASSES)
    assert torch.equal(head_weight(network), head_weight(built(LITE0, 0)))


def test_more_stages_than_there_are_means_all() -> None:
    assert built(LITE0, 99).trained_state().keys() == built(LITE0, "all").trained_state().keys()


@pytest.mark.parametrize(
    "other",
    [(LITE0, 1, 4), (LITE0, 2, 3), (LITE0, 0, 3), (BACKBONES["mobilenet_v2"], 1, 3)],
    ids=["other classes", "deeper", "shallower", "other backbone"],
)
def test_a_checkpoint_of_another_network_is_refused_and_nothing_is_changed(
    other: tuple[Backbone, Unfreeze, int],
) -> None:
    network = built(LITE0, 1)
    before = copy(network.state_dict())
    with pytest.raises(ValueError, match=r"^the checkpoint is of another network: '.+' does not fit$"):
        network.load_trained_state(built(*other, seed=1).trained_state())
    assert same(network.state_dict(), before)
