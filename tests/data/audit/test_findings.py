"""What is found in a folder without a network: damage, oddities, copies; and what a clean list leaves out."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tune_tl.data.audit import facts, findings
from tune_tl.data.audit.alike import alike_pairs
from tune_tl.data.audit.findings import Findings, left_out
from tune_tl.data.folder import list_images
from tune_tl.errors import BadInput


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Coarse and fine blots, another picture for every seed."""
    random = np.random.default_rng(seed)
    coarse, fine = (random.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (4, 14))
    layers = [Image.fromarray(x).resize(size, Image.Resampling.BICUBIC) for x in (coarse, fine)]
    return Image.blend(*layers, 0.6)


def jpeg(image: Image.Image, **how: int | bool) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **how)
    return stream.getvalue()


def look(root: Path, images: dict[str, Image.Image | bytes]) -> Findings:
    """The findings in a folder of these, beside a few sound images of two classes."""
    sound: dict[str, Image.Image | bytes] = {}
    for n in range(16):
        sound[f"{'cat' if n % 2 else 'dog'}/sound{n}.png"] = picture(9000 + n)
    if any(name.startswith("train/") for name in images):
        sound = {f"train/{name}": image for name, image in sound.items()}
    for name, image in (sound | images).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path)
    return findings.inspect(list_images(root))


def odd(findings: Findings) -> dict[str, set[str]]:
    return {kind: {path.name for path in of} for kind, of in findings.odd.items() if of}


def groups(findings: Findings) -> set[tuple[str, frozenset[str]]]:
    return {(g.kind, frozenset(f.path.stem for f in g.files)) for g in findings.groups}


def gone(findings: Findings) -> set[str]:
    return {path.relative_to(findings.found.root).as_posix() for path in left_out(findings)}


def emptied(data: bytes) -> bytes:
    """A third of the compressed picture lost, as a bad sector loses it."""
    start = data.rfind(b"\xff\xda") + 14
    third = (len(data) - start) // 3
    return data[: start + third] + bytes(third) + data[start + 2 * third :]


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_a_jpeg_that_opens_without_a_complaint_though_part_of_it_is_lost_is_found(
    tmp_path: Path, quality: int
) -> None:
    found = look(tmp_path, {"cat/lost.jpg": emptied(jpeg(picture(1), quality=quality))})
    with Image.open(tmp_path / "cat" / "lost.jpg") as image:
        image.load()
    assert odd(found) == {"half-decoded": {"lost.jpg"}}
    assert gone(found) == {"cat/lost.jpg"}


def test_what_a_decoder_left_grey_and_somebody_saved_again_is_found(tmp_path: Path) -> None:
    half = picture(2)
    half.paste((128, 128, 128), (0, 70, 160, 120))
    assert odd(look(tmp_path, {"cat/half.jpg": jpeg(half)})) == {"half-decoded": {"half.jpg"}}


def test_large_flat_parts_are_no_damage(tmp_path: Path) -> None:
    images: dict[str, Image.Image | bytes] = {}
    for colour in ("white", "black", "navy"):
        drawing = Image.new("RGB", (900, 700), colour)
        ImageDraw.Draw(drawing).ellipse((300, 200, 420, 360), "orange", "green")
        for optimize in (False, True):
            for progressive in (False, True):
                name = f"cat/{colour}{optimize:d}{progressive:d}.jpg"
                images[name] = jpeg(drawing, optimize=optimize, progressive=progressive)
    assert "half-decoded" not in odd(look(tmp_path, images))


def test_what_follows_the_end_of_a_jpeg_is_not_its_picture(tmp_path: Path) -> None:
    assert odd(look(tmp_path, {"cat/padded.jpg": jpeg(picture(3)) + bytes(4096)})) == {}


def test_what_cannot_be_decoded_is_listed_with_the_reason(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {"cat/cut.jpg": jpeg(picture(4))[:2000], "dog/text.jpg": b"<html>not found", "dog/empty.png": b""},
    )
    assert odd(found) == {"unreadable": {"cut.jpg", "text.jpg", "empty.png"}}
    assert gone(found) == {"cat/cut.jpg", "dog/text.jpg", "dog/empty.png"}
    assert set(found.odd["unreadable"].values()) >= {"empty file", "no image in a known format"}


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_later_pictures_of_a_file_that_are_damaged_are_found(tmp_path: Path, kind: str) -> None:
    pictures, stream = [picture(n).convert("P") for n in range(30, 33)], io.BytesIO()
    pictures[0].save(stream, kind, save_all=True, append_images=pictures[1:])
    (tmp_path / "whole").write_bytes(stream.getvalue())
    assert facts.look(tmp_path / "whole").frames == 3
    with Image.open(stream) as image:
        image.seek(1)
        pixels = image.tile[0].offset
    # A GIF's colours, cut off before the pixels; a TIFF's directory, which lies there too.
    cut = stream.getvalue()[: pixels - 100]
    found = look(tmp_path / "images", {"cat/cut.gif": cut})
    assert odd(found)["half-decoded"] == {"cut.gif"}
    assert gone(found) == {"cat/cut.gif"}


def test_odd_images_are_listed_and_stay(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65535, (60, 60), dtype=np.uint16)
    found = look(
        tmp_path,
        {
            "cat/tiny.png": picture(5, (40, 20)),
            "cat/long.png": picture(6, (400, 60)),
            "cat/palette.png": picture(7).convert("P"),
            "cat/print.jpg": picture(8).convert("CMYK"),
            "cat/clear.png": picture(9).convert("RGBA"),
            "cat/deep.png": Image.fromarray(deep),
            "cat/blank.png": Image.new("RGB", (90, 90), (250, 251, 250)),
            "cat/grey.png": picture(10).convert("L"),
        },
    )
    assert odd(found) == {
        "tiny": {"tiny.png"},
        "odd shape": {"long.png"},
        "odd mode": {"palette.png", "print.jpg", "clear.png", "deep.png"},
        "blank": {"blank.png"},
        "no colour": {"grey.png", "deep.png"},
    }
    assert not gone(found)


def test_copies_are_found_whatever_was_done_to_them(tmp_path: Path) -> None:
    one, two = picture(11), picture(12)
    found = look(
        tmp_path,
        {
            "cat/a.png": one,
            "dog/same.png": one,
            "cat/b.png": two,
            "cat/small.jpg": jpeg(two.resize((80, 60)), quality=40),
            "cat/c.png": picture(13),
            "cat/turned.png": picture(13).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((90, 90)),
        },
    )
    assert groups(found) == {
        ("exact", frozenset({"a", "same"})),
        ("near", frozenset({"b", "small"})),
        ("mirrored", frozenset({"c", "turned"})),
    }
    # The largest of each stays; of one image under two labels neither.
    assert gone(found) == {"cat/a.png", "dog/same.png", "cat/small.jpg", "cat/turned.png"}


def test_only_what_is_mirrored_to_the_one_that_stays_is_called_so(tmp_path: Path) -> None:
    one = picture(17)
    turned = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = look(
        tmp_path,
        {
            "cat/a.png": one,
            "cat/near.jpg": jpeg(one.resize((80, 60))),
            "cat/turned.png": turned.resize((90, 90)),
            "cat/turned too.jpg": jpeg(turned.resize((70, 60))),
        },
    )
    assert {path.name: why for path, why in left_out(found).items()} == {
        "near.jpg": "near copy of cat/a.png",
        "turned.png": "mirrored copy of cat/a.png",
        "turned too.jpg": "mirrored copy of cat/a.png",
    }


def test_plain_images_and_different_ones_are_no_copies(tmp_path: Path) -> None:
    images: dict[str, Image.Image | bytes] = {f"cat/{n}.png": picture(100 + n) for n in range(40)}
    for n in range(20):  # all on the same board, as TrashNet's are
        board = Image.new("RGB", (160, 120), (230, 228, 220))
        ImageDraw.Draw(board).ellipse((60 + n, 50, 75 + n, 60 + n % 5), (200 - n, 210, 190))
        images[f"dog/{n}.png"] = board
    assert groups(look(tmp_path, images)) == set()


def test_a_given_test_set_keeps_its_copies_and_train_loses_them(tmp_path: Path) -> None:
    one, two = picture(14), picture(15)
    found = look(
        tmp_path,
        {
            "train/cat/a.png": one,
            "train/cat/near.jpg": jpeg(one),
            "train/dog/b.png": two,
            "test/cat/a.png": one,
            "test/cat/again.png": one,
            "test/dog/c.png": picture(16),
        },
    )
    assert gone(found) == {"train/cat/a.png", "train/cat/near.jpg"}
    assert {tuple(g.across) for g in found.groups} == {("splits",)}


def test_val_does_not_select_by_what_test_shows(tmp_path: Path) -> None:
    one, two = picture(18), picture(19)
    images: dict[str, Image.Image | bytes] = {
        "train/cat/one.jpg": jpeg(one, quality=60),
        "val/cat/one.png": one,
        "test/cat/one.jpg": jpeg(one),
        "test/cat/turned.jpg": jpeg(one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "train/dog/two.png": two,
        "val/dog/two.jpg": jpeg(two),
        "val/dog/again.jpg": jpeg(two, quality=60),
        "val/cat/own.png": picture(20),
        "test/dog/own.png": picture(21),
    }
    assert gone(look(tmp_path, images)) == {"train/cat/one.jpg", "val/cat/one.png", "train/dog/two.png"}


def test_an_image_that_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    found = look(tmp_path, {"cat/a.png": picture(22), "cat/b.jpg": jpeg(picture(22))}).found
    lost = tmp_path / "cat" / "b.jpg"
    lost.unlink()  # its content is known, so nothing opens it again
    with pytest.raises(BadInput, match=f"^{re.escape(repr(str(lost)))} cannot be read .No such file"):
        findings.inspect(found)


def test_what_is_known_of_a_content_is_not_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = look(tmp_path / "images", {})
    paths = {file.digest: tmp_path / "gone" for file in before.found.files}  # nothing there to be opened
    assert facts.gather(paths) == before.facts


def test_a_damaged_cache_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = look(tmp_path / "images", {})
    (tmp_path / "cache" / "tune_tl" / facts.FILE).write_bytes(b"no database, " * 100)
    assert findings.inspect(before.found) == before
    paths = {file.digest: tmp_path / "gone" for file in before.found.files}
    assert facts.gather(paths) == before.facts  # and is whole again


def test_equal_hashes_alone_make_no_copies() -> None:
    ones = [facts.ImageFacts(hash=7, mirrored=9, thumb=picture(n, (32, 32)).tobytes()) for n in range(5)]
    first, second, mirrored = alike_pairs(ones)
    assert len(first) == len(second) == len(mirrored) == 0
