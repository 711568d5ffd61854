"""CIFAR-10's official archive: what is made of one of its format, and what is no such archive."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.file_server import FileServer
from tune_tl.data.folder import scan
from tune_tl.data.sources import download
from tune_tl.data.sources.catalog import resolve
from tune_tl.data.sources.cifar import MEMBERS, unpack_cifar
from tune_tl.data.sources.download import BadArchive, NoSpace
from tune_tl.data.sources.entries import CATALOG, Entry
from tune_tl.errors import BadInput
from tune_tl.storage.files import cache_dir

CIFAR = CATALOG["cifar10"]
PER_BATCH = 30  # three of each class
TAKEN = "cifar-10-batches-bin/test_batch.bin"


def batches() -> dict[str, bytes]:
    """Six members of the official format, every image another one."""
    random = np.random.default_rng(0)
    made = {}
    for name in [name for names in MEMBERS.values() for name in names]:
        records = random.integers(0, 256, (PER_BATCH, 3073), np.uint8)
        records[0, 1:] = np.arange(3072) // 13 + len(made)  # a smooth one, which noise is not
        records[:, 0] = np.arange(PER_BATCH) % 10
        made[name] = records.tobytes()
    return made


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in reversed(members.items()):  # the official one is in no order, either
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNE_TL_DATA", raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.005)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"cifar.tar.gz": packed(batches())}) as serving:
        yield serving


def served(server: FileServer) -> dict[str, Entry]:
    """The catalog's own entry, but for the address and what the file there is."""
    assert CIFAR.archive
    sha256 = hashlib.sha256(server.files["cifar.tar.gz"]).hexdigest()
    archive = replace(CIFAR.archive, urls=(server.url("cifar.tar.gz"),), sha256=sha256)
    return {"cifar10": replace(CIFAR, archive=archive)}


def test_every_record_becomes_the_image_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(batches()))
    unpack_cifar(tmp_path / "a.tar.gz", tmp_path / "out", CIFAR.labels)
    for split, names in MEMBERS.items():
        records = np.frombuffer(b"".join(batches()[name] for name in names), np.uint8).reshape(-1, 3073)
        files = sorted((tmp_path / "out" / split).glob("*/*.png"), key=lambda path: path.stem)
        assert [int(path.stem) for path in files] == list(range(len(records)))
        for path, record in zip(files, records, strict=True):
            assert path.parent.name == CIFAR.labels[record[0]]
            with Image.open(path) as image:
                pixels = np.asarray(image)
            assert image.mode == "RGB"
            for channel in range(3):  # planes of red, green and blue, each row by row
                plane = record[1 + 1024 * channel :][:1024]
                assert np.array_equal(pixels[:, :, channel].ravel(), plane)


def test_the_files_are_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    # By these bytes val is carved from train. Seen with Pillow 10.4 (zlib) and 13.0 (zlib-ng).
    (tmp_path / "a.tar.gz").write_bytes(packed(batches()))
    unpack_cifar(tmp_path / "a.tar.gz", tmp_path / "out", CIFAR.labels)
    files = sorted((tmp_path / "out").rglob("*.png"))
    assert hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16] == "2ce7e0cebb7907b2"


def test_the_archive_becomes_a_folder_like_any_other(
    server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = served(server)
    found = resolve("cifar10", catalog=catalog)
    assert (found.source, found.why) == ("download", "downloaded from 127.0.0.1 and verified")
    assert "unpacking 180 images, once\n" in capsys.readouterr().err
    dataset = scan(found.root, name="cifar10", source=found.source)
    assert dataset.classes == CIFAR.labels
    assert [dataset.count(split) for split in ("train", "val", "test")] == [130, 20, 30]
    assert not list((cache_dir() / "downloads").iterdir())
    server.asked.clear()
    assert resolve("cifar10", catalog=catalog) == found
    assert server.asked == []


def test_a_cache_that_lost_an_image_is_filled_again(server: FileServer) -> None:
    root = resolve("cifar10", catalog=served(server)).root
    (root / "train" / "cat" / "00003.png").unlink()
    assert resolve("cifar10", catalog=served(server)).root == root
    assert (root / "train" / "cat" / "00003.png").is_file()


def test_a_cut_download_is_resumed_by_the_next_search(server: FileServer) -> None:
    catalog = served(server)
    server.cuts = [200_000] + [0] * 10
    with pytest.raises(BadInput, match=r"could not be downloaded: 127\.0\.0\.1 cut the connection"):
        resolve("cifar10", catalog=catalog)
    server.cuts, server.asked = [], []
    assert resolve("cifar10", catalog=catalog).source == "download"
    assert int((server.asked[0][1] or "").removeprefix("bytes=").removesuffix("-")) > 0


def test_what_cannot_be_downloaded_is_told_with_the_ways_out(server: FileServer) -> None:
    catalog = served(server)
    content = server.files.pop("cifar.tar.gz")
    with pytest.raises(BadInput) as error:
        resolve("cifar10", catalog=catalog)
    first, *rows = str(error.value).splitlines()
    assert "127.0.0.1 answered 404 (Not Found)" in first
    told = "\n".join(rows)
    by_hand = cache_dir() / "downloads" / "cifar10" / "cifar10.tar.gz"
    archive = catalog["cifar10"].archive
    assert archive
    for part in (archive.urls[0], str(by_hand), "$TUNE_TL_DATA/cifar10", "--data DIR", CIFAR.layout):
        assert part in told
    by_hand.write_bytes(content)  # as told
    assert len(list(resolve("cifar10", catalog=catalog).root.rglob("*.png"))) == 6 * PER_BATCH


def test_another_file_than_the_official_one_is_refused(server: FileServer) -> None:
    catalog = served(server)
    server.files["cifar.tar.gz"] = packed(batches() | {TAKEN: bytes(3073)})
    with pytest.raises(BadInput, match=r"127\.0\.0\.1 sent another cifar10\.tar\.gz: SHA-256"):
        resolve("cifar10", catalog=catalog)
    assert not (cache_dir() / "datasets" / "cifar10").exists()


def test_a_users_own_folder_comes_first(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shelf" / "cifar10" / "train" / "cat").mkdir(parents=True)
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path / "shelf"))
    assert resolve("cifar10", catalog=served(server)).root == tmp_path / "shelf" / "cifar10"
    assert server.asked == []


def linked(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO(packed({name: raw for name, raw in content.items() if name != TAKEN}))
    out = io.BytesIO()
    with tarfile.open(fileobj=buffer) as old, tarfile.open(fileobj=out, mode="w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        link = tarfile.TarInfo(TAKEN)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        new.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda good: packed({k: v for k, v in good.items() if k != TAKEN}), "test_batch.bin' not found"),
        (lambda good: packed(good | {TAKEN: good[TAKEN][:-1]}), "test_batch.bin holds 92,189 bytes"),
        (lambda good: packed(good | {TAKEN: b""}), "test_batch.bin holds 0 bytes"),
        (lambda good: packed(good | {TAKEN: b"\x0a" + bytes(3072)}), "label 10, but there are 10 classes"),
        (linked, "passwd' not found"),  # a link leads nowhere but to members
        (lambda good: packed(good)[:-5000], "ended before"),
        (lambda good: b"<html>please log in</html>", "damaged"),
        (lambda good: b"", "damaged"),
    ],
    ids=["fewer", "cut-record", "empty", "label", "link", "cut", "no-archive", "nothing"],
)
def test_what_is_no_such_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes], said: str
) -> None:
    (tmp_path / "a.tar.gz").write_bytes(make(batches()))
    with pytest.raises(BadArchive, match=said) as error:
        unpack_cifar(tmp_path / "a.tar.gz", tmp_path / "here" / "out", CIFAR.labels)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "here").iterdir())


def test_too_small_a_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(batches()))
    usage = download.shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpace, match=r"a\.tar\.gz, unpacked, needs 0\.7 MB"):
        unpack_cifar(tmp_path / "a.tar.gz", tmp_path / "here" / "out", CIFAR.labels)
    assert not list((tmp_path / "here").iterdir())
