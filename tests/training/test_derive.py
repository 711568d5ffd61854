from __future__ import annotations

from functools import cache
from itertools import chain

import pytest
import torch
from torch import Tensor

from support.networks import wake
from tune_tl.errors import BadInput
from tune_tl.training.backbones import IMAGENET_MEAN, Backbone
from tune_tl.training.derive import derive
from tune_tl.training.library import assemble, create
from tune_tl.training.model import build

DERIVABLE = [
    "alexnet",
    "densenet121",  # a relu without a module
    "mnasnet0_5",  # a mean without a module, after a relu with one
    "mobilenet_v3_small",
    "resnet50",
    "convnextv2_atto",
    "mobilenetv3_small_050",
    "resnet18.a1_in1k",
]

derived = cache(derive)


@pytest.fixture(params=DERIVABLE)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return derived(request.param)


def batch(size: int = 128) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_derived_stages_in_order_are_the_librarys_network(backbone: Backbone) -> None:
    model, x = create(backbone), batch()
    wake(model, x)
    wanted = model(x)
    for part in (*backbone.stages, backbone.neck, backbone.head):
        x = assemble(model, part)(x)
    spread = (wanted[0] - wanted[1]).abs().max().item()
    assert spread > 1e-4
    torch.testing.assert_close(x, wanted, atol=1e-3 * spread, rtol=0)


def test_derived_stages_forget_no_parameter(backbone: Backbone) -> None:
    model = create(backbone)
    stages = [[id(p) for p in assemble(model, stage).parameters()] for stage in backbone.stages]
    head = [id(p) for p in assemble(model, backbone.head).parameters()]
    assert [*chain(*stages), *head] == [id(p) for p in model.parameters()]
    assert all(stages)
    assert len(stages) >= 4, "deep enough a cut is possible"


def test_a_derived_backbone_can_be_cut_and_trained(backbone: Backbone) -> None:
    network = build(backbone, None, 1, classes=3)
    network.train()(batch()).sum().backward()
    assert all(p.grad is not None for p in (*network.suffix.parameters(), *network.head.parameters()))


def test_a_derived_backbone_knows_its_weights_and_pixels() -> None:
    resnet = derived("resnet50")
    assert (resnet.library, resnet.size, resnet.mean) == ("torchvision", 224, IMAGENET_MEAN)
    assert resnet.url == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"


@pytest.mark.parametrize("name, dropout", [("mobilenet_v3_small", 0.2), ("mnasnet0_5", 0.2), ("resnet50", 0)])
def test_the_librarys_dropout_comes_before_the_new_head(name: str, dropout: float) -> None:
    assert derived(name).dropout == dropout


def test_a_timm_tag_chooses_among_weights() -> None:
    tagged = derived("resnet18.a1_in1k")
    assert (tagged.library, tagged.model) == ("timm", "resnet18.a1_in1k")
    assert "resnet18_a1" in tagged.url


def test_weights_that_others_published_are_taken_as_timm_converted_them() -> None:
    wanted = "https://huggingface.co/timm/convnextv2_atto.fcmae_ft_in1k/resolve/main/model.safetensors"
    assert derived("convnextv2_atto").url == wanted


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "repvit_m0_9"], ids=["tokens", "two heads"])
def test_a_network_that_is_no_sequence_of_stages_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"^the stages of backbone '{name}' cannot be derived: .*resnet18"):
        derive(name)


@pytest.mark.parametrize(
    "name, meant",
    [("resnet81", "resnet18"), ("mobilnet_v2", "mobilenet_v2"), ("resnet18.a1_in2k", "resnet18.a1_in1k")],
)
def test_an_unknown_name_is_told_what_it_is_near_to(name: str, meant: str) -> None:
    with pytest.raises(BadInput, match=f"^unknown backbone '{name}', did you mean .*'{meant}'") as refused:
        derive(name)
    assert "\n" not in str(refused.value)


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^timm has no pretrained weights for 'mixer_s16_224'"):
        derive("mixer_s16_224")
