"""The named datasets: whose they are, where they are to be had, how they are laid out and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tune_tl.data.splits import Split


@dataclass(frozen=True)
class SplitList:
    """A published text file that puts images in one split: a line each, `<file> <label number>`."""

    split: Split
    file: str
    urls: tuple[str, ...]  # tried in this order
    sha256: str


@dataclass(frozen=True)
class Archive:
    """One file at a fixed address, of which it is known what has to be in it."""

    urls: tuple[str, ...]  # tried in this order
    folder: str  # of what it unpacks to, the one that holds the class folders or the splits
    kind: Literal["zip", "cifar"] = "zip"
    fingerprint: str = ""  # content_fingerprint() of that folder; a zip may be packed anew
    sha256: str | None = None  # of the file

    @property
    def file_suffix(self) -> str:
        return ".zip" if self.kind == "zip" else ".tar.gz"


@dataclass(frozen=True)
class Entry:
    """One named dataset. Adding one to `CATALOG` is all it takes."""

    name: str
    title: str
    licence: str
    homepage: str  # empty if it has none
    images: int | None  # None: as many as somebody collects
    classes: int
    layout: str  # its folders, and so its official split, for whoever puts them there by hand
    archive: Archive | None = None  # None: only a person can get it
    steps: tuple[tuple[str, str], ...] = ()  # how a person does: (a word, what to do)
    labels: tuple[str, ...] = ()  # classes of the label numbers: 1, 2, … in split lists, 0, 1, … in CIFAR
    lists: tuple[SplitList, ...] = ()
    drawn: bool = False  # there are drawn images to fall back on


def _trashnet_list(split: Split, sha256: str) -> SplitList:
    file = f"one-indexed-files-notrash_{split}.txt"
    home = "https://raw.githubusercontent.com/garythung/trashnet"
    # The commit first: a branch may come to hold another shuffle, the checksum then refuses it.
    refs = ("dcc3071376fcd62b07cead020ddfdd112adfac44", "master")
    return SplitList(split, file, tuple(f"{home}/{ref}/data/{file}" for ref in refs), sha256)


def _kaggle(slug: str) -> tuple[tuple[str, str], ...]:
    """Kaggle sends files to signed-in people only."""
    return (
        ("get it", "sign in there (the page wants an account), Download, and unpack archive.zip;"),
        ("", f"or: kaggle datasets download -d {slug} --unzip -p DIR"),
    )


CATALOG: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="garbage",
            title="TrashNet (Thung & Yang 2016)",
            licence="MIT",
            homepage="https://github.com/garythung/trashnet",
            images=2527,
            classes=6,
            layout="dataset-resized/<class>/, split by the published lists beside it",
            archive=Archive(
                urls=("https://huggingface.co/datasets/garythung/trashnet/resolve/main/dataset-resized.zip",),
                folder="dataset-resized",
                fingerprint="73cfe75b6a3e1bf1",
            ),
            labels=("glass", "paper", "cardboard", "plastic", "metal", "trash"),
            lists=(
                _trashnet_list("train", "420971a4248b42b07a741ef277059d92ded0c559cae8960c6a488e9c316ff789"),
                _trashnet_list("val", "a6c01936e4a4adce41e8da776db39b366d1db46acf07f63215bbe24709081340"),
                _trashnet_list("test", "a8cc4e520e4676c6e1bd6346d51a101f80e468763a36f2818ed4e32abb05bb79"),
            ),
            drawn=True,
        ),
        Entry(
            name="intel",
            title="Intel Image Classification (natural scenes, 150 px)",
            licence="see its page",
            homepage="https://www.kaggle.com/datasets/puneet6060/intel-image-classification",
            images=17_034,
            classes=6,
            layout="seg_train/seg_train/<class>/ and seg_test/seg_test/<class>/, as it unpacks; "
            "seg_pred has no labels and is not read",
            steps=_kaggle("puneet6060/intel-image-classification"),
        ),
        Entry(
            name="simpsons",
            title="The Simpsons Characters Data (Attia 2017)",
            licence="see its page",
            homepage="https://www.kaggle.com/datasets/alexattia/the-simpsons-characters-dataset",
            images=21_923,
            classes=42,
            layout="simpsons_dataset/<class>/ and kaggle_simpson_testset/kaggle_simpson_testset/"
            "<class>_<number>.jpg, as it unpacks",
            steps=_kaggle("alexattia/the-simpsons-characters-dataset"),
        ),
        Entry(
            name="cifar10",
            title="CIFAR-10 (Krizhevsky 2009)",
            licence="none stated",
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            images=60_000,
            classes=10,
            layout="train/<class>/ and test/<class>/",
            archive=Archive(
                urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                folder="cifar-10",
                kind="cifar",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
            labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        ),
        Entry(
            name="tank_elephant",
            title="Tanks against elephants, as image search finds them",
            licence="each image's own",
            homepage="",
            images=None,
            classes=2,
            layout="tank/ and elephant/, which tune_tl splits",
            steps=(
                ("get it", "python -m tune_tl.collect tank elephant --output DIR"),
                ("clean it", "python -m tune_tl.audit DIR"),
                ("use it", "python -m tune_tl.search tank_elephant --data DIR"),
            ),
        ),
    )
}
