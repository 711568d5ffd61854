"""Backbones that the registry does not name: stages derived from the library's own model.

Derived stages are believed only after they gave, on random images, what the whole model gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from tune_tl.errors import BadInput, near
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.library import assemble, create

# What models do between their last stage and their head without naming a module for it.
_NECKS = (
    "{rest}",
    "{rest} flatten",
    "pool flatten",
    "{rest} pool flatten",
    "relu pool flatten",
    "flatten {rest}",
)


def derive(name: str) -> Backbone:
    """The backbone of a model that torchvision or timm know by `name`.

    Raises BadInput if neither does, or if its stages cannot be run one after another, as those of
    networks with extra inputs or tokens between modules cannot.
    """
    plain = _described(name)
    x = torch.rand(2, 3, plain.size, plain.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model = _awakened(create(plain), x)
        head = plain.head or _last_linear(model)
        wanted = model(x)
        stages, rest, dropout = _stages(model, head) if head else ([], [], 0.0)
        for form in _NECKS:
            neck = form.format(rest=" ".join(rest)).strip()
            found = replace(plain, stages=tuple(stages), neck=neck, head=head, dropout=dropout)
            if stages and _runs_as(found, model, x, wanted):
                return found
    raise BadInput(
        f"the stages of backbone {name!r} cannot be derived: run in order they do not give what the network "
        f"gives; use one of {', '.join(BACKBONES)} or another convolutional network"
    )


def _described(name: str) -> Backbone:
    """What the libraries say of the model, its stages left open."""
    import torchvision

    if name in torchvision.models.list_models(module=torchvision.models):
        chosen = torchvision.models.get_model_weights(name).DEFAULT
        preset = chosen.transforms()
        return Backbone(
            name, "torchvision", name, (), "", chosen.url,
            size=preset.crop_size[0], mean=tuple(preset.mean), std=tuple(preset.std),
        )  # fmt: skip
    import timm
    from timm.models import get_pretrained_cfg, is_model

    plain, _, tag = name.partition(".")
    if not is_model(plain) or (tag and name not in timm.list_pretrained()):
        timms = timm.list_pretrained() if is_model(plain) else timm.list_models()
        known = {*BACKBONES, *torchvision.models.list_models(module=torchvision.models), *timms}
        raise BadInput(f"unknown backbone {name!r}{near(name, known)}; registered are {', '.join(BACKBONES)}")
    cfg = get_pretrained_cfg(name)
    url = cfg and cfg.url
    if cfg and cfg.hf_hub_id and "/pytorch-image-models/" not in (url or ""):
        # Other publishers' files name the tensors as their own code does, timm's copies as timm does.
        url = f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors"
    if not url:
        raise BadInput(
            f"timm has no pretrained weights for {name!r}; choose a tag that has (timm.list_pretrained())"
        )
    return Backbone(
        name, "timm", name, (), cfg.classifier if isinstance(cfg.classifier, str) else "", url,
        size=cfg.input_size[1], mean=cfg.mean, std=cfg.std,
    )  # fmt: skip


def _awakened(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """The model, in eval mode, with values under which every layer shows in what it gives.

    Fresh ones hide errors: layer scales begin at 1e-6, and activations die out in deep networks whose
    batch norms have seen no data, until only the head's bias is left.
    """
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.02)
    for module in model.eval().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train().reset_running_stats()
            module.momentum = None  # the statistics of `x` alone
    model(x)
    return model.eval()


def _stages(model: nn.Module, head: str) -> tuple[list[str], list[str], float]:
    """Module paths before the head as stages, the paths without parameters that come last, and the
    dropout among them, which is the head's: a frozen neck would switch it off.
    """
    paths = [path for path in _paths(model, head) if path != head]
    rest: list[str] = []
    dropout = 0.0
    while paths and not any(True for _ in model.get_submodule(paths[-1]).parameters()):
        last = model.get_submodule(path := paths.pop())
        if isinstance(last, nn.Dropout):
            dropout = last.p
        else:
            rest.insert(0, path)
    stages: list[str] = []
    after_lone, flat = False, False
    for path in paths:
        module = model.get_submodule(path)
        own = sum(1 for _ in module.parameters(recurse=False))
        bare = not any(True for _ in module.parameters())
        lone = own == sum(1 for _ in module.parameters())
        if isinstance(module, nn.Linear) and not flat:
            path, flat = f"flatten {path}", True
        # Lone layers belong together up to the next pooling (a stem, a last convolution and its norm);
        # so does what has nothing to train with the stage before it.
        if stages and (bare or (lone and after_lone)):
            stages[-1] += f" {path}"
        else:
            stages.append(path)
        pooled = "Pool" in type(module).__name__
        after_lone = after_lone and not pooled if bare else lone
    return stages, rest, dropout


def _paths(model: nn.Module, head: str) -> Iterator[str]:
    """Paths in order, with what holds the head and a list of most layers opened up."""
    tensors = sum(1 for _ in model.parameters())
    for name, child in model.named_children():
        most = sum(1 for _ in child.parameters()) > 0.6 * tensors
        opened = isinstance(child, nn.Sequential | nn.ModuleList) and most and len(child) > 2
        if opened or head.startswith(f"{name}."):
            yield from (f"{name}.{inner}" for inner, _ in child.named_children())
        else:
            yield name


def _last_linear(model: nn.Module) -> str:
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else ""


def _runs_as(backbone: Backbone, model: nn.Module, x: torch.Tensor, wanted: torch.Tensor) -> bool:
    try:
        for part in (*backbone.stages, backbone.neck, backbone.head):
            x = assemble(model, part)(x)
        spread = (wanted[0] - wanted[1]).abs().max().item()
        return x.shape == wanted.shape and torch.allclose(x, wanted, atol=1e-3 * spread, rtol=0)
    except Exception:  # whatever a network says to input it was not written for
        return False
