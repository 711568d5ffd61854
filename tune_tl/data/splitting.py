"""Which images are train, val and test: as given, else carved, with copies of one image on one side."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from tune_tl.data.splits import Split
from tune_tl.errors import BadInput

if TYPE_CHECKING:
    from tune_tl.data.folder import File

SHOWN = 12  # classes that an error names
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
        if missing := {split: share for split, share in CARVED.items() if split not in present}:
            notes.append(_carve_missing(splits, given, missing))
    return splits, notes


def _carve_missing(splits: list[Split | None], given: list[File], missing: Mapping[Split, float]) -> str:
    """Make val, test or both, which the folder has not, in place, and say how."""
    if missing.keys() != {"test"}:
        _carve(splits, given, "train", missing)
        return f"{' and '.join(missing)} carved from train, stratified"
    sizes = Counter(splits)
    wanted = CARVED["test"] * (sizes["train"] + sizes["val"])
    # A share of train alone would tell little where most images that are held out are in val.
    if sizes["val"] >= 2 * wanted:
        _carve(splits, given, "val", {"test": 0.5})
        return "test is half of the given val, stratified: train keeps all it has"
    _carve(splits, given, "train", {"test": wanted / sizes["train"]})
    return "test carved from train, stratified: 15 % of all images"


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
    if source != "val":
        _require_enough({label: len(groups) for label, groups in by_class.items()}, fractions)
    for _, groups in sorted(by_class.items()):
        if len(groups) <= len(fractions):  # stays in val
            continue
        groups.sort(key=lambda g: given[g[0]].digest)  # by content: file names and folders do not matter
        random.Random(SPLIT_SEED).shuffle(groups)
        total = len(groups)
        for split, fraction in fractions.items():
            for group in [groups.pop() for _ in range(max(1, round(fraction * total)))]:
                for i in group:
                    splits[i] = split
        for group in groups:
            for i in group:
                splits[i] = source or "train"


def _require_enough(distinct: Mapping[str, int], carved: Collection[Split]) -> None:
    """Raises BadInput, naming every one, if there are classes too small for train and the splits to carve."""
    small = {label: count for label, count in sorted(distinct.items()) if count < 1 + len(carved)}
    if not small:
        return
    which = ", ".join([f"{label!r} has {count}" for label, count in small.items()][:SHOWN])
    which += f" and {len(small) - SHOWN} more" if len(small) > SHOWN else ""
    what = f"class {which}" if len(small) == 1 else f"{len(small)} classes of {len(distinct)}: {which}"
    them = "it" if len(small) == 1 else "them"
    raise BadInput(
        f"{what} distinct image(s), too few to split into train{''.join(f', {split}' for split in carved)}; "
        f"add images of {them} ({1 + len(carved)} at least), or move {them} out of the folder"
    )


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
