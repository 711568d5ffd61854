"""What is told to a person who gave something that cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """What the user gave cannot be used. The message is one line naming the value and the way out.

    Every door turns it into exit code 2 without a traceback.
    """


def near(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` if something known is spelt nearly so, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=2)
    return f", did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
