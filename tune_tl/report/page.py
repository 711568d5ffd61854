"""What a search leaves behind for people: CSV, a self-contained page, plots, the champion's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_tl.experiment import LATER
from tune_tl.report import templates
from tune_tl.report.text import BANNER, caution, costs, without_images
from tune_tl.results import comparison, leaderboard_files
from tune_tl.results.comparison import By
from tune_tl.results.importance import LEAST
from tune_tl.results.look import PREDICTIONS_FILE
from tune_tl.results.ranking import Leaderboard, Row, unit
from tune_tl.results.scores import TestScore
from tune_tl.storage.files import replacing, write_text
from tune_tl.terminal.durations import amount, in_words

CSV_FILE, PAGE_FILE, REPORT_FILE = "leaderboard.csv", "leaderboard.html", "classification_report.txt"
_FIRST = 25  # ranked trials that the page shows unfolded


def write(folder: Path, board: Leaderboard) -> list[Path]:
    """Write every file of the report into `folder`, which must exist, and return their paths.

    `leaderboard.csv` and `leaderboard.html` always; pictures of what there is to see (see plots.pictures);
    the champion's classification report once it has a test score. A picture of an earlier report that
    there is nothing more to see of goes.
    """
    from tune_tl.report import plots, theme  # matplotlib takes half a second

    leaderboard_files.write_csv(folder / CSV_FILE, board)
    write_text(folder / PAGE_FILE, page(board))
    written = [folder / CSV_FILE, folder / PAGE_FILE]
    for picture in plots.pictures(board):
        written.append(folder / f"{picture.name}.png")
        with replacing(written[-1]) as part:
            theme.png(part, picture, name=board.about.name, drawn=board.about.drawn)
    if board.champion and board.champion.test:
        written.append(folder / REPORT_FILE)
        write_text(written[-1], classification_report(board.champion.test))
    for name in plots.NAMES:
        if (old := folder / f"{name}.png") not in written:
            old.unlink(missing_ok=True)
    return written


def report_files(folder: Path) -> list[Path]:
    """What `write` has written into a search's folder, and the champion's answers: MLflow keeps them too."""
    named = (CSV_FILE, PAGE_FILE, REPORT_FILE, PREDICTIONS_FILE)
    return [*(folder / name for name in named if (folder / name).exists()), *sorted(folder.glob("*.png"))]


def classification_report(test: TestScore) -> str:
    """Precision, recall and F1 of each class on the test split, and their means, as a text table.

    A ratio that has nothing to divide by is a dash, and no part of a mean.
    """
    width = max(12, *(len(row.name) for row in test.report))
    lines = [f"{'':>{width}}  precision  recall      f1  support", ""]
    for row, (precision, recall, f1) in zip(test.report, ratios(test), strict=True):
        lines.append(f"{row.name:>{width}}  {precision:>9}  {recall:>6}  {f1:>6}  {row.support:7d}")
    low, high = test.ci
    lines += [
        "",
        f"{'accuracy':>{width}}  {'':9}  {'':6}  {test.accuracy:6.3f}  {test.images:7d}",
        f"{'macro-F1':>{width}}  {'':9}  {'':6}  {test.f1:6.3f}  {test.images:7d}",
        "",
        f"95 % interval of macro-F1: {low:.3f} to {high:.3f} (percentile bootstrap over test images)",
    ]
    if absent := without_images(test):
        lines.append(absent)
    return "\n".join(lines) + "\n"


def ratios(test: TestScore) -> list[tuple[str, str, str]]:
    """Each class's precision, recall and F1 in digits, `-` for what cannot be told."""
    predicted = [sum(column) for column in zip(*test.confusion, strict=True)]

    def digits(value: float, of: int) -> str:
        return f"{value:.3f}" if of else "-"

    return [
        (digits(row.precision, n), digits(row.recall, row.support), digits(row.f1, n + row.support))
        for row, n in zip(test.report, predicted, strict=True)
    ]


def page(board: Leaderboard) -> str:
    """The leaderboard as one HTML document that asks nothing of the network.

    Every value is escaped; the SVG that matplotlib wrote, and escaped, goes in as it is.
    """
    from markupsafe import Markup

    from tune_tl.report import gallery, plots, theme

    look, seen = board.look, plots.pictures(board)
    drawings = {p.name: (p, Markup(theme.svg(p))) for p in seen if p.name != "mistakes"}
    environment = templates.environment()
    environment.filters.update(amount=amount, costs=costs, in_words=in_words)
    return environment.get_template("leaderboard.html.j2").render(
        board=board,
        about=board.about,
        champion=board.champion,
        banner=BANNER if board.about.drawn else None,
        verdict=comparison.verdict(board),
        ratios=ratios,
        without_images=without_images,
        zip=zip,
        mistakes=_mistakes(board),
        mistakes_title=gallery.MISTAKES_TITLE,
        mistakes_subtitle=gallery.mistakes_subtitle(look) if look else "",
        least=LEAST,
        groups=comparison.compare(board, By.STRATEGY),
        drawings=drawings,
        first=_FIRST,
        unit=unit,
        spark=_spark,
        forest=(ends := _forest(board)),
        span=lambda value: 100 * (value - ends[0]) / (ends[1] - ends[0]),
        settings=_settings,
        caution=caution(board),
        total=comparison.compare_searches([board])[0],
    )


def _mistakes(board: Leaderboard) -> list[dict[str, str]]:
    """The contact sheet's pictures, inside the page, with what belongs to each."""
    from tune_tl.report.gallery import percent

    look = board.look
    if look is None or board.champion is None or board.champion.test is None:
        return []
    names = [row.name for row in board.champion.test.report]
    return [
        {
            "src": templates.jpeg(image, quality=85),
            "file": str(look.files[row]),
            "true": names[look.labels[row]],
            "taken_for": names[look.predicted[row]],
            "confidence": percent(look.confidence[row]),
        }
        for image, row in zip(look.thumbnails, look.mistakes, strict=True)
    ]


def _spark(row: Row, width: int = 72, height: int = 18) -> str:
    """The points of a trial's val_f1 over its epochs, as an SVG polyline's attribute; F1 from 0 to 1."""
    scores = [e.val_f1 for e in row.result.epochs if e.val_f1 == e.val_f1]
    step = width / max(1, row.config.epochs - 1)
    return " ".join(f"{min(width, i * step):.1f},{(1 - s) * height:.1f}" for i, s in enumerate(scores))


def _settings(values: Mapping[str, Any], skip: Sequence[str] = ("backbone", "unfreeze")) -> str:
    usual = LATER if values["head_layers"] == 1 else LATER.keys() - {"head_width"}  # said if not as usual
    shown = {k: v for k, v in values.items() if v is not None and not (k in usual and v == LATER[k])}
    texts = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in shown.items() if k not in skip}
    return " · ".join(f"{k} {v}" for k, v in texts.items())


def _forest(board: Leaderboard) -> tuple[float, float]:
    """The ends of the finalists' axis: tenths of F1 around every interval and score."""
    values = [v for row in board.finalists if row.test for v in (*row.test.ci, row.val_f1)] or [0.0, 1.0]
    values += [row.train.f1 for row in board.finalists if row.train]
    high = min(1.0, math.ceil(max(values) * 10) / 10)
    return max(0.0, min(high - 0.1, math.floor(min(values) * 10) / 10)), high
