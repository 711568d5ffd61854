"""The one look at the test split: the finalists' kept weights, scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from tune_tl.data.folder import Dataset
from tune_tl.data.store import open_images
from tune_tl.experiment import TrialResult
from tune_tl.results.ranking import TestScore, score
from tune_tl.training.trainer import predict, restore
from tune_tl.training.weights import Pretrained


def score_finalists(
    finalists: Sequence[TrialResult],
    dataset: Dataset,
    pretrained: Mapping[str, Pretrained],
    checkpoint: Callable[[str], Path],
) -> dict[str, TestScore]:
    """Test scores by trial key; `checkpoint` gives the file of a trial's kept weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scores = {}
    for result in finalists:
        chosen = pretrained[result.config.backbone]
        images = open_images(dataset, result.config.image_size or chosen.backbone.size)
        network, inputs = restore(result.config, chosen, images, checkpoint(result.trial), device)
        predictions = predict(network, inputs, "test").argmax(axis=1)
        scores[result.trial] = score(images.labels["test"], predictions, dataset.classes)
    return scores
