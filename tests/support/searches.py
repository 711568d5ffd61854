"""Searches made up with a seed and written through the real ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Ledger
from tune_tl.results import ranking, scores
from tune_tl.results.importance import Importance
from tune_tl.results.look import Look, most_confident, thumbnails
from tune_tl.results.scores import TrainScore

BACKBONES = ("mobilenet_v2", "tf_efficientnet_lite0", "resnet18")
SCRATCH = "small_resnet"


def make_trial(
    scores: list[float],
    *,
    state: State = State.COMPLETED,
    started: float = 0.0,
    reason: str | None = None,
    **config: Any,
) -> TrialResult:
    """A trial whose epochs take 5 s each and reach `scores`."""
    config = {"backbone": "mobilenet_v2", "epochs": 8} | config
    epochs = tuple(
        EpochMetrics(
            epoch=n,
            train_loss=1.4 * 0.72**n,
            val_loss=1.1 * 0.8**n + 0.012 * n,
            val_accuracy=score,
            val_f1=score,
            val_f1_per_class=(score, score),
            images_per_s=150.0,
            seconds=5.0,
        )
        for n, score in enumerate(scores, 1)
    )
    made = TrialConfig(**config)
    return TrialResult(made.key, made, state, epochs, started, started + 5.0 * len(scores) + 1, reason=reason)


def make_search(
    output: Path,
    name: str = "pets",
    trials: int = 12,
    classes: tuple[str, ...] = ("cat", "dog", "horse"),
    source: str = "local",
    *,
    failures: bool = True,
    ended: bool = True,
    seed: int = 0,
    test_images: int = 240,
    look: bool = False,
) -> Path:
    """A whole folder of a search, as `tune_tl.search` leaves it; what takes long to draw with `look`."""
    rng = np.random.default_rng(seed)
    folder = output / name
    folder.mkdir(parents=True)
    now, results, t = 0.0, [], 4.0
    ledger = Ledger(folder, lambda: now)
    for n in range(trials):
        unfreeze = ("all", 0, 2, 4)[n % 4]
        backbone = SCRATCH if n % 9 == 8 else BACKBONES[n % len(BACKBONES)]
        ceiling = (
            {0: 0.80, 2: 0.90, 4: 0.93, "all": 0.9}[unfreeze] - 0.03 * BACKBONES.index(backbone)
            if backbone in BACKBONES
            else 0.6
        )
        ceiling -= abs(rng.normal(0, 0.05))
        stopped, failed = rng.random() < 0.4, failures and n % 6 == 5
        count = int(rng.integers(1, 4)) if stopped or failed else 8
        scores = [
            float(np.clip(ceiling * (1 - 0.55 * 0.5**e) + rng.normal(0, 0.01), 0, 1)) for e in range(count)
        ]
        state = State.FAILED if failed else State.STOPPED if stopped else State.COMPLETED
        reason = ("train loss is NaN in epoch 3 at body_lr=0.1", "out of memory")[n % 2] if failed else None
        made = make_trial(
            scores, state=state, started=t, reason=reason, backbone=backbone, unfreeze=unfreeze,
            pretrained=backbone != SCRATCH, head_lr=float(10 ** rng.uniform(-4, -2)), seed=n,
        )  # fmt: skip
        for metrics in made.epochs:
            now = t + 5.0 * metrics.epoch
            ledger.epoch(made.config, metrics)
        ledger.end(made)
        results.append(made)
        t += 2.5 * count + 1
    ledger.close()
    dataset = {
        "name": "animals",
        "source": source,
        "fingerprint": "9f2c01ab",
        "images": 1600,
        "classes": len(classes),
    }
    facts = {
        "name": name, "space": "animals", "strategy": "asha-tpe", "seed": seed, "trials": trials,
        "budget_s": 600, "dataset": dataset, "class_names": list(classes),
    }  # fmt: skip
    (folder / "search.json").write_text(json.dumps(facts))
    if ended:
        scores_of = {
            r.trial: make_score(r.val_f1 or 0, classes, test_images, rng) for r in ranking.finalists(results)
        }
        result = {
            "champion": next(iter(scores_of), None), "trials": trials, "wall_s": t, "dataset": dataset,
            "versions": {"tune_tl": "0.1.0", "torch": "2.14.1"}, "strategy": "asha-tpe",
            "test_scores": {k: s.to_dict() for k, s in scores_of.items()},
        }  # fmt: skip
        if look:
            made = make_look(next(iter(scores_of)), next(iter(scores_of.values())))
            made.write(folder, classes)
            result |= {
                "train_scores": {k: TrainScore(0.97, 0.1, 400).to_dict() for k in scores_of},
                "importances": [
                    Importance("unfreeze", trials, 0.7, 0.5, 0.8).to_dict(),
                    Importance("body_lr", trials // 2, 0.3, 0.1, 0.4, conditional=True).to_dict(),
                    Importance("head_width", 3, conditional=True).to_dict(),
                ],
            }
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def make_look(trial: str, score: scores.TestScore) -> Look:
    """Answers that add up to `score`, with places and thumbnails drawn at random."""
    rng, counts = np.random.default_rng(0), np.array(score.confusion)
    labels, predictions = (index.repeat(counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
    sure = rng.uniform(0.6, 0.99, (len(labels), 1))
    others = (1 - sure) / (len(counts) - 1)
    probabilities = np.where(np.arange(len(counts)) == predictions[:, None], sure, others).astype(np.float32)
    mistakes = most_confident(probabilities, labels)
    return Look(
        trial=trial,
        files=np.array([f"{label}/{row}.jpg" for row, label in enumerate(labels)]),
        labels=labels,
        probabilities=probabilities,
        places=rng.normal(4 * np.stack([labels, labels % 3], axis=1), 1).astype(np.float32),
        mistakes=mistakes,
        thumbnails=thumbnails([rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in mistakes]),
    )


def make_score(
    accuracy: float, classes: tuple[str, ...], images: int, rng: np.random.Generator
) -> scores.TestScore:
    labels = rng.integers(0, len(classes), images)
    wrong = rng.random(images) > accuracy
    predictions = np.where(wrong, (labels + rng.integers(1, 3, images)) % len(classes), labels)
    return scores.score(labels, predictions, classes)


@pytest.fixture(scope="session")
def trial() -> Callable[..., TrialResult]:
    return make_trial


@pytest.fixture(scope="session")
def search() -> Callable[..., Path]:
    return make_search
