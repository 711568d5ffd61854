"""A trained network, asked about images: restored from a checkpoint's tensors, its logits, its features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tune_tl.data.splits import Split
from tune_tl.data.store import Images
from tune_tl.experiment import TrialConfig
from tune_tl.training.arithmetic import autocast
from tune_tl.training.inputs import Inputs
from tune_tl.training.model import Network, network_for
from tune_tl.training.weights import Pretrained


def restore(
    config: TrialConfig,
    pretrained: Pretrained,
    images: Images,
    weights: Mapping[str, Tensor],
    device: str = "cpu",
) -> tuple[Network, Inputs]:
    """A trained network with the tensors that training changed, and the inputs it takes.

    Raises ValueError if the tensors are of another network.
    """
    network = network_for(config, pretrained, len(images.classes), torch.device(device))
    network.load_trained_state(weights)
    return network, Inputs(network, images, pretrained, config, torch.device(device))


@torch.no_grad()
def predict(network: Network, inputs: Inputs, split: Split) -> npt.NDArray[np.float32]:
    """Logits of every image of `split`, (N, classes)."""
    network.eval()
    device = next(network.head.parameters()).device
    with autocast(device):
        parts = [network.trained(x).float().cpu() for x in inputs.evaluation(split)]
    return torch.cat(parts).numpy()


@torch.no_grad()
def embed(
    network: Network, inputs: Inputs, split: Split
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits (N, classes) as of `predict`, and what the head's last layer makes them from, (N, features)."""
    network.eval()
    body, last = network.head[:-1], network.head[-1]
    logits, features = [], []
    with autocast(next(last.parameters()).device):
        for x in inputs.evaluation(split):
            features.append(body(network.suffix(x)))
            logits.append(last(features[-1]).float().cpu())
    return torch.cat(logits).numpy(), torch.cat([each.float().cpu() for each in features]).numpy()
