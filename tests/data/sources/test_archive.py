from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tune_tl.data.sources.archive import unpack_zip
from tune_tl.data.sources.download import BadArchive, NoSpace

Member = tuple[str | zipfile.ZipInfo, bytes]


def made(path: Path, *members: Member, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content, compress_type=compression)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def test_an_archive_unpacks_without_the_litter_of_desktops(tmp_path: Path) -> None:
    archive = made(
        tmp_path / "a.zip",
        ("set/", b""),
        ("set/cat/1.jpg", b"one"),
        ("set/cat/Thumbs.db", b""),
        ("set/dog/2.jpg", b"two"),
        ("set/dog/._2.jpg", b""),
        ("set/.DS_Store", b""),
        ("__MACOSX/set/cat/1.jpg", b"resource fork"),
    )
    unpack_zip(archive, tmp_path / "out")
    files = {
        p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert {name: path.read_bytes() for name, path in files.items()} == {
        "set/cat/1.jpg": b"one",
        "set/dog/2.jpg": b"two",
    }


HOSTILE: dict[str, Member] = {
    "parent": ("../evil.jpg", b"x"),
    "parent-inside": ("set/../../evil.jpg", b"x"),
    "absolute": ("/evil.jpg", b"x"),
    "drive": ("C:/evil.jpg", b"x"),
    "stream": ("set/a.jpg:evil", b"x"),
    "backslash": ("..\\evil.jpg", b"x"),
    "newline": ("set/a\nb.jpg", b"x"),
    "escape": ("set/\x1b[2Ja.jpg", b"x"),
    "nothing": (".", b"x"),
    "too-long": ("a" * 300 + ".jpg", b"x"),
    "deep": ("a/" * 51 + "x.jpg", b"x"),
    "deeper-than-python": ("a/" * 1900 + "x.jpg", b"x"),
    "deeper-than-paths": ("a/" * 10_000 + "x.jpg", b"x"),
    "link": (special("set/link", stat.S_IFLNK), b"/etc/passwd"),
    "link-in-litter": (special("__MACOSX/link", stat.S_IFLNK), b"/etc/passwd"),
    "device": (special("set/null", stat.S_IFCHR), b""),
    "block-device": (special("set/disk", stat.S_IFBLK), b""),
    "pipe": (special("set/pipe", stat.S_IFIFO), b""),
    "socket": (special("set/socket", stat.S_IFSOCK), b""),
    "bomb": ("set/zeros.jpg", bytes(20 << 20)),
    "same-twice": ("set/1.jpg", b"again"),
    "file-as-folder": ("set/1.jpg/2.jpg", b"x"),
    "file-over-folder": ("set", b"x"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("member", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_member_refuses_the_whole_archive(tmp_path: Path, member: Member) -> None:
    archive = made(tmp_path / "a.zip", ("set/1.jpg", b"one"), member)
    with pytest.raises(BadArchive, match=r"^a\.zip "):
        unpack_zip(archive, tmp_path / "inner" / "out")
    assert list((tmp_path / "inner").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "inner"}


def test_names_that_differ_in_case_or_accents_are_two_files(tmp_path: Path) -> None:
    names = ("A.jpg", "a.jpg", "\u00e9.jpg", "e\u0301.jpg")
    unpack_zip(made(tmp_path / "a.zip", *((name, name.encode()) for name in names)), tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {n: n for n in names}


def test_a_file_behind_a_link_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = special("set/link", stat.S_IFLNK)
    archive = made(tmp_path / "a.zip", (link, bytes(tmp_path / "elsewhere")), ("set/link/evil.jpg", b"x"))
    with pytest.raises(BadArchive, match="is a link"):
        unpack_zip(archive, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("stored", "instead"),
    [("a.b", b"a\0b"), ("\u00e9", b"\xff\xfe"), ("\u2020", b"\xed\xa0\x80")],
    ids=["nul", "no-utf8", "surrogate"],
)
def test_a_name_that_zipfile_itself_would_not_write_is_refused(
    tmp_path: Path, stored: str, instead: bytes
) -> None:
    archive = made(tmp_path / "a.zip", (f"{stored}.jpg", b"x"))
    archive.write_bytes(archive.read_bytes().replace(stored.encode(), instead))
    with pytest.raises(BadArchive, match=r"^a\.zip "):
        unpack_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_more_members_than_anyone_has_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_tl.data.sources.archive.MAX_MEMBERS", 100)
    archive = made(tmp_path / "a.zip", *((f"{n}.jpg", b"") for n in range(101)))
    with pytest.raises(BadArchive, match="holds 101 members, more than 100"):
        unpack_zip(archive, tmp_path / "out")
    unpack_zip(made(tmp_path / "b.zip", *((f"{n}.jpg", b"") for n in range(100))), tmp_path / "out")


def patched(path: Path, where: int, value: bytes) -> Path:
    """Overwrite bytes of the one member's entry in the archive's directory."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + where
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


FLAGS, SIZE = 8, 24  # offsets in an entry of a zip's directory


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = patched(made(tmp_path / "a.zip", ("1.jpg", b"one")), FLAGS, struct.pack("<H", 1))
    with pytest.raises(BadArchive, match=r"holds '1\.jpg' encrypted"):
        unpack_zip(archive, tmp_path / "out")


def test_a_member_that_hides_its_size_is_refused(tmp_path: Path) -> None:
    archive = patched(made(tmp_path / "a.zip", ("1.jpg", bytes(20 << 20))), SIZE, struct.pack("<I", 1000))
    with pytest.raises(BadArchive, match="damaged"):
        unpack_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_of_more_bytes_than_there_are_is_refused(tmp_path: Path) -> None:
    """2**63, as only the 64-bit extension of the format can say it."""
    archive = made(tmp_path / "a.zip", ("1.jpg", b"one"))
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\x01\x02")
    wide = struct.pack("<HHQQ", 1, 16, 2**63, 2**63)
    struct.pack_into("<II", content, entry + 20, 2**32 - 1, 2**32 - 1)  # packed and unpacked: look there
    struct.pack_into("<H", content, entry + 30, len(wide))
    content[entry + 46 + len("1.jpg") : entry + 46 + len("1.jpg")] = wide
    end = content.index(b"PK\x05\x06")
    struct.pack_into("<I", content, end + 12, end - entry)
    archive.write_bytes(content)
    with pytest.raises(BadArchive, match=r"would unpack to 9,223,372,036,854,775,808 bytes"):
        unpack_zip(archive, tmp_path / "out")


def test_a_member_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = patched(made(tmp_path / "a.zip", ("1.jpg", b"one")), SIZE, struct.pack("<I", 1000))
    with pytest.raises(BadArchive):
        unpack_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_content_is_refused(tmp_path: Path, compression: int) -> None:
    archive = made(tmp_path / "a.zip", ("1.jpg", bytes(range(256)) * 100), compression=compression)
    content = bytearray(archive.read_bytes())
    content[45:80] = bytes(35)
    archive.write_bytes(content)
    with pytest.raises(BadArchive):
        unpack_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x05\x06"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadArchive, match=r"a\.zip is damaged"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")


def test_an_archive_too_large_for_the_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = made(tmp_path / "a.zip", ("1.jpg", bytes(2_000_000)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(
        NoSpace, match=r"a\.zip, unpacked, needs 2\.0 MB, but the disk of .* has 1\.0 MB left"
    ):
        unpack_zip(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_existing_folder_is_never_written_into(tmp_path: Path) -> None:
    archive = made(tmp_path / "a.zip", ("1.jpg", b"one"))
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack_zip(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
