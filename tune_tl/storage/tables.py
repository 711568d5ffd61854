"""CSV files, which people open in spreadsheets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tune_tl.storage.files import replacing

# What begins so is a formula to a spreadsheet; a quote, too, is told apart from the one that goes before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextlib.contextmanager
def csv_file(path: Path) -> Iterator[TextIO]:
    """What `csv` is to write in place of `path`; names of files in it need not be text. Raises OSError."""
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def escaped(value: Any) -> Any:
    """`value` for a cell that no spreadsheet computes: a name such as `=1+1` goes behind a quote.

    So does what begins with a quote, so that `unescaped` gives every text back. What is no text stays as it
    is. Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if isinstance(value, str) and value.startswith((*_FORMULA, "'")) else value


def unescaped(cell: str) -> str:
    """The text that `escaped` made `cell` of."""
    return cell.removeprefix("'")
