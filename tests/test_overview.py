"""`python -m tune_tl`: which commands there are."""

from __future__ import annotations

from pathlib import Path

import pytest

import tune_tl
from tune_tl.__main__ import DOORS, main


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_every_command_is_named_with_what_it_does(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    package = Path(tune_tl.__file__).parent
    doors = {file.stem for file in package.glob("*.py") if "@door(" in file.read_text()}
    assert DOORS.keys() == doors - {"__main__"}
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, does in DOORS.items():
        assert any(line.split() == ["python", "-m", f"tune_tl.{name}", *does.split()] for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["search", "x"],
            "'search' is no argument of python -m tune_tl; it is python -m tune_tl.search",
        ),
        (["serch"], "'serch' is no argument of python -m tune_tl, did you mean 'search'?"),
        (["x"], "'x' is no argument of python -m tune_tl"),
    ],
)
def test_a_command_is_a_module_of_its_own(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
