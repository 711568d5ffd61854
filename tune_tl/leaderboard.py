"""Show what a search found: `python -m tune_tl.leaderboard [NAME]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.errors import BadInput
from tune_tl.terminal.door import Parser, door

if TYPE_CHECKING:
    from tune_tl.results.ranking import Leaderboard

BY = ("strategy", "backbone", "search")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.leaderboard",
        description="The ranked trials of a search and a comparison of its transfer strategies.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a search under runs/ (default: the newest)")
    parser.add_argument("--by", choices=BY, default="strategy", help="what to compare (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the leaderboard as one HTML page")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    return parser


@door(_parser)
def main(options: argparse.Namespace) -> int:
    """Print the leaderboard. 0: done; 1: no trial of the search has a score; 2: bad input; 130, 143:
    interrupted.
    """
    from tune_tl.record.folder import search_folder, searches
    from tune_tl.results.loading import load  # numpy: not for --help

    board = load(search_folder(options.output, options.name))
    others: list[Leaderboard] = []
    if options.by == "search":
        others = [load(options.output / name) for name in searches(options.output)]
    if options.html:
        _write_page(options.html, board)
    if options.json:
        _print_json(board, options.by, others)
    else:
        _print_tables(board, options.by, others)
    return 0 if board.rows else 1


def _write_page(path: Path, board: Leaderboard) -> None:
    from tune_tl.report import page

    if not path.parent.is_dir() or path.is_dir():
        raise BadInput(f"--html {path}: give a file in a folder that exists")
    # A reason may name a file whose name is no text.
    path.write_text(page.page(board), encoding="utf-8", errors="backslashreplace")
    print(f"wrote {path}", file=sys.stderr)


def _print_json(board: Leaderboard, by: str, others: Sequence[Leaderboard]) -> None:
    from tune_tl.results import comparison, leaderboard_files

    values = leaderboard_files.to_dict(board, comparison.By(by))
    if others:
        values["comparison"] = [group.to_dict() for group in comparison.compare_searches(others)]
    print(json.dumps(values, indent=2, allow_nan=False))


def _print_tables(board: Leaderboard, by: str, others: Sequence[Leaderboard]) -> None:
    from rich.console import Console

    from tune_tl.report import text

    console = Console(highlight=False)
    console.print(text.searches(others) if others else text.text(board, by))


if __name__ == "__main__":
    sys.exit(main())
