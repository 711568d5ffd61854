"""A search that an earlier version made and that was killed: it is shown, tracked and resumed to its end.

`earlier_version/runs/tiny` is what version 0.1.0 of before the record had a room of its own left behind: two
trials, concluded; then resumed for four, and killed in the third.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.on_record import breaches
from support.place import ONE_AT_A_TIME, Place, place_in
from tune_tl import leaderboard, sync
from tune_tl.record.book import Book
from tune_tl.record.json_files import ResultFacts, SearchFacts

RUNS = Path(__file__).parent / "earlier_version" / "runs"
SPACE = """
dataset: ./images
backbone: [efficientnet_lite0]
image_size: 32
epochs: 4
trials: 2
unfreeze: 0
head_lr: {low: 5e-4, high: 1e-2, log: true}
augment: [none, light]
batch_size: [8, 16]
"""
SHOWN = """\
tiny  2 trials · 1 unfinished · asha-tpe · 39 s
tiny: 42 images, 3 classes, local
champion f84ad5c6: efficientnet_lite0, frozen, light
val F1 0.167, test F1 0.000 [0.00, 0.46]

# trial    backbone           unfreeze val F1 test F1      epochs core-s
────────────────────────────────────────────────────────────────────────
1 f84ad5c6 efficientnet_lite0        0  0.167 0.000        4         4.5
                                              [0.00, 0.46]
2 1edb9fca efficientnet_lite0        0  0.167              4          19

By transfer strategy
                                        scored  best median core-s test F1 [95 %]
─────────────────────────────────────────────────────────────────────────────────────
feature-extraction (efficientnet_lite0) 2 of 2 0.167  0.167     23 0.000 [0.00, 0.46]

F1 is macro-F1. Validation ranks; test is scored once, for the best of each transfer strategy.
"""


def paint(root: Path) -> None:
    """The images that it was started on, byte for byte, whatever libraries are here."""
    for label, colour in {"red": (180, 90, 90), "green": (90, 180, 90), "blue": (90, 90, 180)}.items():
        shutil.rmtree(root / label, ignore_errors=True)
        (root / label).mkdir(parents=True)
        for n in range(14):
            noise = hashlib.shake_128(f"{label} {n}".encode()).digest(40 * 40 * 3)
            pixels = bytes((colour[i % 3] + 2 * value) // 3 for i, value in enumerate(noise))
            (root / label / f"{n}.ppm").write_bytes(b"P6 40 40 255\n" + pixels)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path / "place") as made:
        paint(made.space.parent / "images")
        made.space.write_text(SPACE)
        shutil.copytree(RUNS, made.folder / "runs")
        yield made


def test_it_is_shown_as_before(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert leaderboard.main(["tiny", "--output", str(RUNS)]) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == SHOWN.splitlines()


def test_mlflow_gets_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RUNS, tmp_path / "runs")
    uri, book = f"sqlite:///{tmp_path / 'mlflow.db'}", Book.read(RUNS / "tiny")
    assert sync.main(["tiny", "--output", str(tmp_path / "runs"), "--tracking-uri", uri]) == 0
    assert "has 1 search and 3 trials; 3 were added" in capsys.readouterr().out
    assert breaches(uri, book.ended, book.unfinished, parent="KILLED", experiment="tiny") == []


def test_it_is_resumed_to_its_end(place: Place) -> None:
    folder, before = place.folder / "runs" / "tiny", Book.read(RUNS / "tiny")
    uri = f"sqlite:///{place.folder / 'mlflow.db'}"
    options = ("--resume", "--trials", "4", "--seed", "3", "--tracking-uri", uri, *ONE_AT_A_TIME)
    done = place.run(*options)
    assert (done.code, done.err) == (0, ""), done
    assert "going on with tiny: 2 trials done, 1 cut off" in done.out
    assert "changed since the search began" in done.out

    after = Book.read(folder)
    for file in ("ledger.jsonl", "trials.jsonl"):  # nothing that was acknowledged is written anew
        assert (folder / file).read_bytes().startswith((RUNS / "tiny" / file).read_bytes())
    assert after.ended[:2] == before.ended
    assert len(after.ended) == 4
    assert not after.unfinished
    (cut_off,) = before.unfinished
    lines = Counter((row["trial"], row["epoch"]) for row in place.rows("tiny", "ledger.jsonl"))
    assert set(lines.values()) == {1}
    assert [m.epoch for r in after.ended if r.config == cut_off for m in r.epochs] == [1, 2, 3, 4]

    assert SearchFacts.read(folder).id == SearchFacts.read(RUNS / "tiny").id
    assert ResultFacts.read(folder).trials == 4
    assert (
        json.loads((folder / "result.json").read_text()).keys()
        == json.loads((RUNS / "tiny" / "result.json").read_text()).keys()
    )
    assert breaches(uri, after.ended, experiment="tiny") == []
