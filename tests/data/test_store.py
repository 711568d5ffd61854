"""Decoding once: the right pixels from every kind of file, and a store that is whole or not there."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.disks import with_disk
from tune_tl.data import greys, store
from tune_tl.data.decoding import decode
from tune_tl.data.folder import Dataset, scan
from tune_tl.data.store import about, ensure, open_images
from tune_tl.errors import BadInput
from tune_tl.storage.files import cache_dir

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir() / "decoded"


def noise(n: int, width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(n).integers(0, 255, (height, width, 3), dtype=np.uint8))


def pictures(root: Path, each: int = 4) -> Path:
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for n in range(each):
            noise(n + 100 * (label == "dog")).save(root / label / f"{n}.png")
    return root


def read(root: Path) -> Dataset:
    return scan(root, name="mine")


def stores(folder: Path) -> list[str]:
    """What lies there beside locks and descriptions."""
    about = re.compile(r"[0-9a-f]+\.json")
    return sorted(
        path.name for path in folder.iterdir() if path.suffix != ".lock" and not about.fullmatch(path.name)
    )


def one(path: Path, size: int = 8) -> np.ndarray:
    (pixels,) = decode(path, [size])
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    return pixels


def flat(path: Path) -> tuple[int, ...]:
    """The one colour of the picture."""
    pixels = one(path)
    assert (pixels == pixels[0, 0]).all()
    return tuple(pixels[0, 0].tolist())


def test_a_stored_image_is_what_decoding_it_gives(tmp_path: Path) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    images = open_images(dataset, 16)
    assert images.classes == ("cat", "dog")
    for split, rows in images.rows.items():
        mine = [image for image in dataset.images if image.split == split]
        assert images.labels[split].tolist() == [image.label for image in mine]
        for row, image in zip(rows, mine, strict=True):
            assert (images.pixels[row] == one(image.path, 16)).all()
            with Image.open(image.path) as direct:
                squeezed = direct.resize((16, 16), Image.Resampling.BILINEAR)
            assert (images.pixels[row] == np.asarray(squeezed)).all()


def test_copies_share_a_row_and_nothing_can_write_to_it(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures")
    (root / "cat" / "again.png").write_bytes((root / "cat" / "0.png").read_bytes())
    images = open_images(read(root), 8)
    assert len(images.pixels) == 8
    assert sum(map(len, images.rows.values())) == 9
    assert not images.pixels.flags.writeable


def test_a_store_serves_the_same_images_wherever_they_lie(tmp_path: Path, empty_cache: Path) -> None:
    ensure(read(pictures(tmp_path / "here")), [8])
    made = stores(empty_cache)
    asked: list[int] = []
    ensure(read(pictures(tmp_path / "there")), [8], lambda done, total: asked.append(done))
    assert stores(empty_cache) == made
    assert asked == []


def test_two_sizes_take_one_pass_over_the_images(tmp_path: Path, empty_cache: Path) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    asked: list[tuple[int, int]] = []
    assert ensure(dataset, [16, 8, 8], lambda done, total: asked.append((done, total))) == {}
    assert asked == [(n, 8) for n in range(1, 9)]
    assert len(stores(empty_cache)) == 2
    assert (open_images(dataset, 8).pixels[0] == decode(by_digest(dataset)[0], [16, 8])[1]).all()


def by_digest(dataset: Dataset) -> list[Path]:
    return [image.path for image in sorted(dataset.images, key=lambda image: image.digest)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tiff", "ppm"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (9, 5), RED).save(path)
    assert np.abs(np.subtract(flat(path), RED)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright(tmp_path: Path, orientation: int) -> None:
    """The upright picture is red on its left and blue on its right, bright at its top."""
    upright = Image.new("RGB", (64, 48), RED)
    upright.paste(BLUE, (32, 0, 64, 48))
    upright.paste(GREEN, (0, 0, 32, 24))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    lying = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    pixels = one(tmp_path / "x.jpg", 8).astype(int)
    for (row, column), colour in {(1, 1): GREEN, (6, 1): RED, (1, 6): BLUE, (6, 6): BLUE}.items():
        assert np.abs(pixels[row, column] - colour).max() < 60


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_greys(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.full((6, 6), 32896, dtype=np.uint16)).save(tmp_path / f"x.{suffix}")
    assert flat(tmp_path / f"x.{suffix}") == (128, 128, 128)


def test_cmyk_is_seen_as_on_paper(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    assert np.abs(np.subtract(flat(tmp_path / "x.jpg"), RED)).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([255, 0, 0, 0, 0, 255])
        palette.save(tmp_path / "x.png", transparency=0)
    else:
        (clear if mode == "PA" else clear.convert(mode)).save(tmp_path / "x.png")
    assert flat(tmp_path / "x.png") == WHITE


def test_a_palette_with_bytes_of_transparency_brings_no_warning(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "x.png", transparency=b"\x00\xff")
    assert flat(tmp_path / "x.png") == BLUE


@pytest.mark.parametrize(("mode", "value", "seen"), [("L", 77, 77), ("1", 1, 255), ("I;16", 0, 0)])
def test_grey_is_grey(tmp_path: Path, mode: str, value: int, seen: int) -> None:
    Image.new(mode, (8, 8), value).save(tmp_path / "x.png")
    assert flat(tmp_path / "x.png") == (seen,) * 3


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=50)
    assert flat(tmp_path / "x.gif") == RED


def test_a_single_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "x.png")
    assert flat(tmp_path / "x.png") == GREEN


def png(width: int, height: int, *more: tuple[bytes, bytes], rows: int = 0) -> bytes:
    """A PNG that promises so many pixels and holds `rows` rows of black ones, with `more` chunks."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = (b"IDAT", zlib.compress(bytes(rows * (1 + 3 * width))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", size), *more, pixels, (b"IEND", b""))
    )


def gif(width: int, height: int, frame: int) -> bytes:
    """A GIF whose one frame has `frame` pixels a side, whatever its screen has."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\2D\1\0;"


def bmp(width: int, height: int) -> bytes:
    size = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + size


def tiff(width: int, height: int) -> bytes:
    ones = dict.fromkeys((259, 262, 277), 1)
    tags = {256: width, 257: height, 258: 8, **ones, 273: 8, 278: height, 279: width * height % 2**32}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def saved(form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise(0, 200, 200).save(buffer, form, **options)
    return buffer.getvalue()


def webp(side: int) -> bytes:
    content = bytearray(saved("WEBP", lossless=True))
    start = content.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", content, start)
    struct.pack_into("<I", content, start, bits & ~0xFFFFFFF | (side - 1) | (side - 1) << 14)
    return bytes(content)


BOMB = zlib.compress(bytes(1 << 30), 9)  # a gigabyte in a megabyte
BAD = {
    "empty.jpg": (b"", "empty file"),
    "half.jpg": (saved("JPEG")[:8000], "truncated"),
    "half.png": (saved("PNG")[:8000], "truncated"),
    "half.gif": (saved("GIF")[:8000], "truncated"),
    "half.webp": (saved("WEBP")[:8000], ""),
    "half.tiff": (saved("TIFF")[:8000], ""),
    "half.bmp": (saved("BMP")[:8000], "truncated"),
    "page.jpg": (b"<!doctype html><h1>404</h1>", "no image in a known format"),
    "program.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "known format"),
    "bomb.png": (png(10_000, 10_000), "10000x10000 pixels, above 50 million"),
    "huge.png": (png(60_000, 60_000), "3600000000 pixels"),
    "tall.png": (png(1, 2**31 - 1), "2147483647 pixels"),
    "header.png": (png(10, 10), ""),
    "title.png": (png(8, 8, (b"zTXt", b"title\0\0" + BOMB), rows=8), "too large"),
    "comment.png": (png(8, 8, (b"iTXt", b"title\0\1\0\0\0" + BOMB), rows=8), "too large"),
    "profile.png": (png(8, 8, (b"iCCP", b"icc\0\0" + BOMB), rows=8), "too large"),
    "screen.gif": (gif(65_535, 65_535, 4), "pixels"),
    "frame.gif": (gif(4, 4, 65_535), "pixels"),
    "huge.bmp": (bmp(60_000, 60_000), "pixels"),
    "large.bmp": (bmp(9_000, 9_000), "above 50 million"),
    "huge.tiff": (tiff(60_000, 60_000), "pixels"),
    "large.tiff": (tiff(9_000, 9_000), "above 50 million"),
    "huge.webp": (webp(16_384), "pixels"),
    "large.webp": (webp(9_000), "above 50 million"),
    "huge.ppm": (b"P6 60000 60000 255\n", "pixels"),
}


WITHIN = """
import resource, sys
from pathlib import Path
from tune_tl.data.decoding import decode

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    try:
        decode(Path(path), [8])
    except ValueError as error:
        print(error)
"""


def test_no_bomb_is_unpacked(tmp_path: Path) -> None:
    """All of them, one after the other, in less memory than the smallest would take."""
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "more pixels than it says.png").write_bytes(png(8, 8, (b"IDAT", BOMB)))
    command = [sys.executable, "-c", WITHIN, str(100 << 20), *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(BAD)


def test_the_largest_image_of_sixteen_bits_takes_bounded_memory(tmp_path: Path) -> None:
    Image.fromarray(np.full((7000, 7000), 32896, dtype=np.uint16)).save(tmp_path / "x.png")
    command = [sys.executable, "-c", WITHIN, str(900 << 20), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_photograph_of_many_pixels_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), GREEN).save(tmp_path / "x.jpg", quality=100, subsampling=0)
    assert np.abs(np.subtract(flat(tmp_path / "x.jpg"), GREEN)).max() <= 2


def test_a_disk_that_fails_is_not_the_images_fault(tmp_path: Path) -> None:
    """What may pass must not be remembered as damage."""
    with pytest.raises(BadInput, match=r"gone\.jpg' cannot be read \(No such file"):
        decode(tmp_path / "gone.jpg", [8])


@pytest.mark.parametrize("name", BAD)
def test_an_image_that_is_none_is_listed_with_its_reason(
    tmp_path: Path, empty_cache: Path, name: str
) -> None:
    root = pictures(tmp_path / "pictures")
    (root / "cat" / name).write_bytes(BAD[name][0])
    bad = ensure(read(root), [8])
    assert list(bad) == [root / "cat" / name]
    assert BAD[name][1] in bad[root / "cat" / name]
    assert "\n" not in bad[root / "cat" / name]
    assert not [path for path in stores(empty_cache) if path.endswith(".u8")]


def test_all_bad_images_are_listed_at_once_and_every_copy_of_them(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures", 20)
    for name, (content, _) in BAD.items():
        (root / "cat" / name).write_bytes(content)
    (root / "dog" / "empty too.jpg").write_bytes(b"")
    dataset = read(root)
    listed = {root / "cat" / name for name in BAD} | {root / "dog" / "empty too.jpg"}
    for _ in range(2):  # and again, without decoding anything
        assert ensure(dataset, [8]).keys() == listed
    with pytest.raises(BadInput, match="cannot be decoded"):
        open_images(dataset, 8)
    rest = dataset.without(listed)
    assert ensure(rest, [8]) == {}
    assert len(open_images(rest, 8).pixels) == 40


def test_a_bad_image_that_was_mended_is_read(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures")
    (root / "cat" / "x.png").write_bytes(b"")
    assert ensure(read(root), [8])
    noise(7).save(root / "cat" / "x.png")
    assert ensure(read(root), [8]) == {}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"])
def test_a_damaged_file_is_an_image_or_gets_one_line(tmp_path: Path, form: str) -> None:
    buffer = io.BytesIO()
    noise(0).save(buffer, form)
    draw = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as while a store is built
        for _ in range(150):
            content = bytearray(buffer.getvalue())
            if draw.random() < 0.4:
                content = content[: draw.randrange(1, len(content))]
            for _ in range(draw.choice([0, 1, 3, 10])):
                content[int(draw.random() ** 4 * len(content))] = draw.randrange(256)
            (tmp_path / "x").write_bytes(content)
            try:
                one(tmp_path / "x")
            except ValueError as error:
                assert str(error)
                assert "\n" not in str(error)


BUILD = """
import os, signal, sys
from pathlib import Path
from tune_tl.data.folder import scan
from tune_tl.data.store import ensure

def progress(done, total):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

assert not ensure(scan(Path(sys.argv[1]), name="mine"), [8, 16], progress)
print("built")
"""


def builder(root: Path, killed_after: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(root), str(killed_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_store(tmp_path: Path, empty_cache: Path) -> None:
    root = pictures(tmp_path / "pictures", 10)
    killed = builder(root, killed_after=7)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = stores(empty_cache)
    assert left
    assert not [name for name in left if name.endswith(".u8")]
    dataset = read(root)
    images = open_images(dataset, 16)
    for row, path in enumerate(by_digest(dataset)):
        assert (images.pixels[row] == one(path, 16)).all()
    assert not [name for name in stores(empty_cache) if ".part" in name]  # the disk is free again


def test_four_processes_build_one_store(tmp_path: Path, empty_cache: Path) -> None:
    root = pictures(tmp_path / "pictures", 10)
    running = [builder(root) for _ in range(4)]
    said = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert [words[-1] for words in said] == ["built"] * 4
    assert sorted(len(words) for words in said) == [1, 1, 1, 21]  # one decoded, the others waited
    assert len(stores(empty_cache)) == 2


def test_too_small_a_disk_is_told_before_anything_is_written(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    monkeypatch.setattr(store, "MARGIN", 1 << 60)
    with pytest.raises(BadInput, match=r"need .* GB in .*decoded.* are free; .*XDG_CACHE_HOME"):
        ensure(dataset, [8])
    assert stores(empty_cache) == []


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tune_tl.data import store
from tune_tl.data.folder import scan
from tune_tl.errors import BadInput

store.MARGIN = -(1 << 40)  # the disk fills up after it was looked at
try:
    store.ensure(scan(Path(sys.argv[1]), name="mine"), [16, 256])
except BadInput as error:
    print(error)
print("left:", sorted(path.suffix for path in (Path(sys.argv[2]) / "tune_tl" / "decoded").iterdir()))
"""


@pytest.fixture
def small_disk() -> list[str]:
    """A command before others, for which $XDG_CACHE_HOME is a disk of 1 MB of its own."""
    return with_disk(Path(os.environ["XDG_CACHE_HOME"]), "size=1m")


def test_a_disk_that_fills_up_is_one_clear_line(tmp_path: Path, small_disk: list[str]) -> None:
    root = pictures(tmp_path / "pictures")  # 1.6 MB at 256 pixels a side
    command = [*small_disk, sys.executable, "-c", ON_A_SMALL_DISK, str(root), os.environ["XDG_CACHE_HOME"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ended by {done.returncode}: {done.stderr}"
    said, left = done.stdout.splitlines()
    assert re.search(r"need .* GB in .*decoded.* are free; make room or .*XDG_CACHE_HOME", said)
    assert left == "left: ['.json', '.lock']"


def without_fallocate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")


def refusing_fallocate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)


@pytest.mark.parametrize("world", [without_fallocate, refusing_fallocate])
def test_where_space_cannot_be_reserved_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Callable[[pytest.MonkeyPatch], None]
) -> None:
    world(monkeypatch)
    dataset = read(pictures(tmp_path / "pictures", 20))
    images = open_images(dataset, 256)  # 7.9 MB
    assert (images.pixels[3] == one(by_digest(dataset)[3], 256)).all()


def test_a_store_says_whose_it_is(tmp_path: Path, empty_cache: Path) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    (key,) = {open_images(dataset, size).key.partition("-")[0] for size in (8, 16)}
    assert json.loads((empty_cache / f"{key}.json").read_text()) == {"dataset": "mine", "images": 8}


def test_opening_a_store_is_its_last_use(tmp_path: Path, empty_cache: Path) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    store_file = empty_cache / f"{open_images(dataset, 8).key}.u8"
    os.utime(store_file, (0, 0))
    open_images(dataset, 8)
    assert store_file.stat().st_mtime > 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"file/tune_tl/decoded.*XDG_CACHE_HOME"):
        ensure(dataset, [8])


def test_the_cache_lies_where_the_environment_says(empty_cache: Path) -> None:
    assert Path(os.environ["XDG_CACHE_HOME"]) in empty_cache.parents


def deep(root: Path, kind: type, high: float, each: int = 4) -> Path:
    """Classes of brightness, lit by halves from one image to the next, and as 8-bit copies of the same."""
    for label, share in (("bright", 1.0), ("dim", 0.5)):
        (root / label).mkdir(parents=True)
        for n in range(each):
            values = (np.random.default_rng(n).uniform(0.8, 1, (9, 9)) * share * high).astype(kind)
            values[0, 0] = share * high
            Image.fromarray(values).save(root / label / f"{n}.tif")
    return root


@pytest.mark.parametrize(
    ("kind", "high", "white"),
    [
        *(
            (np.uint16, 1023, 1023),
            (np.uint16, 4095, 4095),
            (np.uint16, 4000, 4095),
            (np.uint16, 65535, 65535),
        ),
        *((np.uint16, 200, 255), (np.float32, 1, 1), (np.float32, 255, 255), (np.float32, 1000, 1023)),
        *((np.int32, 70000, 131071), (np.float32, 0.6, 1), (np.float32, 130, 255)),
    ],
)
def test_greys_of_many_bits_have_one_scale_in_a_dataset(
    tmp_path: Path, kind: type, high: float, white: float
) -> None:
    dataset = read(deep(tmp_path / "pictures", kind, high))
    images = open_images(dataset, 9)
    found = about(dataset)
    assert (found.deep, found.shown) == (8, greys.Span(0, white))
    assert (
        greys.in_words(found.deep, greys.Span(0, white))
        == f"8 images of more than 8 bits: in all, 0 is black and {white:g} white"
    )
    for split, rows in images.rows.items():
        mine = [image for image in dataset.images if image.split == split]
        for row, image in zip(rows, mine, strict=True):
            share = 0.5 if "dim" in str(image.path) else 1.0
            expected = (
                255 * int(share * high) / white if kind is not np.float32 else 255 * share * high / white
            )
            assert abs(int(images.pixels[row].max()) - expected) <= 1
            again = decode(image.path, [9], found.shown)[0]
            assert (again == images.pixels[row]).all()


def test_values_below_zero_and_no_numbers_have_their_place(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for n, (label, low) in enumerate((label, low) for label in "ab" for low in (-1000.0, -500.0, 0.0, 500.0)):
        (root / label).mkdir(parents=True, exist_ok=True)
        values = np.full((4, 4), low + n, dtype=np.float32)
        values[0] = 3000
        values[1, 0] = np.nan
        Image.fromarray(values).save(root / label / f"{n}.tif")
    dataset = read(root)
    images = open_images(dataset, 4)
    assert (about(dataset).deep, about(dataset).shown) == (8, greys.Span(-1000, 3000))
    assert {int(pixels[0].min()) for pixels in images.pixels} == {255}
    assert (images.pixels[:, 1, 0] == images.pixels[:, 1, 1]).all()


def test_eight_bits_know_no_scale(tmp_path: Path) -> None:
    dataset = read(pictures(tmp_path / "pictures"))
    ensure(dataset, [8])
    assert about(dataset).shown is None


def test_an_image_without_a_number_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match="none of its values is a number"):
        decode(tmp_path / "nan.tif", [4])


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_an_image_whose_exif_is_nonsense_is_taken_as_it_is(tmp_path: Path, format: str) -> None:
    path = tmp_path / "odd"
    noise(1).save(path, format, exif=b"Exif\0\0no header of TIFF's, but something else")
    assert one(path, 16).std() > 0


def test_images_that_are_odd_among_the_others_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for n in range(24):
        (root / "cat").mkdir(parents=True, exist_ok=True)
        (root / "dog").mkdir(parents=True, exist_ok=True)
        noise(n, 60, 50).save(root / ("cat" if n % 2 else "dog") / f"{n}.png")
    ensure(read(root), [8])
    assert about(read(root)).odd == 0
    Image.new("P", (120, 120), 3).save(root / "cat" / "placeholder.gif")
    noise(100, 400, 40).save(root / "cat" / "long.png")
    noise(101, 9, 9).save(root / "dog" / "tiny.png")
    ensure(read(root), [8, 16])
    assert about(read(root)).odd == 3


def test_what_all_images_share_is_not_odd(tmp_path: Path) -> None:
    ensure(read(pictures(tmp_path / "pictures")), [8])  # 30 pixels high, each
    assert about(read(tmp_path / "pictures")).odd == 0


@pytest.mark.parametrize(
    ("kind", "values", "span"),
    [
        (np.float32, (0.2, 1.3), (0.2, 1.3)),  # reflectance
        (np.float32, (0.0, 1e-4), (0.0, 1e-4)),
        (np.float32, (0.0, 9.5), (0.0, 9.5)),  # metres
        (np.uint16, (33000, 33200), (33000, 33200)),
        (np.float32, (-9999, 0.0, 800.0), (0.0, 1023.0)),  # satellites: nothing was seen
        (np.float32, (-3.4e38, 0.0, 0.9), (0.0, 1.0)),
    ],
)
def test_the_scale_shows_what_there_is(
    tmp_path: Path, kind: type, values: tuple[float, ...], span: tuple[float, float]
) -> None:
    root = tmp_path / "pictures"
    for n in range(8):
        place = root / ("a" if n % 2 else "b") / f"{n}.tif"
        place.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(n)
        pixels = rng.choice(np.array(values, dtype=kind), (40, 40))
        Image.fromarray(pixels).save(place)
    images = open_images(read(root), 40)
    assert about(read(root)).shown == pytest.approx(greys.Span(*span), rel=1e-6)
    assert images.pixels.std() > 60
    assert not about(read(root)).blank


def test_images_of_one_colour_are_told_where_they_are_many(tmp_path: Path) -> None:
    for n in range(8):
        place = tmp_path / ("a" if n % 2 else "b") / f"{n}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (50, 50), (n, n, n)).save(place)
    ensure(read(tmp_path), [8])
    assert (about(read(tmp_path)).blank, about(read(tmp_path)).odd) == (8, 0)
