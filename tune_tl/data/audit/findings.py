"""What an audit finds in a folder without a network: damaged and odd images, and copies of one image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tune_tl.data.audit.alike import alike_pairs, detailed
from tune_tl.data.audit.facts import ImageFacts, cannot_read, gather
from tune_tl.data.folder import File, Found
from tune_tl.data.oddities import FEW, Appearance, oddities
from tune_tl.terminal.progress import ShowProgress

Kind = Literal["unreadable", "half-decoded", "tiny", "odd shape", "odd mode", "no colour", "blank"]
Copies = Literal["exact", "near", "mirrored"]

COLOURLESS = 1.5  # mean difference of the channels, of 255; JPEG leaves a little


@dataclass(frozen=True)
class CopyGroup:
    """Files that show one image, the best to keep first: the largest."""

    kind: Copies
    files: tuple[File, ...]

    @property
    def labels(self) -> list[str]:
        return sorted({file.label for file in self.files})

    @property
    def splits(self) -> list[str]:
        return sorted({file.split or "" for file in self.files})

    @property
    def across(self) -> list[str]:
        """What it lies across, in words: classes, splits."""
        return [word for word, of in (("classes", self.labels), ("splits", self.splits)) if len(of) > 1]


@dataclass(frozen=True)
class Findings:
    found: Found
    facts: Mapping[str, ImageFacts]  # by digest
    odd: Mapping[Kind, Mapping[Path, str]]  # why, in a few words
    groups: tuple[CopyGroup, ...]  # an exact group may lie in a near one
    suspects: Mapping[Path, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what was left out of the audit, and why

    def name(self, file: File) -> str:
        """The path below the root, with forward slashes."""
        return self.found.name(file)

    @property
    def sizes(self) -> dict[str, int]:
        """Images of each class, the most first."""
        return dict(Counter(file.label for file in self.found.files).most_common())


def inspect(found: Found, progress: ShowProgress | None = None) -> Findings:
    """Look at every image of `found`. Raises BadInput if a disk fails."""
    facts = gather({file.digest: file.path for file in found.files}, progress)
    return Findings(found, facts, _odd(found, facts), tuple(_groups(found, facts)))


def left_out(findings: Findings) -> dict[Path, str]:
    """What a clean list leaves out by itself, and why: what can be known without a person's eye.

    A given test keeps its copies: published figures were measured on it. Those in val leave, which would
    select by what they show, and those in train; of what val shares with train, train's leave. Of copies
    that are all in one place the first of their group stays. Where they carry different labels one must
    be wrong, so none is left to train on.
    """
    reasons = {
        path: f"{kind}: {why}"
        for kind in ("unreadable", "half-decoded")
        for path, why in findings.odd[kind].items()
    }
    # The widest group decides; an exact one inside it has nothing to add.
    for group in sorted(findings.groups, key=lambda g: -len(g.files)):
        whole = [file for file in group.files if file.path not in reasons]
        test, val = ([file for file in whole if file.split == split] for split in ("test", "val"))
        mixed = len({file.label for file in whole}) > 1
        stay = test or val or ([] if mixed else whole[:1])
        for file in whole:
            if file in stay:
                continue
            other = next((o for o in stay or whole if o.label != file.label), None)
            of = other or stay[0]
            why = f"{_copy(findings.facts, file, of)} of {findings.name(of)}"
            reasons[file.path] = f"{why}, which has another label" if other else why
    return reasons


def _copy(facts: Mapping[str, ImageFacts], file: File, of: File) -> str:
    """What `file` is of `of`, for people. A group with mirror images in it has others too."""
    if file.digest == of.digest:
        return "copy"
    one, other = facts[file.digest], facts[of.digest]
    turned = (one.hash ^ other.mirrored).bit_count() < (one.hash ^ other.hash).bit_count()
    return "mirrored copy" if turned else "near copy"


def _odd(found: Found, facts: Mapping[str, ImageFacts]) -> dict[Kind, dict[Path, str]]:
    odd: dict[Kind, dict[Path, str]] = {
        kind: {}
        for kind in ("unreadable", "half-decoded", "tiny", "odd shape", "odd mode", "no colour", "blank")
    }
    whole = [facts[file.digest] for file in found.files if not facts[file.digest].unreadable]
    modes = Counter(one.mode for one in whole)
    grey = {digest for digest, one in facts.items() if not one.unreadable and _colourless(one)}
    few_grey = sum(file.digest in grey for file in found.files) <= FEW * len(whole)
    for file in found.files:
        one = facts[file.digest]
        if one.unreadable:
            odd["unreadable"][file.path] = one.unreadable
            continue
        if one.half:
            odd["half-decoded"][file.path] = one.half
        spread = float(one.pixels.std(axis=(0, 1)).max())
        seen = Appearance(one.width, one.height, one.mode, spread, one.frames)
        about = oddities(seen, modes)
        for kind, why in about.items():
            odd[kind][file.path] = why
        if "blank" not in about and few_grey and file.digest in grey:
            odd["no colour"][file.path] = "grey, most others are not"
    return odd


def _colourless(one: ImageFacts) -> bool:
    return float(np.ptp(one.pixels, axis=2).mean()) < COLOURLESS


def _groups(found: Found, facts: Mapping[str, ImageFacts]) -> Iterator[CopyGroup]:
    """Exact copies by their bytes; near and mirrored ones where they are alike, however many steps apart."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    files: dict[str, list[File]] = defaultdict(list)
    for file in found.files:
        files[file.digest].append(file)

    def group(kind: Copies, digests: list[str]) -> CopyGroup:
        members = [file for digest in digests for file in files[digest]]

        def best_first(file: File) -> tuple[int, int, str]:
            one = facts[file.digest]
            try:
                size = file.path.stat().st_size
            except OSError as error:  # where its content is known from before nothing else asks for it
                raise cannot_read(file.path, error) from None
            return (-one.width * one.height, -size, str(file.path))

        return CopyGroup(kind, tuple(sorted(members, key=best_first)))

    for digest, copies in files.items():
        if len(copies) > 1:
            yield group("exact", [digest])
    # Of an image without detail a hash says nothing, and a damaged one is not compared.
    whole = sorted(d for d, one in facts.items() if not one.unreadable and not one.half)
    digests = detailed(whole, facts)
    if not digests:
        return
    first, second, mirrored = alike_pairs([facts[digest] for digest in digests])
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(digests),) * 2)
    _, component = connected_components(graph, directed=False)
    together: dict[int, list[str]] = defaultdict(list)
    for row in np.unique(np.concatenate([first, second])):
        together[component[row]].append(digests[row])
    turned = {component[row] for row, is_mirrored in zip(first, mirrored, strict=True) if is_mirrored}
    for number, alike in together.items():
        yield group("mirrored" if number in turned else "near", alike)
