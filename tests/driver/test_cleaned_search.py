"""A search and the list of an audit: which it goes by, what it says of it, and what is never lost."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tune_tl import audit
from tune_tl.data.audit import cleaned
from tune_tl.data.audit.findings import inspect
from tune_tl.data.folder import Dataset, list_images
from tune_tl.data.locating import PUBLISHED, find_dataset
from tune_tl.driver.resuming import begin
from tune_tl.errors import BadInput
from tune_tl.experiment import Experiment
from tune_tl.preflight.ready import Ready
from tune_tl.record.json_files import SEARCH_FILE, SearchFacts
from tune_tl.spaces import reading
from tune_tl.tracking.description import Search
from tune_tl.training import suspects

EACH = 8
RUNS = Path("runs")
NAMED, OWN = RUNS / "audit-tank_elephant" / cleaned.LIST, RUNS / "audit-pictures" / cleaned.LIST


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes that need a split, one with a copy; the working directory beside them."""
    for i, label in enumerate(("elephant", "tank")):
        for n in range(EACH):
            paint(tmp_path / "pictures" / label / f"{n}.png", 100 * i + n)
    paint(tmp_path / "pictures" / "tank" / "copy.png", 100)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("TUNE_TL_DATA", raising=False)
    return tmp_path / "pictures"


def searched(images: Path, *, clean: bool = False, name: str = "tank_elephant") -> Dataset:
    space, _ = reading.load(name)
    return find_dataset(
        space.dataset, images, Console(file=io.StringIO()), space=space.name, clean=clean, output=RUNS
    )


def audited(images: Path, made: Path = OWN, at: float | None = None) -> None:
    cleaned.save(made.parent, inspect(list_images(images)))
    if at is not None:
        os.utime(made.with_name(cleaned.RECORD), (at, at))


def edit(made: Path, name: str, keep: str) -> None:
    rows = made.read_text().splitlines()
    (at,) = [n for n, row in enumerate(rows) if row.startswith(f"{name},")]
    path, label, split, *_ = rows[at].split(",")
    rows[at] = f"{path},{label},{split},{keep},by hand"
    made.write_text("\n".join([*rows, ""]))


def gone(found: Dataset) -> set[str]:
    names = {file.path.relative_to(found.root).as_posix() for file in found.left_out}
    assert not names & {image.path.relative_to(found.root).as_posix() for image in found.images}
    return names


# --- which list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [False, True])
def test_a_folder_that_was_audited_is_searched_by_its_list_under_any_name(
    images: Path, clean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "BACKBONES", {})  # no label is to be doubted
    assert audit.main([str(images)]) == 0
    edit(OWN, "tank/5.png", "no")
    found = searched(images, clean=clean)
    assert gone(found) == {"tank/5.png", "tank/copy.png"}
    assert found.left_out_by == OWN
    assert f"2 images left out by the audit ({OWN})" in found.notes
    assert [path.name for path in RUNS.iterdir()] == ["audit-pictures"]  # no second list


def test_a_dataset_that_was_audited_by_its_name_is_searched_so_as_a_folder(images: Path) -> None:
    audited(images, NAMED)
    edit(NAMED, "tank/5.png", "no")
    space, data = reading.load(str(images))
    found = find_dataset(space.dataset, data, Console(file=io.StringIO()), space=space.name, output=RUNS)
    assert gone(found) == {"tank/5.png", "tank/copy.png"}


@pytest.mark.parametrize(("newer", "older"), [(OWN, NAMED), (NAMED, OWN)])
def test_of_two_audits_of_the_same_images_the_newer_counts_and_the_other_is_named(
    images: Path, newer: Path, older: Path
) -> None:
    audited(images, older, 1000.0)
    audited(images, newer, 2000.0)
    edit(older, "tank/5.png", "no")  # its file is the newer one now, its audit is not
    edit(newer, "tank/6.png", "no")
    found = searched(images)
    assert gone(found) == {"tank/6.png", "tank/copy.png"}
    assert f"{older} is not used: {newer} is newer" in found.notes


def test_a_list_of_other_images_in_the_same_folder_is_named_and_one_of_another_folder_is_not(
    images: Path, tmp_path: Path
) -> None:
    audited(images)
    other = tmp_path / "others"
    for label in ("cat", "dog"):
        paint(other / label / "0.png", ord(label[0]))
    audited(other, RUNS / "audit-others" / cleaned.LIST)
    paint(images / "tank" / "new.png", 77)
    found = searched(images)
    assert gone(found) == set()
    assert found.left_out_by is None
    (note,) = [note for note in found.notes if "is not used" in note]
    assert note.startswith(f"{OWN} is not used: the images changed since")
    assert "python -m tune_tl.audit makes a list for these images" in found.notes


def test_what_is_no_record_of_an_audit_is_passed_over(images: Path) -> None:
    audited(images)
    for n, text in enumerate(["", "[]", '"x"', "{}", '{"root": 1}', "[" * 9999]):
        folder = RUNS / f"audit-{n}"
        folder.mkdir()
        (folder / cleaned.LIST).write_text("x")
        (folder / cleaned.RECORD).write_text(text)
    (RUNS / "audit-none").mkdir()
    (RUNS / "audit-none" / cleaned.LIST).write_text("x")
    assert searched(images).left_out_by == OWN


# --- what was edited --------------------------------------------------------------------------------


def test_no_list_that_was_edited_is_lost_however_often_it_is_made_anew(images: Path) -> None:
    searched(images, clean=True)
    olds = []
    for n, old in enumerate(["files.old.csv", "files.old-2.csv", "files.old-3.csv"]):
        edit(NAMED, f"tank/{n}.png", "no")
        olds.append((NAMED.with_name(old), NAMED.read_text()))
        paint(images / "tank" / f"new {n}.png", 200 + n)
        found = searched(images, clean=True)
        assert gone(found) == {"tank/copy.png"}
        (unused,) = [note for note in found.notes if "is not used" in note]
        assert unused.startswith(f"{NAMED} is not used: the images changed since")
        assert any("made anew" in note and note.endswith(str(olds[-1][0])) for note in found.notes)
        assert [path.read_text() for path, _ in olds] == [text for _, text in olds]
    assert not [note for note in searched(images, clean=True).notes if "anew" in note]  # told once


def test_the_audit_names_the_list_that_it_replaced_and_no_older_one(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "BACKBONES", {})
    assert audit.main([str(images)]) == 0
    for n, old in enumerate(["files.old.csv", "files.old-2.csv"]):
        edit(OWN, f"tank/{n}.png", "no")
        assert audit.main([str(images)]) == 0
        assert capsys.readouterr().out.endswith(f"the list before it: {OWN.with_name(old)}\n")
    assert audit.main([str(images)]) == 0  # replaces nothing
    assert "the list before it" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["two\rlines.png", "two\r\nlines.png", "\r.png", "end\r", "a\r,b"])
def test_a_list_can_be_read_whatever_the_files_are_called(images: Path, name: str) -> None:
    name = name if name.endswith(".png") else f"{name}.png"
    paint(images / "tank" / name, 100)  # a copy
    paint(images / "elephant" / name, 300)
    found = searched(images, clean=True)
    assert len(gone(found)) == 2
    assert gone(found) < {"tank/0.png", "tank/copy.png", f"tank/{name}"}
    assert name in {image.path.name for image in found.images}


# --- what is on record ------------------------------------------------------------------------------


def published(images: Path) -> Path:
    """The same images with a split that is given; a copy of a test image lies in train."""
    for label in ("elephant", "tank"):
        for n, split in enumerate(("train",) * 4 + ("val", "val", "test", "test")):
            (images / split / label).mkdir(parents=True, exist_ok=True)
            (images / label / f"{n}.png").rename(images / split / label / f"{n}.png")
    (images / "tank" / "copy.png").rename(images / "train" / "tank" / "copy.png")
    for label in ("elephant", "tank"):
        (images / label).rmdir()
    return images


def test_what_an_audit_left_out_is_said_with_the_dataset(images: Path) -> None:
    assert "left_out" not in searched(images).describe()
    audited(images)
    assert searched(images).describe()["left_out"] == 1
    edit(OWN, "tank/copy.png", "yes")
    assert "left_out" not in searched(images).describe()
    assert searched(images).left_out_by == OWN
    assert not any("left out by" in note for note in searched(images).notes)


def test_images_of_a_given_test_set_do_not_go_without_a_word(images: Path) -> None:
    audited(published(images))
    found = searched(images)
    assert found.describe()["left_out"] == {"train": 1, "val": 0, "test": 0}
    assert f"1 image left out by the audit ({OWN})" in found.notes
    edit(OWN, "val/tank/4.png", "no")
    edit(OWN, "test/tank/6.png", "no")
    edit(OWN, "test/tank/7.png", "no")
    found = searched(images)
    assert found.describe()["left_out"] == {"train": 1, "val": 1, "test": 2}
    told = f"4 images left out by the audit ({OWN}), 1 of the given val, 2 of the given test"
    assert told in found.notes


def test_a_published_split_that_lost_images_is_called_so(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tune_tl.data import locating

    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    lists = {name: ("train", "train", "val", "test")[n % 4] for n, name in enumerate(names)}
    monkeypatch.setattr(locating, "published_split", lambda *_: lists)
    assert PUBLISHED in searched(images).notes
    cleaned.save(NAMED.parent, inspect(list_images(images, lists)))  # type: ignore[arg-type]
    edit(NAMED, "tank/1.png", "no")
    edit(NAMED, "tank/2.png", "no")
    found = searched(images)
    assert f"published split, less {len(found.left_out)} images" in found.notes
    assert PUBLISHED not in found.notes


def test_the_record_of_a_search_and_mlflow_say_what_was_left_out(images: Path) -> None:
    facts = recorded(images)
    assert "left_out" not in facts.dataset
    assert "dataset_left_out" not in Search.of(RUNS, facts).tags
    assert facts.left_out_by is None
    audited(images)
    facts = recorded(images, "after")
    assert facts.dataset["left_out"] == 1
    assert Search.of(RUNS, facts).tags["dataset_left_out"] == "1"
    assert facts.left_out_by == str(OWN)
    assert f"1 image left out by the audit ({OWN})" in facts.notes


# --- going on ---------------------------------------------------------------------------------------


def recorded(images: Path, name: str = "x", *, clean: bool = False) -> SearchFacts:
    experiment = Experiment(name, trials=2, budget_s=None, strategy="tpe", seed=1, output=RUNS)
    experiment.folder.mkdir(parents=True, exist_ok=True)
    begin(experiment, Ready(reading.load("default")[0], searched(images, clean=clean), {}, {}))
    return SearchFacts.read(experiment.folder)


def refused(images: Path, *, clean: bool = False) -> str:
    with pytest.raises(BadInput) as error:
        recorded(images, clean=clean)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{RUNS / 'x'} was started on other images: ")
    told, _, way = str(error.value).removeprefix(f"{RUNS / 'x'} was started on other images: ").partition(";")
    return f"{told.partition(' (fingerprint')[0]};{way}"


OTHERWISE = ", or start a search under another --name"


def test_a_search_does_not_go_on_by_a_list_that_changed_and_names_it(images: Path) -> None:
    audited(images)
    recorded(images)
    edit(OWN, "tank/5.png", "no")
    listed, restore = "left out by the list now", f"; restore the list {OWN}{OTHERWISE}"
    assert refused(images) == f"1 {listed} (tank/5.png){restore}"
    edit(OWN, "tank/copy.png", "yes")
    both = f"1 {listed}, 1 left out by the list no longer (tank/5.png, tank/copy.png)"
    assert refused(images) == f"{both}{restore}"
    edit(OWN, "tank/5.png", "yes")
    assert refused(images) == f"1 left out by the list no longer (tank/copy.png){restore}"
    edit(OWN, "tank/copy.png", "no")
    recorded(images)  # restored


def test_a_search_does_not_go_on_by_a_list_that_is_new_or_gone(images: Path) -> None:
    recorded(images)
    audited(images)
    told = "1 left out by the list now (tank/copy.png)"
    assert refused(images) == f"{told}; remove the list {OWN}{OTHERWISE}"
    text = OWN.read_bytes()
    OWN.unlink()
    recorded(images)  # removed
    OWN.write_bytes(text)
    (RUNS / "x" / SEARCH_FILE).unlink()
    (RUNS / "x" / "ledger.jsonl").unlink()
    recorded(images)
    OWN.unlink()
    told = "1 left out by the list no longer (tank/copy.png)"
    assert refused(images) == f"{told}; restore the list {OWN}{OTHERWISE}"


def test_an_audit_under_another_name_in_between_is_told_with_both_lists(images: Path) -> None:
    audited(images, at=1000.0)
    recorded(images)
    audited(images, NAMED, 2000.0)
    recorded(images)  # another list, the same images
    edit(OWN, "tank/5.png", "no")
    recorded(images)  # it is not the list any more
    edit(NAMED, "tank/5.png", "no")
    told = "1 left out by the list now (tank/5.png)"
    assert refused(images) == f"{told}; restore the list {NAMED}{OTHERWISE}"


def test_images_that_are_others_and_lists_that_are_are_told_together(images: Path) -> None:
    audited(images)
    recorded(images)
    paint(images / "tank" / "new.png", 400)
    told = "1 added, 1 left out by the list no longer (tank/new.png, tank/copy.png)"
    assert refused(images) == f"{told}; restore the images and the list {OWN}{OTHERWISE}"
    assert refused(images, clean=True) == f"1 added (tank/new.png); restore them{OTHERWISE}"
