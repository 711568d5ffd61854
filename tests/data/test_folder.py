"""Folders as people have them: which layouts are understood, how they are split, and what is refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from support.images import fill
from tune_tl.data import splitting
from tune_tl.data.folder import Dataset, scan
from tune_tl.data.formats import IMAGE_SUFFIXES
from tune_tl.data.sources.catalog import published_split, resolve
from tune_tl.data.splits import SPLITS
from tune_tl.errors import BadInput

REAL = Path(__file__).parents[3] / "shared" / "datasets"


def read(root: Path) -> Dataset:
    return scan(root, name="mine")


def refused(root: Path) -> str:
    with pytest.raises(BadInput) as error:
        read(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def counts(dataset: Dataset) -> tuple[int, int, int]:
    train, val, test = (dataset.count(split) for split in SPLITS)
    return train, val, test


def splits(dataset: Dataset) -> dict[str, str]:
    return {image.path.relative_to(dataset.root).as_posix(): image.split for image in dataset.images}


def in_both(places: list[str], n: int) -> dict[str, int]:
    return {f"{place}/{label}": n for place in places for label in ("cat", "dog")}


@pytest.mark.parametrize(
    ("places", "sizes"),
    [
        (["train", "val", "test"], (20, 20, 20)),
        (["training", "validation", "testing"], (20, 20, 20)),
        (["Train", "Valid", "Test"], (20, 20, 20)),
        (["train2017", "dev", "test2017"], (20, 20, 20)),
        (["seg_train/seg_train", "seg_test/seg_test"], (16, 4, 20)),
        (["train", "test"], (16, 4, 20)),
        (["train", "val"], (20, 10, 10)),
        (["train"], (12, 4, 4)),
        (["simpsons_dataset", "kaggle_simpson_testset"], (16, 4, 20)),
        (["animals", "animals-test"], (16, 4, 20)),
        (["pictures"], (12, 4, 4)),
        (["wrapped/train", "wrapped/val", "wrapped/test"], (20, 20, 20)),
        (["."], (12, 4, 4)),
        (["dataset-resized"], (12, 4, 4)),
        (["deep/deeper"], (12, 4, 4)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_layouts_people_have_are_understood(
    tmp_path: Path, places: list[str], sizes: tuple[int, int, int]
) -> None:
    dataset = read(fill(tmp_path, in_both(places, 10)))
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.images) == 20 * len(places)
    assert counts(dataset) == sizes


FLAT_TEST_SETS = {
    "kaggle_simpson_testset/kaggle_simpson_testset": "simpsons_dataset",
    "kaggle_simpson_testset": "simpsons_dataset",
    "test": "train",
    "seg_test/seg_test": "seg_train/seg_train",
    "wrapped/testset": "wrapped/pictures",
}


@pytest.mark.parametrize("test", FLAT_TEST_SETS)
def test_files_of_a_test_set_without_folders_may_be_named_after_their_classes(
    tmp_path: Path, test: str
) -> None:
    labels = ("cat", "cat_dog")  # the number is what follows the last _
    root = fill(tmp_path, {f"{FLAT_TEST_SETS[test]}/{label}": 10 for label in labels})
    (root / test).mkdir(parents=True)
    for label, n in (("cat", 0), ("cat", 1), ("cat_dog", 0)):
        (root / test / f"{label}_{n}.jpg").write_text(f"{test} {label} {n}")
    dataset = read(root)
    assert dataset.classes == labels
    assert counts(dataset) == (16, 4, 3)
    held = Counter(dataset.classes[i.label] for i in dataset.images if i.split == "test")
    assert held == {"cat": 2, "cat_dog": 1}
    assert not [note for note in dataset.notes if "left out" in note]
    for name in ("wolf_0.jpg", "cat.jpg", "another one.jpg"):
        (root / test / name).write_text(name)
    assert counts(read(root)) == (16, 4, 3)
    assert "3 left out of test: named after no class of train" in read(root).notes


def test_a_test_set_without_labels_is_no_test_set(tmp_path: Path) -> None:
    root = fill(tmp_path, in_both(["train"], 10) | {"test": 5})
    assert counts(read(root)) == (12, 4, 4)
    assert read(root).classes == ("cat", "dog")


@pytest.mark.parametrize("place", ["simpsons_dataset", "."])
def test_a_folder_that_repeats_the_classes_is_no_class(tmp_path: Path, place: str) -> None:
    root = fill(tmp_path, {f"{place}/{label}": 10 for label in ("cat", "dog", "wolf")})
    before = read(root)
    again = root / place / "simpsons_dataset"
    for label in ("cat", "dog"):
        shutil.copytree(root / place / label, again / label)
    dataset = read(root)
    assert dataset == before
    assert "left out: 'simpsons_dataset', which holds the other classes again" in dataset.notes
    fill(again, {"bear": 3})  # now it is more than a copy
    assert read(root).classes == ("cat", "dog", "simpsons_dataset", "wolf")


def test_classes_of_very_few_images_are_split_or_refused_by_name(tmp_path: Path) -> None:
    root = fill(tmp_path, {"simpsons_dataset/cat": 20, "simpsons_dataset/lionel_hutz": 3})
    assert read(root).count("test") == 4
    fill(root, {"kaggle_simpson_testset/cat": 5})
    held = Counter(i.split for i in read(root).images if i.label == 1)
    assert held == {"train": 2, "val": 1}
    for n in (1, 2):
        (root / f"simpsons_dataset/lionel_hutz/{n}.jpg").unlink()
    assert "'lionel_hutz' has 1 distinct image(s)" in refused(root)


def test_what_lies_beside_the_splits_is_no_class(tmp_path: Path) -> None:
    root = fill(tmp_path, in_both(["seg_train/seg_train", "seg_test/seg_test"], 5))
    fill(root, {"seg_pred/seg_pred": 5, "__MACOSX/cat": 5, ".git/cat": 5})
    assert read(root).classes == ("cat", "dog")


@pytest.mark.parametrize("place", ["runs/pets/search.json", "audit-pets/audit.json"])
def test_what_an_earlier_search_drew_is_no_class(tmp_path: Path, place: str) -> None:
    fill(tmp_path, {"cat": 20, "dog": 20, str(Path(place).parent): 3})
    (tmp_path / place).write_text("{}")
    assert read(tmp_path).classes == ("cat", "dog")


def test_a_class_folder_without_an_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "emu").mkdir()
    assert "without an image: 'emu'" in read(tmp_path).notes


def test_images_deeper_in_a_class_folder_belong_to_the_class(tmp_path: Path) -> None:
    dataset = read(fill(tmp_path, {"cat/2019/june": 5, "cat/2020": 5, "dog": 10}))
    assert Counter(dataset.classes[image.label] for image in dataset.images) == {"cat": 10, "dog": 10}


@pytest.mark.parametrize(("cats", "dogs"), [(3, 3), (4, 100), (20, 33), (137, 594)])
def test_every_class_is_split_in_the_same_proportions(tmp_path: Path, cats: int, dogs: int) -> None:
    dataset = read(fill(tmp_path, {"cat": cats, "dog": dogs}))
    for label, total in enumerate((cats, dogs)):
        held = Counter(image.split for image in dataset.images if image.label == label)
        assert held["val"] == held["test"] == max(1, round(0.15 * total))
        assert held.total() == total


def test_the_split_is_the_same_on_every_run_and_wherever_the_folder_lies(tmp_path: Path) -> None:
    here = fill(tmp_path / "here", {"cat": 30, "dog": 20})
    there = tmp_path / "there" / "wrapped" / "once"
    shutil.copytree(here, there)
    first = splits(read(here))
    assert splits(read(here)) == first
    assert splits(read(there)) == first
    assert read(there).fingerprint == read(here).fingerprint


def test_the_split_follows_the_images_and_not_their_names(tmp_path: Path) -> None:
    here = fill(tmp_path / "here", {"cat": 30, "dog": 20})
    there = tmp_path / "there"
    shutil.copytree(here, there)
    for path in (there / "cat").iterdir():
        path.rename(path.with_name(f"renamed {40 - int(path.stem)}.JPEG"))

    def by_content(dataset: Dataset) -> dict[str, str]:
        return {image.digest: image.split for image in dataset.images}

    assert by_content(read(here)) == by_content(read(there))


def test_copies_of_an_image_never_straddle_the_splits(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 20, "dog": 20})
    for label in ("cat", "dog"):
        for n in range(20):
            for copy in range(n % 4):
                shutil.copy(root / label / f"{n}.jpg", root / label / f"{n} copy {copy}.jpg")
    for n in range(10):  # and under the other name
        shutil.copy(root / "cat" / f"{n}.jpg", root / "dog" / f"cat {n}.jpg")
    dataset = read(root)
    held: dict[str, set[str]] = {}
    for image in dataset.images:
        held.setdefault(image.digest, set()).add(image.split)
    assert len(held) == 40
    assert all(len(where) == 1 for where in held.values())
    assert len(dataset.images) == 40 + 2 * 30 + 10


@pytest.mark.parametrize("label", ["cat", "dog"])
def test_where_splits_are_given_copies_leave_train_and_never_test(tmp_path: Path, label: str) -> None:
    root = fill(tmp_path, in_both(["train", "val", "test"], 10))
    shutil.copy(root / "test/cat/0.jpg", root / f"train/{label}/copy of test.jpg")
    shutil.copy(root / "test/cat/1.jpg", root / f"val/{label}/copy of test.jpg")
    shutil.copy(root / "val/cat/2.jpg", root / f"train/{label}/copy of val.jpg")
    shutil.copy(root / "test/cat/3.jpg", root / f"test/{label}/copy of test.jpg")  # stays: nothing leaks
    dataset = read(root)
    assert counts(dataset) == (20, 20, 21)
    assert any("2 left out of train" in note for note in dataset.notes)
    assert any("1 left out of val" in note for note in dataset.notes)


def test_a_carved_split_holds_no_copy_of_what_is_left(tmp_path: Path) -> None:
    root = fill(tmp_path, in_both(["train", "test"], 20))
    for n in range(20):
        shutil.copy(root / f"train/cat/{n}.jpg", root / f"train/dog/cat {n}.jpg")
    shutil.copy(root / "test/dog/0.jpg", root / "train/cat/leak.jpg")
    dataset = read(root)
    where = [{i.digest for i in dataset.images if i.split == split} for split in SPLITS]
    assert not where[0] & where[1] and not where[0] & where[2] and not where[1] & where[2]
    assert dataset.count("test") == 40
    assert any("carved from train" in note for note in dataset.notes)


def test_a_published_split_is_followed_to_the_letter_less_leaks(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 9, "dog": 9})
    shutil.copy(root / "cat/8.jpg", root / "cat/0.jpg")
    names = ("train", "train", "train", "val", "val", "val", "test", "test", "test")
    published = {f"{label}/{n}.jpg": split for label in ("cat", "dog") for n, split in enumerate(names)}
    dataset = scan(root, name="mine", published=published)  # type: ignore[arg-type]
    wanted = {path: split for path, split in published.items() if path != "cat/0.jpg"}
    assert splits(dataset) == wanted
    assert any("left out of train" in note for note in dataset.notes)


def test_a_test_folder_may_lack_a_class(tmp_path: Path) -> None:
    root = fill(tmp_path, in_both(["train", "test"], 10))
    shutil.rmtree(root / "test" / "dog")
    assert counts(read(root)) == (16, 4, 10)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"cat": 10, "dog": 2}, ["'dog'", "2 distinct"]),
        ({"train/cat": 10, "train/dog": 1, "test/cat": 1}, ["'dog'", "1 distinct"]),
        ({"train/cat": 10, "val/cat": 2, "val/dog": 2}, ["'dog'", "train"]),
        ({"test/cat": 10, "test/dog": 10}, ["no train folder", "test"]),
        ({"cat": 10}, ["one class only", "'cat'"]),
        ({"train/cat": 5, "val/cat": 5}, ["one class only", "'cat'"]),
        ({}, ["no class folders", "<class>/<image>"]),
        ({"cat": 0, "dog": 0}, ["no class folders"]),
        ({".": 10}, ["no class folders"]),
        ({"train": 10, "test": 10}, ["no class folders", "train/<class>/<image>"]),
        ({"train": 10, "test1": 10}, ["no class folders", "train/<class>/<image>"]),
        ({"train/cat": 5, "training/cat": 5}, ["'train'", "'training'", "both look like train"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_split_is_refused_by_name(
    tmp_path: Path, made: dict[str, int], said: list[str]
) -> None:
    root = fill(tmp_path / "pictures", made)
    root.mkdir(exist_ok=True)
    message = refused(root)
    assert all(word in message for word in said)


def test_two_images_of_a_class_are_enough_where_a_test_folder_is_given(tmp_path: Path) -> None:
    root = fill(tmp_path, {"train/cat": 10, "train/dog": 2, "test/cat": 1})
    assert counts(read(root)) == (9, 3, 1)


def test_copies_do_not_make_a_class_large_enough(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 10, "dog": 1})
    for n in range(9):
        shutil.copy(root / "dog/0.jpg", root / f"dog/again {n}.jpg")
    assert "'dog' has 1 distinct image(s)" in refused(root)


@pytest.mark.parametrize("name", ["nowhere", "x" * 300])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    assert name in refused(tmp_path / name)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 5, "dog": 5})
    (root / "cat" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    assert "gone.jpg" in refused(root)


@pytest.mark.timeout(20)  # a pipe is waited for, and /dev/zero has no end
@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "link to a device", "link in a circle"])
def test_what_is_no_file_is_refused_and_never_opened(tmp_path: Path, kind: str) -> None:
    root = fill(tmp_path / "pictures", {"cat": 5, "dog": 5})
    path = root / "cat" / "x.jpg"
    with socket.socket(socket.AF_UNIX) as server:
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "socket":
                server.bind(os.path.relpath(path))  # such addresses are short
            case "link to a pipe":
                os.mkfifo(tmp_path / "pipe")
                path.symlink_to(tmp_path / "pipe")
            case "link to a device":
                path.symlink_to("/dev/zero")
            case "link in a circle":
                path.symlink_to(path)
        message = refused(root)
    assert str(path) in message
    assert ("link" if "circle" in kind else "no file") in message


def test_a_folder_named_like_an_image_is_none(tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", {"cat": 5, "dog": 5})
    before = read(root)
    (root / "cat" / "x.jpg").symlink_to(tmp_path)
    assert read(root) == before


AS_NOBODY = """
import os, sys
from pathlib import Path
from tune_tl.data.folder import scan
from tune_tl.errors import BadInput

if not os.geteuid():  # whom nothing is forbidden
    os.setuid(65534)
try:
    scan(Path(sys.argv[1]), name="mine")
except BadInput as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("place", "mode"),
    [("cat/1.jpg", 0), ("cat", 0), ("cat", 0o444), ("cat/more", 0), ("cat/more", 0o444), (".", 0)],
)
def test_what_may_not_be_read_is_named_and_not_passed_over(place: str, mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = fill(Path(folder) / "pictures", {"cat": 5, "dog": 5, "cat/more": 5})
        (root / place).chmod(mode)
        command = [sys.executable, "-c", AS_NOBODY, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (root / place).chmod(0o755)
    assert done.stdout.count("\n") == 1
    assert f"{root / place}" in done.stdout
    assert "cannot be read (Permission denied)" in done.stdout


def test_only_images_that_are_shown_count(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 5, "dog": 5})
    before = read(root)
    (root / "readme.txt").write_text("x")
    (root / "loose.jpg").write_text("x")
    (root / "cat" / "labels.csv").write_text("x")
    (root / "cat" / "Thumbs.db").write_text("x")
    (root / "cat" / "._0.jpg").write_text("x")
    (root / "cat" / ".DS_Store").write_text("x")
    (root / "cat" / "a folder.jpg").mkdir()
    fill(root, {"cat/.ipynb_checkpoints": 3, "dog/__MACOSX": 3, ".cache": 3, "notes": 0})
    assert read(root) == before


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_counts_in_either_case(tmp_path: Path, suffix: str) -> None:
    root = fill(tmp_path, {"cat": 5, "dog": 5})
    (root / "cat" / f"more{suffix.upper()}").write_text("more")
    (root / "cat" / f"other{suffix}").write_text("other")
    assert len(read(root).images) == 12


NAMES = (
    "été",
    "猫",
    "<script>alert(1)<",
    "a 'b' \"c\"",
    "[bold]",
    "x,y;z&w",
    "-rf",
    " ",
    "con",
    "\N{ELEPHANT}\N{ZERO WIDTH JOINER}\N{ELEPHANT}",
    "x" * 240,
)


def test_a_class_may_have_any_name_that_is_text(tmp_path: Path) -> None:
    dataset = read(fill(tmp_path, dict.fromkeys(NAMES, 5)))
    assert dataset.classes == tuple(sorted(NAMES))
    assert len(dataset.fingerprint) == 16


@pytest.mark.parametrize("name", ["ca\nt", "ca\tt", "\x1b[31mcat", "cat\x7f", "\x9bcat"])
def test_a_class_whose_name_would_break_a_line_is_refused(tmp_path: Path, name: str) -> None:
    assert repr(name) in refused(fill(tmp_path, {name: 5, "dog": 5}))


def test_a_data_folder_whose_name_would_break_a_line_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "two\nlines"
    assert repr(str(root)) in refused(fill(root, {"cat": 5, "dog": 5}))


def test_classes_that_look_alike_are_two_but_told(tmp_path: Path) -> None:
    names = ("Cat", "cat", "\u00e9t\u00e9", "e\u0301te\u0301", "dog")
    dataset = read(fill(tmp_path, dict.fromkeys(names, 5)))
    assert dataset.classes == tuple(sorted(names))
    assert [note for note in dataset.notes if "alike" in note] == [
        "look alike, but are 2 classes: 'Cat', 'cat'",
        r"look alike, but are 2 classes: 'e\u0301te\u0301', '\xe9t\xe9'",
    ]


def test_a_folder_that_is_passed_over_for_its_name_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 5, "dog": 5, "..x": 5, "__old": 5, ".git/objects": 5})
    (root / ".DS_Store").write_text("x")
    dataset = read(root)
    assert dataset.classes == ("cat", "dog")
    assert dataset.notes[-1] == "hidden and left out: '..x', '__old'"


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 5, "dog": 5})
    os.mkdir(os.fsencode(root) + b"/caf\xe9")  # noqa: PTH102  # bytes, as from an old archive
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9/1.jpg")).write_text("x")
    assert "'caf\\udce9'" in refused(root)


def test_linked_images_keep_the_names_they_have_in_the_folder(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", {"all": 12})
    for n in range(12):
        place = tmp_path / "linked" / ("cat" if n % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.jpg").symlink_to(store / "all" / f"{n}.jpg")
    (tmp_path / "whole").symlink_to(tmp_path / "linked")
    for root in (tmp_path / "linked", tmp_path / "whole"):
        dataset = read(root)
        assert set(splits(dataset)) == {f"{'cat' if n % 2 else 'dog'}/{n}.jpg" for n in range(12)}


def change_a_byte(root: Path) -> None:
    (root / "cat" / "3.jpg").write_text("changed")


def relabel(root: Path) -> None:
    (root / "cat" / "3.jpg").rename(root / "dog" / "moved.jpg")


def add(root: Path) -> None:
    (root / "dog" / "more.jpg").write_text("more")


def add_a_copy(root: Path) -> None:
    shutil.copy(root / "dog" / "3.jpg", root / "dog" / "again.jpg")


def remove(root: Path) -> None:
    (root / "dog" / "3.jpg").unlink()


def rename_a_class(root: Path) -> None:
    (root / "dog").rename(root / "wolf")


@pytest.mark.parametrize("change", [change_a_byte, relabel, add, add_a_copy, remove, rename_a_class])
def test_the_fingerprint_tells_other_images_from_these(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    root = fill(tmp_path, {"cat": 10, "dog": 10})
    before = read(root).fingerprint
    change(root)
    assert read(root).fingerprint != before


def test_the_split_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cat": 9, "dog": 9})
    names = ["train", "val", "test"] * 3
    lists = [
        {f"{label}/{n}.jpg": split for label in ("cat", "dog") for n, split in enumerate(order)}
        for order in (names, names[::-1])
    ]
    one, other = (scan(root, name="mine", published=published) for published in lists)  # type: ignore[arg-type]
    assert one.fingerprint != other.fingerprint


def test_the_same_set_less_some_files(tmp_path: Path) -> None:
    dataset = read(fill(tmp_path, {"cat": 10, "dog": 10}))
    gone = dataset.images[0].path
    less = dataset.without([gone])
    assert len(less.images) == 19
    assert gone not in {image.path for image in less.images}
    assert less.fingerprint != dataset.fingerprint
    cats = [image.path for image in dataset.images if image.label == 0]
    with pytest.raises(BadInput, match="class 'cat' has no image in train"):
        dataset.without(cats)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real images are not at {REAL}")
@pytest.mark.parametrize(
    ("name", "classes", "sizes", "said"),
    [
        ("garbage", 6, (1766, 328, 431), "2 left out of train: copies of val or test images"),
        ("intel", 6, (768, 132, 360), "val carved from train, stratified"),
        ("simpsons", 6, (864, 156, 250), "val carved from train, stratified"),
        ("cifar10", 10, (3400, 600, 1000), "val carved from train, stratified"),
        ("tank_elephant", 2, (371, 80, 80), "split by tune_tl: 70 % train, 15 % val, 15 % test, stratified"),
    ],
)
def test_the_real_folders_are_read(name: str, classes: int, sizes: tuple[int, int, int], said: str) -> None:
    found = resolve(name, REAL / name)
    assert found.entry
    dataset = scan(found.root, name=name, published=published_split(found.entry, found.root))
    assert dataset.notes == (said,)
    assert len(dataset.classes) == classes
    assert counts(dataset) == sizes
    where = [{i.digest for i in dataset.images if i.split == split} for split in SPLITS]
    assert not where[0] & where[1] and not where[0] & where[2] and not where[1] & where[2]
    tested = {dataset.classes[i.label] for i in dataset.images if i.split == "test"}
    assert set(dataset.classes) - tested == ({"maggie_simpson"} if name == "simpsons" else set())


def test_the_split_does_not_depend_on_the_searchs_seed() -> None:
    assert "seed" not in scan.__annotations__
    assert splitting.SPLIT_SEED == 0
