"""How long something took, for people: in words where it is read, as a clock where it runs."""

from __future__ import annotations

import pytest

from tune_tl.terminal.durations import as_clock, in_words


@pytest.mark.parametrize(
    ("seconds", "words", "clock"),
    [
        (0.04, "0.0 s", "0:00"),
        (8.44, "8.4 s", "0:08"),
        (59.4, "59 s", "0:59"),
        (725, "12 min 5 s", "12:05"),
        (3599.7, "1 h 0 min", "1h00m"),
        (12_000, "3 h 20 min", "3h20m"),
    ],
)
def test_a_duration_is_written(seconds: float, words: str, clock: str) -> None:
    assert (in_words(seconds), as_clock(seconds)) == (words, clock)
