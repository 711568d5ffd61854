"""Bring MLflow up to date with a search's record on disk: `python -m tune_tl.sync [NAME]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_tl.errors import BadInput
from tune_tl.terminal.door import Parser

if TYPE_CHECKING:
    from tune_tl.tracking.catch_up import Story

QUIET_S = 2.0  # what takes longer says how far it is


def main(argv: Sequence[str] | None = None) -> int:
    """Complete MLflow's record of a search. 0: done; 2: bad input, or MLflow cannot be had."""
    try:
        return _sync(_parser().parse_args(argv))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


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


def _sync(options: argparse.Namespace) -> int:
    from tune_tl.record.facts import SEARCH_FILE
    from tune_tl.record.folder import claimed, find
    from tune_tl.tracking.catch_up import Incomplete, catch_up
    from tune_tl.tracking.store import same_store, shown

    folder = find(options.output, options.name)
    with claimed(folder):
        facts = _facts(folder / SEARCH_FILE)
        uri = same_store(facts.get("tracking_uri"), options.tracking_uri)
        story = _told(folder, facts)
        try:
            changed = catch_up(uri, story, _Progress())
        except Incomplete as missing:
            raise BadInput(str(missing)) from None
    trials = len(story.past.ended) + len(story.past.cut_off)
    what = f"{len(changed - {''})} were added or completed" if changed else "nothing was missing"
    print(f"MLflow at {shown(uri)} has 1 search and {trials} trials; {what}")
    return 0


def _told(folder: Path, facts: dict[str, Any]) -> Story:
    from tune_tl.driver.observers import report_files
    from tune_tl.record import ledger
    from tune_tl.record.facts import RESULT_FILE
    from tune_tl.tracking.catch_up import Story
    from tune_tl.tracking.description import Findings, Search

    past = ledger.Past(tuple(ledger.read(folder)), ledger.unfinished(folder))
    elapsed = ledger.elapsed(folder)
    files = [file for name in (ledger.EPOCHS_FILE, ledger.ENDS_FILE) if (file := folder / name).exists()]
    # The last line was written when its file was.
    last = max((file.stat().st_mtime for file in files), default=time.time())
    concluded = folder / RESULT_FILE
    result = _facts(concluded) if concluded.exists() else {}
    try:
        # What was concluded before the search went on is no end.
        over = result.get("lines") == ledger.lines(folder)
        findings = Findings.of(result, report_files(folder)) if over else None
        return Story(Search.of(folder, facts), past, findings, last - elapsed, elapsed)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{folder}: its record is damaged or of another version ({error!r})") from None


def _facts(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}); restore it") from None


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
