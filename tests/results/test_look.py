"""What the champion made of the test images is kept whole, and pictures are made from that alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.searches import make_look
from tune_tl.errors import BadInput
from tune_tl.experiment import TrialResult
from tune_tl.report import gallery
from tune_tl.results import look
from tune_tl.results.look import LOOK_FILE, MISTAKES, PREDICTIONS_FILE, Look, most_confident, placed
from tune_tl.results.ranking import Leaderboard
from tune_tl.results.scores import score

CLASSES = ("cat", "=1+1", "ünïcode")


@pytest.fixture
def seen() -> Look:
    return make_look("ab12cd34", score([0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 0, 2, 2, 0], CLASSES))


def test_it_is_read_as_it_was_written(tmp_path: Path, seen: Look) -> None:
    seen.write(tmp_path, CLASSES)
    again = look.read(tmp_path)
    assert again is not None
    assert again.trial == seen.trial
    for name in ("files", "labels", "probabilities", "places", "mistakes", "thumbnails"):
        assert np.array_equal(getattr(again, name), getattr(seen, name)), name
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOOK_FILE, PREDICTIONS_FILE]


def test_the_table_has_a_line_an_image_and_no_formula(tmp_path: Path, seen: Look) -> None:
    seen.write(tmp_path, CLASSES)
    with (tmp_path / PREDICTIONS_FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == seen.files.tolist()
    assert [row["true"] for row in rows] == [("cat", "'=1+1", "ünïcode")[label] for label in seen.labels]
    assert list(rows[0])[4:] == ["p(cat)", "p(=1+1)", "p(ünïcode)"]
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in CLASSES}
        best = max(shares, key=lambda name: shares[name])
        assert row["predicted"].lstrip("'") == best
        assert float(row["confidence"]) == shares[best]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, trial=np.array([object()], dtype=object))


def _misfits(path: Path) -> None:
    with np.load(path) as found:
        values = dict(found)
    with path.open("wb") as file:
        np.savez(file, **values | {"labels": values["labels"][:-1]})


@pytest.mark.parametrize("damage", [_cut, _pickled, _misfits, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_named_and_never_executed(
    tmp_path: Path, seen: Look, damage: Callable[[Path], None]
) -> None:
    seen.write(tmp_path, CLASSES)
    damage(tmp_path / LOOK_FILE)
    with pytest.raises(BadInput, match=rf"{LOOK_FILE} is damaged .*restore it, or remove it") as error:
        look.read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_look_of_a_former_champion_is_none(trial: Callable[..., TrialResult], seen: Look) -> None:
    result = trial([0.9])
    tested = score([0, 1], [0, 1], CLASSES[:2])
    assert Leaderboard.of([result], {result.trial: tested}, look=seen).look is None
    mine = make_look(result.trial, tested)
    assert Leaderboard.of([result], {result.trial: tested}, look=mine).look is mine
    assert Leaderboard.of([result], {}, look=mine).look is None
    of_more_classes = {result.trial: score([0, 1], [0, 1], CLASSES)}
    assert Leaderboard.of([result], of_more_classes, look=mine).look is None


def test_the_surest_mistakes_come_first_and_what_is_right_never() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 200).astype(np.float32)
    labels = random.integers(0, 4, 200)
    chosen = most_confident(probabilities, labels)
    guesses, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    assert len(chosen) == MISTAKES
    assert (guesses[chosen] != labels[chosen]).all()
    assert (np.diff(sure[chosen]) <= 0).all()
    others = np.setdiff1d(np.flatnonzero(guesses != labels), chosen)
    assert sure[others].max() <= sure[chosen].min()
    assert len(most_confident(probabilities, guesses)) == 0


def test_groups_that_are_apart_stay_apart_in_the_map() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    embeddings = (20 * random.normal(size=(3, 40))[labels] + random.normal(size=(90, 40))).astype(np.float32)
    places = placed(embeddings)
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(90, np.inf))
    assert (labels[away.argmin(axis=1)] == labels).all()
    assert np.array_equal(places, placed(embeddings))


@pytest.mark.parametrize("images", [1, 2, 9, 10, 12])
@pytest.mark.parametrize("features", [1, 5])
def test_few_images_have_places_too(images: int, features: int) -> None:
    embeddings = np.random.default_rng(0).normal(size=(images, features)).astype(np.float32)
    for each in (embeddings, np.zeros_like(embeddings), np.full_like(embeddings, np.nan)):
        places = placed(each)
        assert places.shape == (images, 2)
        assert np.isfinite(places).all()


def test_of_many_images_some_are_drawn_and_that_is_said(monkeypatch: pytest.MonkeyPatch, seen: Look) -> None:
    monkeypatch.setattr(look, "DRAWN", 12)
    places = placed(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    assert np.isfinite(places).all(axis=1).sum() == 12
    part = Look(**vars(seen) | {"places": np.where(np.arange(7)[:, None] < 4, seen.places, np.nan)})
    assert "4 of 7 test images" in gallery.embeddings(part, CLASSES).subtitle
    assert "given of 7 test images" in gallery.embeddings(seen, CLASSES).subtitle


@pytest.mark.parametrize("classes", [2, 10, 42])
def test_no_name_in_the_map_covers_another(classes: int) -> None:
    random = np.random.default_rng(classes)
    places = random.uniform(0, (9.9, 7.8), (60 * classes, 2))
    half = np.full((classes, 2), (0.9, 0.1))
    at = gallery._apart(places[:classes], half, places)
    apart = np.abs(at[:, None] - at[None]) >= 2 * half[0] - 1e-3
    assert (apart.any(axis=2) | np.eye(classes, dtype=bool)).all()


def test_only_what_is_certain_is_called_so() -> None:
    assert [gallery.percent(share) for share in (0.5, 0.974, 0.996, 0.99999, 1.0)] == [
        *("50 %", "97 %", "99.6 %", "99.9 %", "99.9 %")
    ]
