"""CIFAR-10's official archive as a folder of images.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the format is that of
https://www.cs.toronto.edu/~kriz/cifar.html, "binary version": the other version is a pickle, and who
loads a pickle runs it.
"""

from __future__ import annotations

import errno
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.data.sources.download import BadArchive, NoSpace, require_room
from tune_tl.data.splits import Split
from tune_tl.terminal.progress import progress

if TYPE_CHECKING:
    import numpy as np

SIDE = 32  # pixels
MEMBERS: Mapping[Split, tuple[str, ...]] = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{n}.bin" for n in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
_RECORD = 1 + 3 * SIDE * SIDE  # bytes: the label, then the planes of red, green and blue
_ON_DISK = 4096  # bytes that a file of so few takes


def unpack_cifar(archive: Path, folder: Path, labels: tuple[str, ...]) -> None:
    """Write the images of `archive` as the new folder `folder`: `{train,test}/<class>/<number>.png`.

    `labels` are the classes of the label bytes 0, 1, …; numbers count from 0 in each split, in the
    archive's order. `folder` appears complete or not at all. Members are read by name, so nothing is
    written where the archive says. Raises NoSpace, and BadArchive if it is damaged or of another format.
    """
    from rich.console import Console

    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        with tarfile.open(archive, "r:gz") as opened:
            names = [name for members in MEMBERS.values() for name in members]
            images = sum(opened.getmember(name).size for name in names) // _RECORD
            require_room(folder.parent, images * _ON_DISK, f"{archive.name}, unpacked,")
            line = f"unpacking {images:,} images, once"
            with progress(Console(stderr=True), "unpacking images, once", line) as show:
                show(0, images)
                written = chain.from_iterable(_write(opened, s, unfinished / s, labels) for s in MEMBERS)
                for done, _ in enumerate(written, 1):
                    show(done, images)
        unfinished.rename(folder)
    except (tarfile.TarError, zlib.error, EOFError, KeyError, ValueError) as error:
        raise BadArchive(f"{archive.name} is damaged or no CIFAR-10 ({error})") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(
                f"the disk of {folder.parent} filled up while {archive.name} was unpacked"
            ) from None
        if error.errno is not None:
            raise
        raise BadArchive(f"{archive.name} is damaged ({error})") from None  # so gzip says it
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(opened: tarfile.TarFile, split: Split, folder: Path, labels: tuple[str, ...]) -> Iterator[Path]:
    """Write the images of `split`, giving the path of each."""
    from PIL import Image

    for label in labels:
        (folder / label).mkdir(parents=True)
    number = 0
    for name in MEMBERS[split]:
        for record in _records(opened, name, len(labels)):
            image = Image.fromarray(record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0).copy())
            # Not compressed, for zlibs differ in that: splits and fingerprints follow from these bytes,
            # which have to be the same on every machine.
            path = folder / labels[record[0]] / f"{number:05}.png"
            image.save(path, compress_level=0)
            yield path
            number += 1


def _records(opened: tarfile.TarFile, name: str, classes: int) -> np.ndarray:
    """The images of one member as uint8[n, 3073], labels first. Raises KeyError and ValueError."""
    import numpy as np

    member = opened.extractfile(name)
    raw = member.read() if member else b""
    if not raw or len(raw) % _RECORD:
        raise ValueError(f"{name} holds {len(raw):,} bytes, no multiple of {_RECORD:,}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
    if (largest := records[:, 0].max()) >= classes:
        raise ValueError(f"{name} holds label {largest}, but there are {classes} classes")
    return records
