"""Every registered backbone, uncut: its stages are the library's network and nothing is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from support.networks import batch, woken
from tune_tl.training.backbones import BACKBONES, Backbone, register
from tune_tl.training.library import assemble


@pytest.fixture(params=BACKBONES.values(), ids=BACKBONES.keys())
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return request.param  # type: ignore[no-any-return]


@torch.no_grad()
def test_the_stages_in_order_then_neck_and_head_are_the_librarys_network(backbone: Backbone) -> None:
    model, x = woken(backbone), batch(backbone)
    wanted = model(x)
    for part in (*backbone.stages, backbone.neck, backbone.head):
        x = assemble(model, part)(x)
    spread = (wanted[0] - wanted[1]).abs().max().item()
    assert spread > 1e-3, "the network tells two images apart, so equal outputs mean something"
    torch.testing.assert_close(x, wanted, atol=1e-4 * spread, rtol=0)


def test_every_parameter_is_in_one_stage_or_the_head(backbone: Backbone) -> None:
    model = woken(backbone)
    found = Counter(
        id(parameter)
        for part in (*backbone.stages, backbone.neck, backbone.head)
        for parameter in assemble(model, part).parameters()
    )
    auxiliary = ("aux1", "aux2", "AuxLogits")  # heads that only help the original training
    wanted = {
        name: id(parameter) for name, parameter in model.named_parameters() if not name.startswith(auxiliary)
    }
    assert found == Counter(wanted.values())


def test_every_stage_but_not_the_neck_has_something_to_train(backbone: Backbone) -> None:
    model = woken(backbone)
    trainable = [any(True for _ in assemble(model, stage).parameters()) for stage in backbone.stages]
    assert all(trainable)
    assert not any(True for _ in assemble(model, backbone.neck).parameters())


def test_an_entry_says_where_its_weights_are_and_what_pixels_they_expect(backbone: Backbone) -> None:
    assert backbone.name == backbone.name.lower()
    assert backbone.url.startswith("https://") or backbone.scratch
    assert backbone.size >= 224 or backbone.scratch
    assert all(0 < value < 1 for value in (*backbone.mean, *backbone.std))
    assert 0 <= backbone.dropout < 1


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'resnet18' is registered already"):
        register(BACKBONES["resnet18"])
