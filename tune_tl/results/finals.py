"""The one look at the test split: the finalists' kept weights, scored, and what the champion made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tune_tl.data.folder import Dataset
from tune_tl.data.store import Images, open_images
from tune_tl.experiment import EpochMetrics, TrialResult
from tune_tl.results.look import SEED, Look, most_confident, placed, thumbnails
from tune_tl.results.scores import TestScore, TrainScore, score
from tune_tl.training.checkpoint import Checkpoints, Damaged, load
from tune_tl.training.inference import embed, predict, restore
from tune_tl.training.inputs import Inputs
from tune_tl.training.metrics import confusion, macro_f1
from tune_tl.training.model import Network
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained

SAME = 1e-6  # how far apart val_f1s of one trial, trained twice, may be

TRAIN_IMAGES = 400  # that the kept weights are asked about: enough for a gap, and done in seconds


@dataclass(frozen=True)
class Finals:
    """Scores by trial key, and the champion's answers: the first finalist's, None without any."""

    test: dict[str, TestScore]
    train: dict[str, TrainScore]
    look: Look | None


def score_finalists(
    finalists: Sequence[TrialResult],
    dataset: Dataset,
    pretrained: Mapping[str, Pretrained],
    checkpoints: Callable[[str], Checkpoints],
    threads: int,
    say: Callable[[str], None],
) -> Finals:
    """Score kept weights on test and on a part of train; `checkpoints` gives a trial's files.

    A finalist whose weights are missing, damaged or of another epoch than its best on record is trained
    again, on as many `threads` as trials had, which `say` is told in a line.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    finals = Finals({}, {}, None)
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
            with _torch_threads(threads):
                weights = _trained_again(result, chosen, images, files, say)
        images = _part_of_train(images)
        network, inputs = restore(result.config, chosen, images, weights, device)
        if finals.look is None:
            finals = replace(finals, look=_look(result, dataset, images, network, inputs))
            assert finals.look
            champion, predictions = None, finals.look.predicted
        else:
            champion = finals.look.predicted
            predictions = predict(network, inputs, "test").argmax(axis=1)
        finals.test[result.trial] = score(images.labels["test"], predictions, dataset.classes, champion)
        finals.train[result.trial] = _on_train(images, network, inputs)
    return finals


def _look(result: TrialResult, dataset: Dataset, images: Images, network: Network, inputs: Inputs) -> Look:
    logits, embeddings = embed(network, inputs, "test")
    probabilities = torch.from_numpy(logits).softmax(dim=1).numpy()
    labels = images.labels["test"]
    files = [i.path.relative_to(dataset.root).as_posix() for i in dataset.images if i.split == "test"]
    mistakes = most_confident(probabilities, labels)
    return Look(
        trial=result.trial,
        files=np.array(files),
        labels=labels,
        probabilities=probabilities,
        places=placed(embeddings),
        mistakes=mistakes,
        thumbnails=thumbnails([images.pixels[row] for row in images.rows["test"][mistakes]]),
    )


def _part_of_train(images: Images) -> Images:
    """The same images with TRAIN_IMAGES of train at most, drawn with a seed."""
    n = len(images.rows["train"])
    drawn = np.sort(np.random.default_rng(SEED).permutation(n)[:TRAIN_IMAGES])
    return replace(
        images,
        rows={**images.rows, "train": images.rows["train"][drawn]},
        labels={**images.labels, "train": images.labels["train"][drawn]},
    )


def _on_train(images: Images, network: Network, inputs: Inputs) -> TrainScore:
    labels, logits = images.labels["train"], predict(network, inputs, "train")
    counts = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    return TrainScore(macro_f1(counts), loss, len(labels))


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
def _torch_threads(threads: int) -> Iterator[None]:
    """torch's work on so many threads, on which its sums depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
