"""What a benchmark finds: rows of one table, shown as they come and kept as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("measure", "tune_tl", "against", "ratio", "required")


@dataclass(frozen=True)
class Row:
    """One comparison. Ratios are so that more is better for tune_tl, unless `measure` says otherwise."""

    measure: str
    ours: str
    against: str
    ratio: float | None  # None: neither side got there
    at_least: bool = False  # the other side was ended before it got there: a lower bound
    at_most: bool = False  # ours was: an upper bound
    required: str = ""
    met: bool | None = None
    note: str = ""  # what a reader must know to believe the figure; below the table

    def __post_init__(self) -> None:
        if self.ratio is not None and not (math.isfinite(self.ratio) and self.ratio > 0):
            raise ValueError(f"{self.measure}: a ratio is a positive number, but got {self.ratio!r}")

    def cells(self) -> tuple[str, ...]:
        bound = "≥ " * self.at_least + "≤ " * self.at_most
        verdict = {None: "", True: " (met)", False: " (NOT met)"}[self.met]
        ratio = "unknown" if self.ratio is None else bound + _short(self.ratio)
        return self.measure, self.ours, self.against, ratio, self.required + verdict


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with the notes below it."""
    lines = [HEADINGS, tuple("-" * len(heading) for heading in HEADINGS), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    notes = [f"- **{row.measure}**: {row.note}" for row in rows if row.note]
    return "\n".join([*text, *([""] if notes else []), *notes])


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"
