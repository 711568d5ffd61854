"""Files on disk -> a `Dataset`: every image with its label, its split and the hash of its content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from tune_tl.data.formats import is_image
from tune_tl.data.layout import lay_out
from tune_tl.data.names import is_text, look_alike
from tune_tl.data.splits import SPLITS, Split, split_of, stem
from tune_tl.data.splitting import SHOWN, assign
from tune_tl.errors import BadInput
from tune_tl.storage.files import sha256_of

Source = Literal["local", "download", "sample"]


@dataclass(frozen=True)
class Image:
    path: Path  # absolute
    label: int  # index into Dataset.classes
    split: Split
    digest: str  # SHA-256 of the file's bytes, hexadecimal


class File(NamedTuple):
    split: Split | None  # as the folder or the published list says
    label: str
    path: Path
    digest: str


class Found(NamedTuple):
    """What lies in a folder, before anything is split."""

    root: Path  # as it was given
    classes: tuple[str, ...]
    files: tuple[File, ...]
    notes: tuple[str, ...]

    def name(self, file: File) -> str:
        """The path below the root, with forward slashes."""
        return file.path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Dataset:
    name: str
    source: Source
    root: Path
    classes: tuple[str, ...]
    images: tuple[Image, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was done to it, a line each
    left_out: tuple[File, ...] = ()  # by an audit, before anything was split; paths as those of images
    left_out_by: Path | None = field(default=None, compare=False)  # the list that says so

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over every image's class, content and split, wherever the folder lies."""
        lines = sorted(f"{self.classes[i.label]}/{i.digest}/{i.split}" for i in self.images)
        return hashlib.sha256("\n".join([*self.classes, *lines]).encode()).hexdigest()[:16]

    def count(self, split: Split) -> int:
        return sum(image.split == split for image in self.images)

    def describe(self) -> dict[str, object]:
        """What every output says of the dataset; `classes` is their number.

        `left_out` is there where an audit left images out: their number, of each split if they had one.
        """
        facts: dict[str, object] = {
            "name": self.name,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "images": len(self.images),
            "classes": len(self.classes),
        }
        if given := Counter(file.split for file in self.left_out):
            facts["left_out"] = given[None] or {split: given[split] for split in SPLITS}
        return facts

    def without(self, paths: Iterable[Path]) -> Dataset:
        """The same dataset less some files; raises BadInput if a class then has no image to split."""
        dropped = set(paths)
        kept = replace(self, images=tuple(i for i in self.images if i.path not in dropped))
        _require_every_class(kept)
        return kept


def scan(
    root: Path,
    *,
    name: str,
    source: Source = "local",
    published: Mapping[str, Split] | None = None,
) -> Dataset:
    """Read the folder `root` as a dataset: its images, split by `arrange`. Raises BadInput."""
    return arrange(list_images(root, published), name=name, source=source)


def list_images(root: Path, published: Mapping[str, Split] | None = None) -> Found:
    """Every image file in the class folders of `root`, with the split that is given for it.

    Understood are `<class>/…` and `train/<class>/…` with `val/` and `test/` beside it (also
    `training`, `valid`, `validation`, `seg_train/seg_train` and the like; val and test may also hold
    files named `<class>_<number>` instead of class folders). `published` maps `<class>/<file>` to its
    official split and is then followed to the letter.

    Raises BadInput if there is no such folder, no class folder with images, or one class only.
    """
    if not is_text(str(root.absolute())):
        raise BadInput(f"data folder {str(root)!r} has a name that is no text; rename or link it")
    try:
        if not root.is_dir():
            raise BadInput(f"data folder {str(root)!r} does not exist; give --data a folder of class folders")
        by_class, passed_over = lay_out(root)
    except RecursionError:
        raise BadInput(f"{str(root)!r} has folders in each other too deep to be read") from None
    except OSError as error:
        raise BadInput(f"{error.filename or str(root)!r} cannot be read ({error.strerror})") from None
    classes = tuple(sorted({label for files in by_class.values() for label in files}))
    # Where train/ and test/ hold the images themselves they are no classes.
    flat = None in by_class and all(map(split_of, classes)) and len(set(map(stem, classes))) == 1
    if not classes or flat:
        up = str(root.absolute().parent)
        above = f". Is it a class itself? Then give {up!r}" if _has_images(root) else ""
        raise BadInput(
            f"{str(root)!r} has no class folders with images; expected <class>/<image> or "
            f"train/<class>/<image>{above}{_told(passed_over)}"
        )
    for label in classes:
        if not is_text(label):
            raise BadInput(f"class folder {label!r} in {str(root)!r} has a name that is no text; rename it")
    if len(classes) == 1:
        raise BadInput(
            f"{str(root)!r} has one class only ({classes[0]!r}); a classifier needs at least two"
            f"{_told(passed_over)}"
        )

    files = [
        (split, label, path) for split, by in by_class.items() for label, ps in by.items() for path in ps
    ]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        digests = list(pool.map(_digest, (path for _, _, path in files)))
    given = (
        File(published[f"{label}/{path.name}"] if published else split, label, path, digest)
        for (split, label, path), digest in zip(files, digests, strict=True)
    )
    return Found(root, classes, tuple(given), (*look_alike(classes), *passed_over))


def arrange(found: Found, *, name: str, source: Source = "local", without: Collection[Path] = ()) -> Dataset:
    """Split what was found, less the files `without` (paths as in `found`), which no split ever sees.

    What is not given is carved: stratified, seeded, with byte-identical copies of an image on one side.
    Raises BadInput if a class is too small to split.
    """
    dropped = set(without)
    given = [file for file in found.files if file.path not in dropped]
    splits, notes = assign(given)
    notes += found.notes
    index = {label: i for i, label in enumerate(found.classes)}
    place = found.root.resolve()
    left_out = tuple(f._replace(path=place / found.name(f)) for f in found.files if f.path in dropped)
    images = tuple(
        Image(place / found.name(file), index[file.label], split, file.digest)
        for file, split in zip(given, splits, strict=True)
        if split is not None
    )
    dataset = Dataset(name, source, place, found.classes, images, tuple(notes), left_out)
    _require_every_class(dataset)
    return dataset


def _told(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def _has_images(folder: Path) -> bool:
    return any(path.is_file() and is_image(path) for path in folder.iterdir())


def _digest(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device read without end
            raise BadInput(f"{str(path)!r} is a pipe or a device, no file; remove it")
        return sha256_of(path)
    except OSError as error:
        raise BadInput(f"{str(path)!r} cannot be read ({error.strerror}); mend or remove it") from None


def _require_every_class(dataset: Dataset) -> None:
    for split in SPLITS:
        if not dataset.count(split):
            raise BadInput(f"no image is left in {split} of {str(dataset.root)!r}; add some that can be read")
    for split in ("train", "val"):
        held = {image.label for image in dataset.images if image.split == split}
        missing = [repr(name) for label, name in enumerate(dataset.classes) if label not in held]
        if len(missing) == 1:
            raise BadInput(f"class {missing[0]} has no image in {split}; add images or remove the class")
        if missing:
            which = ", ".join(missing[:SHOWN]) + (" …" if len(missing) > SHOWN else "")
            raise BadInput(
                f"{len(missing)} classes have no image in {split}: {which}; add images or remove the classes"
            )
