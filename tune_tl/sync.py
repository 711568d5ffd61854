"""Bring MLflow up to date with a search's record on disk: `python -m tune_tl.sync [NAME]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.errors import BadInput
from tune_tl.terminal.door import Parser, door

if TYPE_CHECKING:
    from tune_tl.record.json_files import SearchFacts
    from tune_tl.tracking.catch_up import Story

QUIET_S = 2.0  # what takes longer says how far it is


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.sync",
        description="Bring MLflow up to date with the record on disk of a search that does not run.",
        epilog="What MLflow has is not written again.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a search under runs/ (default: the newest)")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow's (default: $MLFLOW_TRACKING_URI, else the one that the search had)",
    )
    return parser


@door(_parser)
def main(options: argparse.Namespace) -> int:
    """Complete MLflow's record of a search. 0: done; 2: bad input, or MLflow cannot be had; 130, 143:
    interrupted.
    """
    from tune_tl.record.folder import claimed, search_folder
    from tune_tl.record.json_files import SearchFacts
    from tune_tl.tracking.catch_up import Incomplete, catch_up
    from tune_tl.tracking.store import same_store, shown

    folder = search_folder(options.output, options.name)
    with claimed(folder):
        facts = SearchFacts.read(folder, required=["id", "space", "strategy", "dataset", "class_names"])
        uri = same_store(facts.tracking_uri, options.tracking_uri)
        story = _story(folder, facts)
        try:
            changed = catch_up(uri, story, _Progress())
        except Incomplete as missing:
            raise BadInput(str(missing)) from None
    trials = len(story.past.ended) + len(story.past.cut_off)
    what = f"{len(changed - {''})} were added or completed" if changed else "nothing was missing"
    print(f"MLflow at {shown(uri)} has 1 search and {trials} trials; {what}")
    return 0


def _story(folder: Path, facts: SearchFacts) -> Story:
    """What the record says of a search. Raises BadInput if it is damaged."""
    from tune_tl.record.book import Book
    from tune_tl.record.json_files import RESULT_FILE, ResultFacts
    from tune_tl.record.ledger import Past
    from tune_tl.report.page import report_files
    from tune_tl.tracking.catch_up import Story
    from tune_tl.tracking.description import Conclusion, Search

    book = Book.read(folder)
    result = ResultFacts.read(folder) if (folder / RESULT_FILE).exists() else ResultFacts()
    # What was concluded before the search went on is no end.
    over = result.lines == len(book.lines)
    try:
        return Story(
            Search.of(folder, facts),
            Past(tuple(book.ended), book.unfinished),
            Conclusion.of(result, report_files(folder)) if over else None,
            book.written - book.elapsed,
            book.elapsed,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{folder}: its record is damaged or of another version ({error!r})") from None


class _Progress:
    """Says how far it is, if that takes long."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        if done and time.monotonic() - self._said > QUIET_S:
            self._said = time.monotonic()
            print(f"{done} of {of} done", flush=True)


if __name__ == "__main__":
    sys.exit(main())
