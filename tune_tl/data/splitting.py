"""Which images are train, val and test: as given, else carved, with copies of one image on one side."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tune_tl.data.layout import Split
from tune_tl.errors import BadInput

if TYPE_CHECKING:
    from tune_tl.data.folder import File

# Fractions of a class carved for val and test where the folder itself does not say.
CARVED: Mapping[Split, float] = {"val": 0.15, "test": 0.15}
# The split is part of the data, not of a search: searches with different --seed stay comparable.
SPLIT_SEED = 0


def assign(given: list[File]) -> tuple[list[Split | None], list[str]]:
    """The final split of every file, None for one left out, and a note for each thing done.

    Raises BadInput if a class is too small to split, or if val or test are given without train.
    """
    notes: list[str] = []
    splits = [file.split for file in given]
    present = {s for s in splits if s}
    if not present:
        _carve(splits, given, None, CARVED)
        notes.append("split by tune_tl: 70 % train, 15 % val, 15 % test, stratified")
    elif "train" not in present:
        raise BadInput(
            f"{' and '.join(sorted(present))} given but no train folder; add train/<class>/<image>"
        )
    else:
        notes.extend(_drop_straddling_copies(splits, given))
        missing = {s: f for s, f in CARVED.items() if s not in present}
        if missing:
            _carve(splits, given, "train", missing)
            notes.append(f"no {' or '.join(missing)} folder: carved from train, stratified")
    return splits, notes


def _carve(
    splits: list[Split | None],
    given: list[File],
    source: Split | None,
    fractions: Mapping[Split, float],
) -> None:
    """Move whole groups of identical images of each class out of `source`, in place."""
    # A group belongs to the class it is seen in first, so that copies under two labels stay together.
    members: dict[str, list[int]] = defaultdict(list)
    for i, file in enumerate(given):
        if splits[i] == source:
            members[file.digest].append(i)
    by_class: dict[str, list[list[int]]] = defaultdict(list)
    for group in members.values():
        by_class[given[group[0]].label].append(group)
    for label, groups in sorted(by_class.items()):
        if len(groups) < 1 + len(fractions):
            raise BadInput(
                f"class {label!r} has {len(groups)} distinct image(s), too few to split into train"
                f"{''.join(', ' + s for s in fractions)}; add images or remove the class"
            )
        groups.sort(key=lambda g: given[g[0]].digest)  # by content: file names and folders do not matter
        random.Random(SPLIT_SEED).shuffle(groups)
        total = len(groups)
        for split, fraction in fractions.items():
            for group in [groups.pop() for _ in range(max(1, round(fraction * total)))]:
                for i in group:
                    splits[i] = split
        for group in groups:
            for i in group:
                splits[i] = "train"


def _drop_straddling_copies(splits: list[Split | None], given: list[File]) -> list[str]:
    """Leave out of train (then of val) every copy of an image that val or test holds, in place.

    The test set stays as given: it is what published figures were measured on.
    """
    rank = {"train": 0, "val": 1, "test": 2}
    keeper: dict[str, int] = {}
    for split, file in zip(splits, given, strict=True):
        if split:
            keeper[file.digest] = max(keeper.get(file.digest, 0), rank[split])
    dropped: Counter[str] = Counter()
    for i, file in enumerate(given):
        split = splits[i]
        if split and rank[split] < keeper[file.digest]:
            splits[i] = None
            dropped[split] += 1
    return [f"{n} left out of {split}: copies of val or test images" for split, n in dropped.items()]
