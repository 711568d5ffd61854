"""Labels that a probe doubts: those that were exchanged, and none that is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tune_tl.data.audit.findings import Findings, inspect
from tune_tl.data.folder import list_images
from tune_tl.training import arithmetic, suspects

EACH = 16
WRONG = {"ring/block3.png", "block/ring5.png"}


def drawn(shape: str, n: int) -> Image.Image:
    random = np.random.default_rng(n + 1000 * (shape == "ring"))
    image = Image.fromarray(random.integers(150, 255, (9, 9, 3), dtype=np.uint8)).resize((160, 160))
    x, y, r = random.integers(20, 50), random.integers(20, 50), random.integers(60, 90)
    colour = tuple(int(v) for v in random.integers(0, 120, 3))
    pen = ImageDraw.Draw(image)
    if shape == "ring":
        pen.ellipse((x, y, x + r, y + r), outline=colour, width=12)
    else:
        pen.rectangle((x, y, x + r, y + r // 2), fill=colour)
    return image


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    root = tmp_path_factory.mktemp("shapes")
    for shape, other in (("ring", "block"), ("block", "ring")):
        for n in range(EACH):
            label = other if f"{other}/{shape}{n}.png" in WRONG else shape
            (root / label).mkdir(exist_ok=True)
            drawn(shape, n).save(root / label / f"{shape}{n}.png")
    return inspect(list_images(root))


def test_labels_that_were_exchanged_are_doubted_and_others_are_not(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which of the two is faster is measured, and how often the probe is right depends on it.
    monkeypatch.setattr(arithmetic, "precision", lambda device: "f32")
    network = suspects.network()
    assert network is not None
    told: list[tuple[int, int]] = []
    found, note = suspects.suspects(findings, network, lambda done, total: told.append((done, total)))
    assert {path.relative_to(findings.found.root).as_posix() for path in found} == WRONG
    assert note == "labels are doubted by a probe on efficientnet_lite0 that is right for 91%"
    assert all(why.startswith(("looks like block (0.", "looks like ring (0.")) for why in found.values())
    assert told[-1] == (2 * EACH, 2 * EACH)


def test_a_class_of_one_image_is_told_and_not_guessed_at(tmp_path: Path) -> None:
    for label, count in (("ring", 3), ("block", 1)):
        (tmp_path / label).mkdir()
        for n in range(count):
            drawn(label, n).save(tmp_path / label / f"{n}.png")
    network = suspects.network()
    assert network is not None
    found, note = suspects.suspects(inspect(list_images(tmp_path)), network)
    assert not found
    assert "'block' has too few images" in note


def test_copies_share_a_fold(tmp_path: Path) -> None:
    for label in ("ring", "block"):
        (tmp_path / label).mkdir()
        for n in range(3):
            drawn(label, n).save(tmp_path / label / f"{n}.png")
    drawn("ring", 0).resize((100, 100)).save(tmp_path / "ring" / "again.png")
    seen = inspect(list_images(tmp_path))
    files = list(seen.found.files)
    numbers = dict(zip((seen.name(file) for file in files), suspects._groups(seen, files), strict=True))
    assert numbers["ring/again.png"] == numbers["ring/0.png"]
    assert len(set(numbers.values())) == len(files) - 1
