"""The sample that stands in where no photographs can be had."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_tl.data import folder, splits
from tune_tl.data.sources.sample import drawing

TWO_OF_EACH = dict.fromkeys(drawing.COUNTS, 2)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "not" / "there" / "yet"
    drawing.draw(root)
    return root


def contents(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.jpg"))
    }


def test_it_has_the_six_classes_of_trashnet(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == [
        "cardboard", "glass", "metal", "paper", "plastic", "trash",
    ]  # fmt: skip


def test_every_class_has_its_count_and_trash_is_the_rarest(drawn: Path) -> None:
    assert {path.name: len(list(path.iterdir())) for path in drawn.iterdir()} == drawing.COUNTS
    assert min(drawing.COUNTS, key=drawing.COUNTS.__getitem__) == "trash"


def test_names_are_the_class_and_a_number(drawn: Path) -> None:
    assert (drawn / "glass" / "glass001.jpg").is_file()


def test_every_image_decodes_fully_to_rgb_of_one_size(drawn: Path) -> None:
    for path in drawn.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", drawing.SIZE), path


def test_no_two_images_are_alike(drawn: Path) -> None:
    assert len(set(contents(drawn).values())) == sum(drawing.COUNTS.values())
    thumbnails = [
        np.asarray(Image.open(p).resize((16, 12)), np.float32).ravel() for p in drawn.rglob("*.jpg")
    ]
    pixels = np.stack(thumbnails)
    squares = (pixels**2).sum(1)
    apart = squares[:, None] + squares - 2 * pixels @ pixels.T
    np.fill_diagonal(apart, np.inf)
    assert np.sqrt(apart.min() / pixels.shape[1]) > 2  # grey levels, root mean square


def test_every_image_shows_an_object_on_a_pale_board(drawn: Path) -> None:
    for path in drawn.rglob("*.jpg"):
        grey = np.asarray(Image.open(path).convert("L"), np.float32)
        assert grey.std() > 5, f"{path.name} is empty"


def test_it_reads_as_a_dataset_with_every_class_in_every_split(drawn: Path) -> None:
    dataset = folder.scan(drawn, name="garbage", source="sample")
    for split in splits.SPLITS:
        assert {i.label for i in dataset.images if i.split == split} == set(range(6))


def test_same_seed_same_bytes_and_another_seed_other_pictures(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        drawing.draw(tmp_path / name, seed, counts=TWO_OF_EACH)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())


def test_a_picture_does_not_depend_on_how_many_are_drawn(tmp_path: Path, drawn: Path) -> None:
    drawing.draw(tmp_path / "few", counts=TWO_OF_EACH)
    assert contents(tmp_path / "few").items() <= contents(drawn).items()


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    drawing.draw(tmp_path / "sample", counts=TWO_OF_EACH, progress=lambda *count: seen.append(count))
    assert seen == [(n, 12) for n in range(1, 13)]


def test_an_interrupted_drawing_leaves_nothing_half_done(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawing.draw(tmp_path / "sample", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_visible_before_the_drawing_is_complete(tmp_path: Path) -> None:
    def look(done: int, total: int) -> None:
        assert not (tmp_path / "sample").exists()
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawing.draw(tmp_path / "sample", progress=look)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        drawing.draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_its_version_is_of_all_the_code_that_decides_what_it_shows() -> None:
    package = drawing.__name__.rpartition(".")[0]
    for path in Path(drawing.__file__).parent.glob("*.py"):
        own = [line for line in path.read_text().splitlines() if line.startswith("from tune_tl")]
        assert [line for line in own if not line.startswith(f"from {package}.")] == []
