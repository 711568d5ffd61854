"""Which folders are splits, which are classes, which are neither, and that a person is told."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from support.images import fill
from tune_tl.data import formats
from tune_tl.data.folder import Dataset, scan
from tune_tl.data.splits import SPLITS
from tune_tl.errors import BadInput

Counts = Mapping[str, int]


def each(places: str, classes: str, n: int = 10) -> Counts:
    return {f"{place}/{label}": n for place in places.split() for label in classes.split()}


def read(root: Path) -> Dataset:
    return scan(root, name="mine")


def told(dataset: Dataset, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in dataset.notes)


@pytest.mark.parametrize(
    ("made", "classes"),
    [
        (each("valid invalid", "2023 2024"), "invalid valid"),
        (
            each("train", "steam electric") | each("bus", "city coach") | each("tram", "old new"),
            "bus train tram",
        ),
        (each("train", "steam electric") | {"bus": 10, "tram": 10}, "bus train tram"),
        (each("test", "blood urine") | each("control", "blood urine"), "control test"),
        (each("dev", "a b") | each("ops", "a b") | each("sales", "a b"), "dev ops sales"),
        (each("wrapped/valid wrapped/expired", "front back"), "expired valid"),
        ({"train": 10, "plane": 10}, "plane train"),
        ({"validation": 10, "training": 10, "meeting": 10}, "meeting training validation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_word_for_a_split_in_a_class_makes_it_no_split(tmp_path: Path, made: Counts, classes: str) -> None:
    dataset = read(fill(tmp_path, made))
    assert dataset.classes == tuple(classes.split())
    assert len(dataset.images) == sum(made.values())


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        (each("train", "cat dog") | {"figures": 9}, (12, 4, 4)),
        (each("train", "cat dog") | {"train_unlabelled": 9}, (12, 4, 4)),
        (each("images", "cat dog") | {"test": 9}, (12, 4, 4)),
        (each("images", "cat dog") | {"images_test": 9}, (12, 4, 4)),
        (each("data", "cat dog") | {"docs/img": 9, "notebooks": 2}, (12, 4, 4)),
        (each("data/train data/test", "cat dog") | {"docs/img": 9}, (16, 4, 20)),
        (each("train_test_split/train train_test_split/test", "cat dog"), (16, 4, 20)),
        (each("train/train train/valid", "cat dog"), (20, 10, 10)),
        (each("Training Test", "cat dog") | {"test-multiple_fruits": 9}, (16, 4, 20)),
        (each("train labelled_test", "cat dog") | {"test": 9}, (16, 4, 20)),
        (each("animals animals-val animals-test", "cat dog"), (20, 20, 20)),
        (each("rps rps-test-set rps-validation", "cat dog"), (20, 20, 20)),
        (each("images val test", "cat dog"), (20, 20, 20)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_lies_beside_is_passed_over_and_told(
    tmp_path: Path, made: Counts, sizes: tuple[int, int, int]
) -> None:
    dataset = read(fill(tmp_path, made))
    assert dataset.classes == ("cat", "dog")
    assert tuple(dataset.count(split) for split in SPLITS) == sizes
    for place, count in made.items():
        if not place.endswith(("cat", "dog")):
            assert told(dataset, "passed over", repr(place.split("/")[0]), f"{count} image")


@pytest.mark.parametrize(
    ("made", "classes", "said"),
    [
        (
            each("train", "steam electric") | {"bus": 9, "tram": 9},
            "bus train tram",
            "class 'train' holds folders",
        ),
        (
            each("cat dog", "train test"),
            "cat dog",
            "each class holds 'test', 'train', which are not read as splits",
        ),
        (each("positive_test negative_test", "a b"), "negative_test positive_test", "hold the same folders"),
        ({"test positive": 9, "test negative": 9}, "test negative,test positive", "split by tune_tl"),
        ({"training_fake": 9, "training_real": 9}, "training_fake training_real", "split by tune_tl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_classes_that_could_be_something_else_are_told(
    tmp_path: Path, made: Counts, classes: str, said: str
) -> None:
    dataset = read(fill(tmp_path, made))
    assert dataset.classes == tuple(classes.split("," if "," in classes else " "))
    assert told(dataset, said)


def test_a_split_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    fill(tmp_path, each("train", "cat dog") | each("test", "cat dog", 0))
    for label in ("cat", "dog"):
        (tmp_path / "test" / label / "a.dcm").write_bytes(bytes(200))
    dataset = read(tmp_path)
    assert told(dataset, "without an image: 'test'")
    assert told(dataset, "passed over, no images: 2 .dcm (convert")


def test_images_beside_the_classes_of_a_split_are_told(tmp_path: Path) -> None:
    dataset = read(fill(tmp_path, each("train val", "cat dog") | {"train": 7}))
    assert told(dataset, "passed over: 7 images of 'train' in no class folder")


@pytest.mark.parametrize(
    "mark", ["cat/.lock", "cat/meta.yaml", "train/meta.yaml", "train/.lock", "train/wandb/x"]
)
def test_a_mark_among_images_makes_no_tools_folder(tmp_path: Path, mark: str) -> None:
    fill(tmp_path, each("train val", "cat dog") if "train" in mark else {"cat": 10, "dog": 10})
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_text("x")
    assert read(tmp_path).classes == ("cat", "dog")


def test_an_error_tells_what_was_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 10, "dog": 10})
    (tmp_path / "dog" / "pyvenv.cfg").write_text("x")
    with pytest.raises(
        BadInput, match=r"one class only \('cat'\).*not data: 'dog' \(a virtual environment\)"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    "made",
    [
        each("train val test", "cat dog"),
        each("animals-train animals-val animals-test", "cat dog"),
        each("train test", "cat dog") | {"unlabelled": 10},
        each("train test", "cat dog") | each("extra", "cat dog"),
        each("images test", "cat dog"),
        each("top/Data/Train top/Data/Valid", "cat dog"),
    ],
    ids=lambda made: " ".join(made),
)
def test_relatives_with_the_same_classes_are_splits(tmp_path: Path, made: Counts) -> None:
    dataset = read(fill(tmp_path, made))
    assert dataset.classes == ("cat", "dog")
    for place in ("unlabelled", "extra"):
        assert told(dataset, "passed over, no split", repr(place)) == any(
            path.startswith(place) for path in made
        )


def test_splits_without_a_class_in_common_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, each("train", "cat dog") | each("test", "rose tulip"))
    with pytest.raises(
        BadInput, match=r"'train' and 'test' .* no class in common \('cat', 'dog'; 'rose', 'tulip'\)"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("flat", "others"),
    [
        ({"val": 8, "test": 8}, {}),
        ({"val/images": 8, "test/images": 8}, {}),
        ({"test/test": 3}, {}),
        ({"val": 8}, each("test", "cat dog", 5)),
    ],
    ids=str,
)
def test_a_val_or_test_without_classes_is_named_and_passed_over(
    tmp_path: Path, flat: Counts, others: Counts
) -> None:
    dataset = read(fill(tmp_path, each("train", "cat dog") | others | flat))
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.images) == 20 + sum(others.values())
    for place, count in flat.items():
        assert told(
            dataset, f"passed over: {place.split('/')[0]!r}", f"{count} image(s) lie in no class folder"
        )
    assert told(dataset, "carved from train")
    assert not told(dataset, "no val"), "it is there"


@pytest.mark.parametrize("renderings", ["color grey segmented", "photo sketch"])
def test_one_level_too_high_is_told_with_both_readings(tmp_path: Path, renderings: str) -> None:
    made = each(renderings, "apple corn grape")
    dataset = read(fill(tmp_path / "plants", made))
    assert dataset.classes == tuple(sorted(renderings.split()))
    assert told(dataset, "hold the same folders ('apple', 'corn', 'grape')", f"--data '{tmp_path / 'plants'}")
    inner = read(tmp_path / "plants" / dataset.classes[0])
    assert inner.classes == ("apple", "corn", "grape")
    assert not told(inner, "the same folders")


def test_one_level_too_low_is_told(tmp_path: Path) -> None:
    fill(tmp_path, each("train val", "cat dog"))
    assert told(read(tmp_path / "train"), "beside this folder: 'val'; to use all", repr(str(tmp_path)))
    assert not told(read(tmp_path), "beside")


def test_images_that_lie_loose_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    fill(tmp_path, each("photos", "cat dog") | {".": 2})
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert told(dataset, "passed over: 2 images in no class folder", "'0.jpg'")


WRITTEN = {
    "mlruns": ("mlruns/0/meta.yaml", "MLflow"),
    "mlartifacts": ("mlartifacts/1/model.txt", "MLflow"),
    "tracking": ("tracking/0/meta.yaml", "MLflow"),
    "wandb": ("wandb/run-1/files/x.json", "Weights & Biases"),
    "lightning_logs": ("lightning_logs/version_0/hparams.yaml", "Lightning"),
    "logs": ("logs/fit/events.out.tfevents.1.host", "TensorBoard"),
    "env": ("env/pyvenv.cfg", "a virtual environment"),
    "found": ("found/pets/search.json", "tune_tl"),
    "outputs": ("outputs/2026-01-01/.hydra/config.yaml", "Hydra"),
    "node_modules": ("node_modules/x/index.js", "npm"),
    "exp": ("exp/args.yaml", "Ultralytics"),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("below", ["", "train/"])
def test_what_tools_write_is_no_data_and_told(tmp_path: Path, name: str, below: str) -> None:
    fill(tmp_path, each("train val", "cat dog") if below else {"cat": 10, "dog": 10})
    before = read(tmp_path)
    mark, tool = WRITTEN[name]
    place = tmp_path / below / mark
    place.parent.mkdir(parents=True)
    place.write_text("x")
    fill(tmp_path / below, {f"{name}/0/pictures": 5})
    after = read(tmp_path)
    assert after == before
    assert told(after, "passed over, not data", f"{name!r} ({tool})")


def test_earlier_searches_are_told_beside_one_that_has_just_begun(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 10, "dog": 10, "runs/a": 3, "runs/b": 0, "runs/c": 0})
    (tmp_path / "runs/a/.lock").touch()
    (tmp_path / "runs/a/search.json").write_text("{}")
    for name in ("b", "c"):
        (tmp_path / "runs" / name / ".lock").touch()
    assert told(read(tmp_path), "not data: 'runs' (tune_tl)")


@pytest.mark.parametrize("name", ["runs", "logs", "models", "env", "tracking", "a.git"])
def test_a_class_may_be_named_like_a_tools_folder(tmp_path: Path, name: str) -> None:
    assert read(fill(tmp_path, {name: 10, "walks": 10})).classes == tuple(sorted([name, "walks"]))


def picture(path: Path, format: str, n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (n, 2 * n, 255 - n)).save(path, format)


@pytest.mark.parametrize(
    ("suffix", "format"),
    [
        *((".jfif", "JPEG"), (".pgm", "PPM"), (".jpe", "JPEG"), (".JPG_large", "JPEG"), ("", "PNG")),
        *((".avif", "AVIF"), (".jp2", "JPEG2000"), (".img", "WEBP"), (".jpg!d", "JPEG"), (".heic", "HEIF")),
    ],
)
def test_what_can_be_decoded_is_an_image_under_any_suffix(tmp_path: Path, suffix: str, format: str) -> None:
    formats.formats()
    for n in range(20):
        picture(tmp_path / ("cat" if n % 2 else "dog") / f"{n}{suffix}", format, n)
    assert len(read(tmp_path).images) == 20


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic" + bytes(99), ".heic (pillow-heif"),
        ("a.cr2", b"II*\0" + bytes(99), ".cr2 (raw from a camera"),
        ("a.svg", b"<svg/>", ".svg (convert"),
        ("a.txt", b"BMW and others", ".txt"),
        ("labels", b"PNG or not", "without a suffix"),
        ("a.xml", b"", ".xml"),
    ],
)
def test_files_that_are_no_images_here_are_counted_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    fill(tmp_path, {"cat": 10, "dog": 10, "bird": 0})
    (tmp_path / "bird" / name).write_bytes(content)
    (tmp_path / "cat" / name).write_bytes(content)
    dataset = read(tmp_path)
    assert len(dataset.images) == 20
    assert told(dataset, "passed over, no images", f"2 {said}")
    assert told(dataset, "without an image: 'bird'")


def test_without_its_package_heif_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert (
        formats.in_words({".heic": 20, ".txt": 30})
        == "20 .heic (pip install pillow-heif reads them), 30 .txt"
    )


def test_linked_folders_are_followed_and_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "pets", {"cat": 10, "dog": 10})
    fill(tmp_path / "elsewhere", {"more": 7})
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "bird").symlink_to(fill(tmp_path / "birds", {".": 9}))
    dataset = read(root)
    held = Counter(dataset.classes[image.label] for image in dataset.images)
    assert held == {"bird": 9, "cat": 17, "dog": 10}
    assert told(dataset, "links followed: 'bird', 'cat/more'")


@pytest.mark.parametrize("target", ["..", ".", "../cat", "../../pets"])
def test_links_in_a_circle_end(tmp_path: Path, target: str) -> None:
    root = fill(tmp_path / "pets", {"cat": 10, "dog": 10})
    before = read(root)
    (root / "cat" / "again").symlink_to(target)
    assert read(root) == before
    assert told(read(root), "'again' (a link to", "which is read where it lies")


def test_links_to_one_another_are_not_multiplied(tmp_path: Path) -> None:
    names = [f"class{n}" for n in range(12)]
    root = fill(tmp_path / "pets", dict.fromkeys(names, 3))
    for one in names:
        for other in names:
            (root / one / f"to_{other}").symlink_to(f"../{other}")
    assert {image.path.parent.name for image in read(root).images} == set(names)


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        (each("train", "cat dog", 120) | each("val", "cat dog", 75), (240, 74, 76)),  # val is halved
        (
            each("train", "cat dog", 100) | each("val", "cat dog", 10),
            (168, 20, 32),
        ),  # 15 % of all, not of train
        (each("train", "cat dog", 100) | each("test", "cat dog", 10), (170, 30, 20)),
        (each("train", "cat dog", 20) | each("val", "cat", 20) | {"val/dog": 1}, (40, 11, 10)),
    ],
)
def test_a_test_set_that_is_missing_is_made_large_enough(
    tmp_path: Path, made: Counts, sizes: tuple[int, int, int]
) -> None:
    dataset = read(fill(tmp_path, made))
    assert tuple(dataset.count(split) for split in SPLITS) == sizes


def test_a_class_given_for_the_whole_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "pets", {"cat": 10, "dog": 10})
    with pytest.raises(BadInput, match=f"Is it a class itself\\? Then give '{tmp_path / 'pets'}'"):
        read(tmp_path / "pets" / "cat")


def test_all_classes_that_are_too_small_are_named_at_once(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 9, "dog": 2, "emu": 1, "owl": 3})
    with pytest.raises(
        BadInput, match=r"2 classes of 4: 'dog' has 2, 'emu' has 1 .*move them out of the folder"
    ):
        read(tmp_path)
    shutil.rmtree(tmp_path / "emu")
    with pytest.raises(
        BadInput, match=r"^class 'dog' has 2 distinct image\(s\), .*\(3 at least\), or move it"
    ):
        read(tmp_path)
