"""Cells that people open in a spreadsheet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tune_tl.storage.tables import escaped, unescaped


@given(st.text() | st.sampled_from(["=1+1", "'=1", "''", "-rf", "\t=1", "\r", ""]))
def test_no_text_is_a_formula_and_every_text_comes_back(text: str) -> None:
    cell = escaped(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescaped(cell) == text


def test_what_is_no_text_stays_as_it_is() -> None:
    assert [escaped(value) for value in (None, -1, -0.5)] == [None, -1, -0.5]
