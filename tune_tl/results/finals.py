"""The one look at the test split: the finalists' kept weights, scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from tune_tl.data.folder import Dataset
from tune_tl.data.store import Images, open_images
from tune_tl.experiment import EpochMetrics, TrialResult
from tune_tl.results.ranking import TestScore, score
from tune_tl.training.checkpoint import Checkpoints, Damaged, load
from tune_tl.training.trainer import predict, restore, train
from tune_tl.training.weights import Pretrained

SAME = 1e-6  # how far apart val_f1s of one trial, trained twice, may be


def score_finalists(
    finalists: Sequence[TrialResult],
    dataset: Dataset,
    pretrained: Mapping[str, Pretrained],
    checkpoints: Callable[[str], Checkpoints],
    threads: int,
    say: Callable[[str], None],
) -> dict[str, TestScore]:
    """Test scores by trial key; `checkpoints` gives a trial's files.

    A finalist whose weights are missing, damaged or of another epoch than its best on record is trained
    again, on as many `threads` as trials had, which `say` is told in a line.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scores = {}
    for result in finalists:
        chosen = pretrained[result.config.backbone]
        images = open_images(dataset, result.config.image_size or chosen.backbone.size)
        files = checkpoints(result.trial)
        try:
            weights = _kept(result, files)
        except Damaged as damage:
            how = damage.why if damage.why == "missing" else f"damaged ({damage.why})"
            effort = f"{_best(result).epoch} epoch(s)"
            say(f"trial {result.trial}: its weights are {how}; training them again, {effort}")
            with _on(threads):
                weights = _trained_again(result, chosen, images, files, say)
        network, inputs = restore(result.config, chosen, images, weights, device)
        predictions = predict(network, inputs, "test").argmax(axis=1)
        scores[result.trial] = score(images.labels["test"], predictions, dataset.classes)
    return scores


def _kept(result: TrialResult, files: Checkpoints) -> Mapping[str, Tensor]:
    """The weights that the record means. Raises Damaged."""
    kept = load(files.best, result.config)
    if kept.metrics.epoch != _best(result).epoch:  # ended between an epoch's weights and its line on record
        raise Damaged(files.best, f"of epoch {kept.metrics.epoch}, not {_best(result).epoch}")
    return kept.tensors


def _trained_again(
    result: TrialResult,
    pretrained: Pretrained,
    images: Images,
    files: Checkpoints,
    say: Callable[[str], None],
) -> Mapping[str, Tensor]:
    """The same weights once more: the same seed gives the same numbers."""
    device = "cuda" if result.resource == "gpu" and torch.cuda.is_available() else "cpu"
    files.remove()
    for _ in islice(
        train(result.config, pretrained, images, device=device, checkpoints=files), _best(result).epoch
    ):
        pass
    files.remove_states()
    again = load(files.best, result.config)
    if abs(again.metrics.val_f1 - _best(result).val_f1) > SAME:
        say(
            f"trial {result.trial}: trained again, its val_f1 is {again.metrics.val_f1:.6f}, "
            f"not {_best(result).val_f1:.6f} as on record"
        )
    return again.tensors


def _best(result: TrialResult) -> EpochMetrics:
    assert result.best is not None, "a finalist has a score"
    return result.best


@contextmanager
def _on(threads: int) -> Iterator[None]:
    """torch's work on so many threads, on which its sums depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
