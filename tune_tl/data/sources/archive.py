"""Archives from strangers, unpacked: all of it where it belongs, or nothing at all."""

from __future__ import annotations

import errno
import lzma
import re
import shutil
import stat
import uuid
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tune_tl.data.sources.download import BadArchive, NoSpace, require_room

MAX_RATIO = 100  # photographs hardly shrink; deflate reaches 1000 on zeros
ALWAYS_ALLOWED = 16 << 20  # bytes an archive may unpack to whatever its ratio
MAX_MEMBERS = 1_000_000
MAX_DEPTH = 50  # folders in folders; a thousand are more than Python walks through
CHUNK = 1 << 16

_JUNK = re.compile(r"__MACOSX|\.DS_Store|Thumbs\.db|desktop\.ini|\._.*", re.IGNORECASE)
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the three flag bits of the zip format that say so
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
# What a clever choice of names makes the file system say: a file where a folder is, twice the same.
# bz2 reports damage as an OSError without a number.
_CLASHES = {None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


def unpack_zip(archive: Path, folder: Path) -> None:
    """Unpack `archive` as the new folder `folder`, without the litter of desktops (`__MACOSX`, …).

    `folder` appears complete or not at all. Raises FileExistsError if it is there already, NoSpace,
    and BadArchive for a damaged archive and for any member that is encrypted, no plain file or
    folder, named so that it could land elsewhere, or much larger unpacked than packed.
    """
    if folder.exists():
        raise FileExistsError(f"{str(folder)!r} exists; unpack into a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    unfinished.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                _refuse_hostile(member, archive)
            _refuse_bomb(members, archive, folder.parent)
            for member in members:
                path = PurePosixPath(member.filename)
                if not any(_JUNK.fullmatch(part) for part in path.parts):
                    _write(opened, member, unfinished / path)
        unfinished.rename(folder)
    except _DAMAGED as error:
        raise BadArchive(f"{archive.name} is damaged ({error})") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(
                f"the disk of {folder.parent} filled up while {archive.name} was unpacked"
            ) from None
        if error.errno not in _CLASHES:
            raise
        raise BadArchive(f"{archive.name} is damaged or holds names that clash ({error})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_hostile(member: zipfile.ZipInfo, archive: Path) -> None:
    """Raises BadArchive for a member that could land outside or is no plain file or folder."""
    name = member.orig_filename  # as stored: `filename` has been cut and mended for this system
    if (
        not name.strip("/.")
        or name.startswith("/")
        or ".." in name.split("/")
        or name.count("/") > MAX_DEPTH
        # A backslash separates and a colon names a drive or a stream on Windows.
        or any(character in "\\:" or ord(character) < 32 for character in name)
    ):
        raise BadArchive(f"{archive.name} holds a member with the unsafe name {name[:100]!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{archive.name} holds {name!r}, which is a link or a device, no plain file")
    if member.flag_bits & _ENCRYPTED:
        raise BadArchive(f"{archive.name} holds {name!r} encrypted")


def _refuse_bomb(members: list[zipfile.ZipInfo], archive: Path, place: Path) -> None:
    """Raises BadArchive if the declared sizes are absurd, NoSpace if they do not fit.

    Against the archive's own size, not the members' packed sizes: those may overlap.
    """
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        raise BadArchive(f"{archive.name} holds {len(members):,} members, more than {MAX_MEMBERS:,}")
    if total > max(ALWAYS_ALLOWED, MAX_RATIO * archive.stat().st_size):
        raise BadArchive(f"{archive.name} would unpack to {total:,} bytes, over {MAX_RATIO} times its size")
    require_room(place, total, f"{archive.name}, unpacked,")


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as packed, path.open("xb") as file:
        # zipfile stops at the declared size by itself; counted all the same, for it is what keeps
        # a bomb from filling the disk.
        while chunk := packed.read(CHUNK):
            written += len(chunk)
            if written > member.file_size:
                break
            file.write(chunk)
    if written != member.file_size:
        raise BadArchive(f"{member.filename!r} is not as large as the archive says")
