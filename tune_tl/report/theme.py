"""How every figure looks: one palette, one frame, written as PNG or as SVG that follows the page's theme.

Figures are built through matplotlib's object API; nothing here touches pyplot or its global figure.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from tune_tl.experiment import Transfer
from tune_tl.report.text import BANNER

# Exact hex values: in an SVG they become the page's CSS variables, so a figure follows light and dark.
INK, MUTED, GRID, PAPER = "#1b1f24", "#5f6873", "#dde2e7", "#ffffff"
WARNING = "#b3261e"
# Okabe & Ito 2008, told apart with every common colour blindness; the markers say it a second time.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
_VARIABLES = {
    **{INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", WARNING: "--warning"},
    **{BLUE: "--blue", ORANGE: "--orange", GREEN: "--green", PURPLE: "--purple"},
}
CELL, ON_CELL = "#0068a8", "#fffffe"  # of the confusion matrix: the same in both themes
COLOUR = {
    Transfer.FEATURE_EXTRACTION: BLUE,
    Transfer.PARTIAL: ORANGE,
    Transfer.FULL: GREEN,
    Transfer.SCRATCH: PURPLE,
}
MARKER = {
    Transfer.FEATURE_EXTRACTION: "o",
    Transfer.PARTIAL: "s",
    Transfer.FULL: "^",
    Transfer.SCRATCH: "D",
}

_STYLE: dict[str, Any] = {
    "text.parse_math": False,  # a class named "$5 and $10" is not a formula
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, in the page's own font
}

F1_AXIS = "validation macro-F1"


@dataclass(frozen=True)
class Picture:
    """What to draw and what to call it, for PNG and SVG alike."""

    name: str  # the file's, without .png
    title: str
    subtitle: str
    size: tuple[float, float]  # inches
    draw: Callable[[Figure], None]


def png(path: Path, picture: Picture, *, name: str, drawn: bool) -> None:
    """Write `picture` as a PNG with a header: the banner if the images are `drawn`, the title, the search."""
    width, height = picture.size
    title = f"{picture.title} · {name}" if name else picture.title
    header = 0.78 + (0.34 if drawn else 0.0)
    with _drawing():
        figure = _frame(width, height + header, top=header)
        inch = 1 / (height + header)
        y = 1 - 0.34 * inch
        if drawn:
            figure.text(
                0.5, 1 - 0.2 * inch, BANNER, ha="center", va="center", color=WARNING, weight="bold",
                size=9, bbox={"boxstyle": "round,pad=0.4", "facecolor": "#fdecea", "edgecolor": WARNING},
            )  # fmt: skip
            y -= 0.34 * inch
        figure.text(0.15 / width, y, title, size=13, weight="bold", va="center")
        figure.text(0.15 / width, y - 0.25 * inch, picture.subtitle, size=9, color=MUTED, va="center")
        picture.draw(figure)
        figure.savefig(path, format="png", dpi=150, facecolor=PAPER)


def svg(picture: Picture) -> str:
    """The same picture as an inline SVG element without header, in the colours of the page's variables."""
    buffer = io.StringIO()
    with _drawing({"svg.hashsalt": picture.name}):
        figure = _frame(*picture.size, top=0.0)
        picture.draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 class="plot" aria-hidden="true"', text, count=1)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # of groups, which every figure counts from 1
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


@contextlib.contextmanager
def _drawing(more: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """In this style, without a warning for each character that the font lacks: a box stands for it."""
    with matplotlib.rc_context({**_STYLE, **more}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def clip(text: str, length: int) -> str:
    """`text`, or its two ends around an ellipsis: names of a family differ at both."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def f1_limits(axes: Any, scores: Iterable[float], *, vertical: bool) -> tuple[float, float]:
    """Round limits around the scores: F1 needs no zero, but its end at 1 is shown where it is near."""
    finite = [s for s in scores if np.isfinite(s)] or [0.0, 1.0]
    low = max(0.0, np.floor((min(finite) - 0.02) * 20) / 20)
    high = min(1.0, max(low + 0.2, np.ceil((max(finite) + 0.02) * 20) / 20))
    low = min(low, high - 0.2)  # a lone score is no reason to magnify its neighbourhood
    margin = 0.02 * (high - low)  # a marker at the very end keeps its whole shape
    (axes.set_ylim if vertical else axes.set_xlim)(low - margin, high + margin)
    (axes.yaxis if vertical else axes.xaxis).set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    return low, high


def _frame(width: float, height: float, top: float) -> Figure:
    pad = 0.12  # inches
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, rect=(0, 0, 1, 1 - top / height))
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
