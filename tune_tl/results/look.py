"""What the champion made of every test image, kept from the one look at them, for people and pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tune_tl.errors import BadInput
from tune_tl.results.scores import TestScore
from tune_tl.storage.files import replacing
from tune_tl.storage.tables import csv_file, escaped

LOOK_FILE, PREDICTIONS_FILE = "look.npz", "predictions.csv"
DRAWN = 2000  # images in the map, and on the way to it
MISTAKES = 24  # shown
SIDE = 128  # pixels of a mistake's thumbnail
SEED = 0


@dataclass(frozen=True)
class Look:
    """The champion's answers in the order of the dataset's test images; C classes, N images."""

    trial: str
    files: NDArray[np.str_]  # (N,) paths below the dataset's root
    labels: NDArray[np.int64]  # (N,)
    probabilities: NDArray[np.float32]  # (N, C)
    places: NDArray[np.float32]  # (N, 2) in the map of embeddings, NaN for images that are not in it
    mistakes: NDArray[np.int64]  # (K,) rows: the most confident ones, the surest first
    thumbnails: NDArray[np.uint8]  # (K, SIDE, SIDE, 3) RGB: the mistakes, squeezed to a square

    def __post_init__(self) -> None:
        n, k = len(self.labels), len(self.mistakes)
        shapes = {
            "files": (n,), "probabilities": (n, *self.probabilities.shape[1:]), "places": (n, 2),
            "thumbnails": (k, SIDE, SIDE, 3),
        }  # fmt: skip
        kinds = {"labels": "i", "probabilities": "f", "places": "f", "mistakes": "i", "thumbnails": "u"}
        wrong = [name for name, shape in shapes.items() if getattr(self, name).shape != shape]
        wrong += [name for name, kind in kinds.items() if getattr(self, name).dtype.kind != kind]
        if wrong or self.probabilities.ndim != 2 or not np.isin(self.mistakes, np.arange(n)).all():
            raise ValueError(f"{wrong or 'mistakes'} do not fit {n} images and {k} mistakes")

    def fits(self, champion: str, scores: Mapping[str, TestScore]) -> bool:
        """Whether it is the `champion`'s, and of the look at test that `scores` are from."""
        score = scores.get(champion)
        if self.trial != champion or score is None:
            return False
        shape = (score.images, len(score.report))
        return self.probabilities.shape == shape and bool((self.labels < shape[1]).all())

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) class indices."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) the probability of the predicted class."""
        found: NDArray[np.float32] = self.probabilities.max(axis=1)
        return found

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(N,) whether an image is taken for something else."""
        found: NDArray[np.bool_] = self.predicted != self.labels
        return found

    def write(self, folder: Path, classes: Sequence[str]) -> None:
        """Write `look.npz`, which `read` takes, and `predictions.csv` a line an image. Raises OSError."""
        with replacing(folder / LOOK_FILE) as part, part.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        with csv_file(folder / PREDICTIONS_FILE) as table:
            rows = csv.writer(table)
            rows.writerow(["file", "true", "predicted", "confidence", *(f"p({name})" for name in classes)])
            names = [escaped(name) for name in classes]
            for i, (truth, guess) in enumerate(zip(self.labels, self.predicted, strict=True)):
                shares = [f"{p:.4f}" for p in (self.confidence[i], *self.probabilities[i])]
                rows.writerow([escaped(str(self.files[i])), names[truth], names[guess], *shares])


def read(folder: Path) -> Look | None:
    """What `Look.write` left in `folder`; None if there is none. Raises BadInput if it is damaged."""
    path = folder / LOOK_FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)  # arrays alone: nothing in it is executed
            values: dict[str, Any] = {field.name: found[field.name] for field in fields(Look)}
        return Look(**values | {"trial": str(values["trial"])})
    except Exception as error:  # one kind for each way to be damaged
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} is damaged ({reason}); restore it, or remove it and do without") from None


def most_confident(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the MISTAKES wrong answers with the highest probability, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    surest = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[surest[:MISTAKES]]


def thumbnails(pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images of (S, S, 3) at SIDE pixels a side, (K, SIDE, SIDE, 3)."""
    small = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in pixels]
    return np.array(small, dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)


def placed(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """A place in the plane for each of N embeddings of (N, D), NaN where there are more than DRAWN.

    t-SNE (van der Maaten & Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html) of the first 50
    principal components, from the first two; seeded. Near ones stay near; nothing follows from how large
    a group is or how far from others.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    places = np.full((len(embeddings), 2), np.nan, dtype=np.float32)
    random = np.random.default_rng(SEED)
    chosen = np.sort(random.permutation(len(embeddings))[:DRAWN])
    known = np.nan_to_num(embeddings[chosen].astype(np.float64), posinf=0.0, neginf=0.0)
    known -= known.mean(axis=0, keepdims=True)
    if len(chosen) < 10 or not known.any():  # too few to have neighbours
        places[chosen] = 0.0
        across = np.linalg.svd(known, full_matrices=False)[0][:, :2]
        places[chosen, : across.shape[1]] = across
        return places
    components = PCA(min(50, *known.shape), random_state=SEED).fit_transform(known)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 1)))
    flat = TSNE(init="pca", perplexity=perplexity, random_state=SEED)
    with threadpool_limits(
        1
    ):  # several wait for each other most of the time, and for other work on the machine
        places[chosen] = flat.fit_transform(components)
    return places
