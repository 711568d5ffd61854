"""A search's whole record brought to MLflow afterwards, from what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tune_tl.record.ledger import Past
from tune_tl.tracking import health
from tune_tl.tracking.description import Conclusion, Search
from tune_tl.tracking.search_runs import SearchRuns
from tune_tl.tracking.store import quiet_mlflow, shown

REQUEST_SECONDS = 30  # no search waits here


class Incomplete(Exception):
    """MLflow still lacks something. The message is one line about why, and the way out."""


@dataclass(frozen=True)
class Story:
    """A search that does not run now, as its folder tells it."""

    search: Search
    past: Past
    conclusion: Conclusion | None  # None if it was interrupted
    began: float  # seconds since 1970
    elapsed: float  # seconds of search on record


def catch_up(
    uri: str, story: Story, progress: Callable[[int, int], None] = lambda done, of: None
) -> frozenset[str]:
    """Write what MLflow lacks. The trials that it lacked, whole or in part, and "" for the search itself.

    `progress` is told how many steps of how many are done. Raises Incomplete.
    """
    quiet_mlflow(REQUEST_SECONDS)
    where, refused = f"MLflow at {shown(uri)}", None
    steps = list(_steps(story))
    try:
        health.check(uri)
        runs = SearchRuns(uri, story.search, _milliseconds(story.began))
        for done, step in enumerate(steps):
            progress(done, len(steps))
            try:
                step(runs)
            except Exception as error:
                if health.unfit(error) or not health.is_refusal(error):
                    raise
                refused = health.reason(error)
    except Exception as error:
        if why := health.unfit(error):
            way_out = "move it away, or give another --tracking-uri"
            raise Incomplete(f"{where} is left alone: {why}; {way_out}") from None
        if stuck := health.stuck(error, uri):
            raise Incomplete(f"{where} takes nothing: {stuck}; then run this again") from None
        raise Incomplete(f"{where} does not answer: {health.reason(error)}; run this again") from None
    if refused:
        raise Incomplete(f"{where} refused a record: {refused}; all others are there")
    return runs.changed


def _steps(story: Story) -> Iterator[Callable[[SearchRuns], None]]:
    for result in story.past.ended:
        yield partial(SearchRuns.end, result=result, at=_milliseconds(story.began + result.ended))
    last = _milliseconds(story.began + story.elapsed)
    for config, epochs in story.past.cut_off.items():
        yield partial(SearchRuns.leave, config=config, epochs=epochs, at=last)
    if story.conclusion:
        yield partial(SearchRuns.finish, conclusion=story.conclusion, at=last)
    else:
        yield partial(SearchRuns.interrupt, at=last)


def _milliseconds(seconds: float) -> int:
    return int(1000 * seconds)
