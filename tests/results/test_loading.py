"""A search's folder back into a leaderboard: what was acknowledged, and one line for what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_tl.errors import BadInput
from tune_tl.results import loading

Search = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, search: Search) -> Path:
    return search(tmp_path / "runs", trials=4)


@pytest.mark.parametrize("torn", [b'{"t": 1.0, "tri', b"\xff\xfe\x00", b"\x00" * 100, b"[", b"1"])
@pytest.mark.parametrize("file", ["ledger.jsonl", "trials.jsonl"])
def test_what_was_being_written_when_the_process_died_is_passed_over(
    folder: Path, file: str, torn: bytes
) -> None:
    before = loading.load(folder)
    with (folder / file).open("ab") as stream:
        stream.write(torn)
    assert loading.load(folder) == before


def test_a_line_that_lacks_its_end_is_not_on_the_timeline(folder: Path) -> None:
    """It reads well, but was not acknowledged, and the next run removes it."""
    before = loading.load(folder).timeline
    path = folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert loading.load(folder).timeline == before[:-1]


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


SCORE = {"f1": 0.5, "ci": [0.4, 0.6], "accuracy": 0.5, "confusion": [[1]], "report": []}
ROW = {"name": "cat", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 1}


@pytest.mark.parametrize(
    "values",
    [
        {"wall_s": "soon"}, {"wall_s": 1e999}, {"wall_s": 10**400}, {"versions": 5}, {"dataset": [1]},
        {"test_scores": [1]},
        {"test_scores": {"a": None}}, {"test_scores": {"a": SCORE | {"report": [ROW], "f1": "high"}}},
        {"test_scores": {"a": SCORE | {"report": [ROW], "accuracy": None}}},
        {"test_scores": {"a": SCORE | {"report": [ROW], "ci": [0.1]}}},
        {"test_scores": {"a": SCORE | {"report": [ROW], "behind": [0.1]}}},
        {"test_scores": {"a": SCORE | {"report": [ROW], "behind": [None, "x"]}}},
        {"test_scores": {"a": SCORE | {"report": [ROW], "confusion": [["x"]]}}},
        {"test_scores": {"a": SCORE | {"report": [ROW, ROW]}}},
        {"test_scores": {"a": SCORE | {"report": [ROW | {"recall": float("nan")}]}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_of_another_shape_is_told_before_anything_is_shown(
    folder: Path, values: dict[str, Any]
) -> None:
    change(folder, "result.json", **values)
    with pytest.raises(BadInput) as error:
        loading.load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values", [{"seed": "<b>"}, {"seed": True}, {"name": 5}, {"domains": []}, {"class_names": "ab"}], ids=str
)
def test_facts_of_another_kind_are_told_before_anything_is_shown(
    folder: Path, values: dict[str, Any]
) -> None:
    change(folder, "search.json", **values)
    (field,) = values
    with pytest.raises(BadInput, match=rf"search\.json is damaged .*{field} is "):
        loading.load(folder)


def test_a_sound_score_is_taken(folder: Path) -> None:
    change(folder, "result.json", test_scores={"a": SCORE | {"report": [ROW]}}, wall_s=None)
    loading.load(folder)


@pytest.mark.parametrize("file", ["search.json", "result.json"])
@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "[" * 5000, "\udcff", '{"wall_s": 5}x'])
def test_a_file_that_is_damaged_is_named(folder: Path, file: str, text: str) -> None:
    (folder / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as error:
        loading.load(folder)
    assert str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "result.json").unlink()
    (folder / "result.json").mkdir()
    with pytest.raises(BadInput, match=r"result\.json"):
        loading.load(folder)
