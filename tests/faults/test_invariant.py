"""The invariant holds of a sound record, and whatever is wrong with one is found."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.invariant import Seen, breaches, lost

Row = tuple[str, int | str]  # a trial, and an epoch or how it ended
SOUND: tuple[Row, ...] = (
    ("a", 1),
    ("b", 1),
    ("a", 2),
    ("a", "completed"),
    ("b", "stopped"),
    ("c", "stopped"),  # the budget ended before its first epoch did
    ("c", 1),
    ("c", 2),
    ("c", "completed"),
)


def record(rows: Sequence[Row], **changed: Any) -> Seen:
    """A record with these rows, of trials with two epochs; `changed` is in the last one."""
    files: dict[type, list[bytes]] = {int: [], str: []}
    for n, (trial, what) in enumerate(rows, 1):
        row: dict[str, Any] = {"trial": trial, "config": {"epochs": 2}, "n": n}
        row |= {"t": float(n), "epoch": what} if isinstance(what, int) else {"ended": float(n), "state": what}
        whole = json.dumps(row | (changed if n == len(rows) else {})).encode()
        files[type(what)].append(whole[:-1] + b', "crc": "%08x"}' % zlib.crc32(whole))
    return Seen(tuple(files[int]), tuple(files[str]))


def test_nothing_is_wrong_with_a_sound_record() -> None:
    for length in range(len(SOUND) + 1):
        assert breaches(record(SOUND[:length])) == []
    assert breaches(record(SOUND), trials=3) == []
    assert record(SOUND).acknowledged() == {"a": 2, "b": 1, "c": 2}
    assert record(SOUND).ended() == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("rows", "breach"),
    [
        ([("a", 1), ("a", 1)], "trial a: epoch 1 follows 1"),
        ([("a", 1), ("a", 2), ("a", 1)], "trial a: epoch 1 follows 2"),
        ([("a", 2)], "trial a: epoch 2 follows 0"),
        ([("a", 1), ("a", "completed")], "trial a: completed after 1 of 2 epochs"),
        ([("a", 1), ("a", 2), ("a", "stopped")], "trial a: stopped after 2 of 2 epochs"),
        ([("a", 1), ("a", "stopped"), ("a", "stopped")], "trial a: goes on after it was stopped"),
        ([("a", 1), ("a", "stopped"), ("a", 1)], "trial a: goes on after it was stopped"),
        ([("a", 1), ("a", 2), ("a", "completed"), ("a", 1)], "trial a: goes on after it was completed"),
        ([("a", 1), ("a", "failed"), ("a", 1)], "trial a: goes on after it was failed"),
    ],
)
def test_a_trial_that_went_otherwise_than_it_may_is_found(rows: list[Row], breach: str) -> None:
    assert breaches(record(rows)) == [f"{breach} (line {len(rows)})"]


def test_what_failed_may_be_tried_again_where_that_was_asked_for() -> None:
    rows: list[Row] = [("a", 1), ("a", "failed"), ("a", 1), ("a", 2), ("a", "completed")]
    assert breaches(record(rows), trials=1, retried=True) == []


def test_a_search_is_not_done_before_all_its_trials_are() -> None:
    assert breaches(record([("a", 1)]), trials=1) == ["trial a never ended"]
    assert breaches(record(SOUND), trials=4) == ["3 trials where there should be 4"]


def test_lines_that_are_gone_changed_or_there_twice_are_found() -> None:
    sound = record(SOUND)
    gone = replace(sound, epochs=sound.epochs[1:])
    assert "lines are gone or there twice: [2, 3, 4, 5, 6, 7, 8, 9]" in breaches(gone)
    twice = replace(sound, epochs=(*sound.epochs, sound.epochs[-1]))
    assert "lines are gone or there twice: [1, 2, 3, 4, 5, 6, 7, 8, 8, 9]" in breaches(twice)
    changed = replace(sound, epochs=(sound.epochs[0].replace(b"1.0", b"0.0"), *sound.epochs[1:]))
    assert any(found.startswith("its crc is another") for found in breaches(changed))
    swapped = replace(sound, epochs=sound.epochs[::-1])
    assert any("out of order" in found for found in breaches(swapped))


def test_a_time_that_goes_back_is_found() -> None:
    assert breaches(record([("a", 1), ("a", 2)], t=0.5)) == ["time goes back from 1.0 to 0.5"]


def test_a_line_that_was_there_and_is_not_is_lost() -> None:
    before = record(SOUND[:5])
    assert lost(before, record(SOUND)) == []
    assert len(lost(before, replace(before, ends=before.ends[:1]))) == 1
    assert len(lost(before, replace(before, epochs=before.epochs[1:]))) == 3
