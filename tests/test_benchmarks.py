"""The benchmarks run, and print and write what they found. How fast anything was is for them to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rows import HEADINGS, Row, table

ROOT = Path(__file__).parents[1]


# Two that work in one process, one that watches commands; `--fast` runs all of them.
@pytest.mark.parametrize("measures", [["throughput", "probe"], ["sooner"]], ids="-".join)
def test_a_smoke_test_prints_and_writes_a_table_of_ratios(measures: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--fast", "--only", *measures, "--out", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert text in done.stdout
    assert "A smoke test: the figures mean nothing." in text
    for said in (
        "- command: `python -m benchmarks.run --fast",
        "- machine: ",
        "- versions: ",
        "- networks: ",
    ):
        assert said in text
    assert re.findall(r"^## (\S+)$", text, re.MULTILINE) == measures
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0]] == list(HEADINGS)
    compared = [row for row in rows if row[0].strip() not in (HEADINGS[0], "-" * len(HEADINGS[0]))]
    assert compared
    for row in compared:
        ratio = row[3].strip()
        if ratio != "unknown":  # neither side got there
            assert float(ratio.removeprefix("≥ ").removeprefix("≤ ").replace(",", "")) > 0


def test_a_bound_is_said_to_be_one() -> None:
    assert Row("m", "a", "b", 46.91, at_least=True).cells()[3] == "≥ 46.9"
    assert Row("m", "a", "b", 0.5, at_most=True).cells()[3] == "≤ 0.50"
    assert Row("m", "a", "b", None).cells()[3] == "unknown"


def test_what_is_required_is_said_to_be_met_or_not() -> None:
    assert Row("m", "a", "b", 1.0, required="≥ 0.95", met=True).cells()[4] == "≥ 0.95 (met)"
    assert "(NOT met)" in table([Row("m", "a", "b", 0.9, required="≥ 0.95", met=False)])


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_is_a_positive_number(ratio: float) -> None:
    with pytest.raises(ValueError, match="a ratio is a positive number"):
        Row("m", "a", "b", ratio)
