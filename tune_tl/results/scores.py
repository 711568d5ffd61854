"""What kept weights reach on images: the test split, looked at once, and a part of train as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tune_tl.results import statistics
from tune_tl.training.metrics import confusion, macro_f1, per_class


@dataclass(frozen=True)
class ClassScore:
    """One class on the test split; `support` counts its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class TestScore:
    """What a finalist reached on the test split, which is looked at once."""

    __test__ = False  # its name is the product's word, not a test for pytest to collect

    f1: float
    ci: tuple[float, float]  # 95 %
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]  # row = true class, column = predicted class
    report: tuple[ClassScore, ...]  # in the dataset's class order
    behind: tuple[float, float] | None = None  # the champion's macro-F1 less its own, 95 %; None for itself

    @property
    def may_be_ahead(self) -> bool:
        """Whether the champion's place before it may be the luck of these test images."""
        return self.behind is not None and self.behind[0] <= 0

    @property
    def is_ahead(self) -> bool:
        """Whether it does better than the champion on these test images, by more than chance."""
        return self.behind is not None and self.behind[1] < 0

    @property
    def images(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without a test image, which macro-F1 leaves out."""
        return tuple(row.name for row in self.report if not row.support)

    @property
    def confusions(self) -> list[tuple[int, int, int]]:
        """(true class, class it is taken for, images) by index, the commonest first, none without images."""
        cells = ((i, j, images) for i, row in enumerate(self.confusion) for j, images in enumerate(row))
        return sorted((cell for cell in cells if cell[0] != cell[1] and cell[2]), key=lambda cell: -cell[2])

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers only: `from_dict` undoes it, also after a way through JSON."""
        return {
            "f1": self.f1,
            "ci": list(self.ci),
            "accuracy": self.accuracy,
            "confusion": [list(row) for row in self.confusion],
            "report": [asdict(row) for row in self.report],
            "behind": self.behind and list(self.behind),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TestScore:
        low, high = values["ci"]
        behind = None
        if values.get("behind"):
            least, most = values["behind"]
            behind = (least, most)
        return cls(
            f1=values["f1"],
            ci=(low, high),
            behind=behind,
            accuracy=values["accuracy"],
            confusion=tuple(tuple(row) for row in values["confusion"]),
            report=tuple(ClassScore(**row) for row in values["report"]),
        )


@dataclass(frozen=True)
class TrainScore:
    """What kept weights reach on images that they were trained on, seen as validation sees its own.

    The loss of an epoch says less: it is of images that were augmented, mixed and had their labels
    smoothed, while the weights still changed.
    """

    f1: float
    loss: float  # mean cross-entropy in nats
    images: int  # of the train split that were looked at

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score(
    labels: ArrayLike, predictions: ArrayLike, classes: Sequence[str], champion: ArrayLike | None = None
) -> TestScore:
    """Score class indices of shape (images,) against each other; `classes` are the names, in order.

    `champion` are the predictions of the champion, where these are another finalist's. Raises ValueError if
    the vectors are empty, differ in length or hold an index without a name.
    """
    counts = confusion(labels, predictions, len(classes))
    precision, recall, f1 = per_class(counts)
    support = counts.sum(axis=1)
    return TestScore(
        f1=macro_f1(counts),
        ci=statistics.macro_f1_interval(labels, predictions, len(classes)),
        accuracy=float(np.trace(counts) / counts.sum()),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        report=tuple(
            ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(classes)
        ),
        behind=None
        if champion is None
        else statistics.macro_f1_lead(labels, champion, predictions, len(classes)),
    )
