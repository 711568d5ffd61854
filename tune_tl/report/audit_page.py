"""What an audit found, for people: a summary for the terminal and one page with the images themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tune_tl.data.audit.findings import Copies, CopyGroup, Findings, left_out
from tune_tl.data.decoding import decode
from tune_tl.data.folder import File
from tune_tl.data.names import is_text
from tune_tl.errors import BadInput
from tune_tl.report import templates
from tune_tl.storage.files import write_text

PAGE = "report.html"
SIDE = 112  # pixels of a thumbnail's longer side
SHOWN = 48  # pictures, or groups, of a kind
SHOWN_OF_GROUP = 6  # files of a group
NAMED = 3  # files, or groups, of a kind in the terminal
UNEVEN = 3.0  # times as many images as the smallest class: worth class weights

_COPIES: dict[Copies, str] = {
    "exact": "Byte for byte the same file.",
    "near": "One picture saved twice, or shots of one moment: resized, compressed anew, next in a series.",
    "mirrored": "The same with left and right exchanged; others of the group may be plain copies.",
}
_ODD = {
    "unreadable": "They cannot be decoded, and leave.",
    "half-decoded": "They open, but part of the picture is lost. They leave.",
    "tiny": "Less than 32 pixels on the shorter side.",
    "odd shape": "More than four times as long as wide: little is left of them in a square.",
    "odd mode": "Stored otherwise than most: palettes, transparency, print colours, 16 bits, several frames.",
    "no colour": "Grey, while most are not. If one class has most of them, a network may learn that instead.",
    "blank": "Nearly one colour: nothing to learn from.",
}
_SUSPECT = (
    "Images that a probe, which learnt from all others, takes for another class. They stay: that a "
    "network finds an image hard does not make its label wrong, and to leave out what is hard would flatter "
    "every score."
)


@dataclass(frozen=True)
class Card:
    name: str
    label: str
    split: str
    why: str
    keep: bool
    picture: str  # a data URI; empty if there is none
    width: int  # as it is shown
    height: int


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Card]]]  # what joins them, and the cards side by side
    total: int
    more: int  # groups or images that are not shown


def summary(name: str, findings: Findings) -> RenderableType:
    """The findings as a table, and what the list leaves out."""
    found = findings.found
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("found")
    table.add_column("", justify="right")
    table.add_column("such as", overflow="fold")
    for title, count, examples in _counts(findings):
        table.add_row(title, str(count), Text(", ".join(examples), style="dim"))
    leaving, sizes = left_out(findings), findings.sizes
    most, least = next(iter(sizes)), list(sizes)[-1]
    head = f"{name}: {len(found.files):,} images in {len(found.classes)} classes"
    head += f", {sizes[most]} of {_plain(most)} to {sizes[least]} of {_plain(least)}"
    head += ": uneven, try class_weights" if _uneven(findings) else ""
    kinds = Counter(_kind(findings, path, why) for path, why in leaving.items())
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    left = f"left out by the cleaned list: {len(leaving)} images{f' ({what})' if what else ''}"
    stay = "odd and doubtful images stay, for a person to decide"
    return Lines(Text(head), table, Text(left), Text(stay), *(Text(_plain(n)) for n in findings.notes))


def write(folder: Path, name: str, findings: Findings) -> None:
    """Write the page into `folder`, which must exist. Raises BadInput if it cannot be written."""
    sizes = findings.sizes
    text = (
        templates.environment()
        .get_template("audit.html.j2")
        .render(
            name=name,
            found=findings.found,
            counts=[(title, count) for title, count, _ in _counts(findings)],
            left_out=len(left_out(findings)),
            sizes=sizes,
            splits=sorted({file.split or "" for file in findings.found.files}),
            largest=max(sizes.values(), default=1),
            uneven=_uneven(findings),
            sections=list(_sections(findings)),
            notes=(*findings.found.notes, *findings.notes),
        )
    )
    try:
        write_text(folder / PAGE, text)
    except OSError as error:
        raise BadInput(
            f"{str(folder)!r} cannot be written ({error.strerror}); give another --output"
        ) from None


def _counts(findings: Findings) -> Iterator[tuple[str, int, list[str]]]:
    """What was found, how often, and a few names."""
    name = {file.path: _plain(findings.name(file)) for file in findings.found.files}
    for kind, of in findings.odd.items():
        if of:
            yield kind, len(of), [f"{name[path]} ({_plain(why)})" for path, why in list(of.items())[:NAMED]]
    for copies in _COPIES:
        groups = [group for group in findings.groups if group.kind == copies]
        if groups:
            yield f"groups of {copies} copies", len(groups), [_joined_names(g, name) for g in groups[:NAMED]]
        for across in ("classes", "splits"):
            over = [group for group in groups if across in group.across]
            if over:
                yield f"  of them across {across}", len(over), [_joined_names(g, name) for g in over[:NAMED]]
    if findings.suspects:
        some = list(findings.suspects.items())[:NAMED]
        yield "labels in doubt", len(findings.suspects), [f"{name[p]} ({_plain(w)})" for p, w in some]


def _joined_names(group: CopyGroup, name: dict[Path, str]) -> str:
    return " = ".join(name[file.path] for file in group.files[:NAMED])


def _kind(findings: Findings, path: Path, why: str) -> str:
    """Why an image was left out, in a word or two."""
    damaged = next((kind for kind in ("unreadable", "half-decoded") if path in findings.odd[kind]), "")
    return damaged or ("copies with two labels" if why.endswith("another label") else "copies")


def _uneven(findings: Findings) -> bool:
    counts = findings.sizes.values()
    return bool(counts) and max(counts) > UNEVEN * min(counts)


def _sections(findings: Findings) -> Iterator[Section]:
    leaving = left_out(findings)
    at = {file.path: file for file in findings.found.files}

    def cards(files: Iterable[File], why: dict[Path, str]) -> list[Card]:
        return [_card(findings, file, why.get(file.path, ""), file.path not in leaving) for file in files]

    for copies, about in _COPIES.items():
        # What tells most comes first: labels that contradict each other, then what straddles splits.
        groups = sorted(
            (g for g in findings.groups if g.kind == copies), key=lambda g: (-len(g.labels), -len(g.splits))
        )
        if groups:
            rows = [
                (_joined(group), cards(group.files[:SHOWN_OF_GROUP], leaving)) for group in groups[:SHOWN]
            ]
            yield Section(
                f"{copies.capitalize()} copies", about, rows, len(groups), max(0, len(groups) - SHOWN)
            )
    if findings.suspects:
        some = [at[path] for path in list(findings.suspects)[:SHOWN]]
        rows = [("", cards(some, dict(findings.suspects)))]
        yield Section(
            "Labels in doubt", _SUSPECT, rows, len(findings.suspects), max(0, len(findings.suspects) - SHOWN)
        )
    for kind, of in findings.odd.items():
        if of:
            rows = [("", cards([at[path] for path in list(of)[:SHOWN]], dict(of)))]
            yield Section(kind.capitalize(), _ODD[kind], rows, len(of), max(0, len(of) - SHOWN))


def _joined(group: CopyGroup) -> str:
    across = f"across {' and '.join(group.across)}" if group.across else ""
    more = len(group.files) - SHOWN_OF_GROUP
    return ", ".join(text for text in (across, f"{more} more of this group" if more > 0 else "") if text)


def _card(findings: Findings, file: File, why: str, keep: bool) -> Card:
    facts = findings.facts[file.digest]
    width, height = SIDE, SIDE
    if not facts.unreadable:  # the thumbnail is squeezed to a square; the page gives it its shape back
        long = max(facts.width, facts.height)
        width, height = (max(SIDE // 4, SIDE * side // long) for side in (facts.width, facts.height))
    picture = "" if facts.unreadable else _picture(file.path)
    return Card(findings.name(file), file.label, file.split or "", why, keep, picture, width, height)


def _picture(path: Path) -> str:
    try:
        (pixels,) = decode(path, [SIDE])
    except (ValueError, BadInput):  # removed or damaged since it was looked at
        return ""
    return templates.jpeg(pixels, quality=72)


def _plain(text: str) -> str:
    """In one line, whatever a file's name holds."""
    return text if is_text(text) else ascii(text)[1:-1]
