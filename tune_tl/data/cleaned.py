"""The cleaned list: what an audit wrote, a person may have edited, and a search goes by."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune_tl.data.folder import Found
from tune_tl.data.inspect import Findings, left_out
from tune_tl.durable import replacing, write_json
from tune_tl.experiment import BadInput

LIST, RECORD, OLD_LIST = "files.csv", "audit.json", "files.old.csv"
COLUMNS = ("path", "class", "split", "keep", "reason")
# What a spreadsheet would compute goes behind a quote, and so does a quote, to be told apart.
_QUOTED = ("=", "+", "-", "@", "\t", "\r", "'")
_SEPARATORS = ",;\t"  # spreadsheets of some countries write semicolons
_ENCODING = {"errors": "surrogateescape", "newline": ""}  # file names need not be text


def folder_of(output: Path, name: str) -> Path:
    """Where the audit of the dataset or folder `name` lies."""
    return output / f"audit-{name}"


def content(found: Found) -> str:
    """16 hex digits over every file's path, bytes and given split."""
    lines = sorted(f"{_name(found, file.path)!a} {file.digest} {file.split}" for file in found.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def save(folder: Path, findings: Findings) -> dict[str, Any]:
    """Write list and record into `folder`, and give the record. A list that differs is kept beside it.

    Raises BadInput if the folder cannot be written.
    """
    rows, record = list(_rows(findings)), to_dict(findings)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [COLUMNS, *([_quoted(cell) for cell in row] for row in rows)]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / LIST
        if made.exists() and made.read_bytes() != text.getvalue().encode("utf-8", "surrogateescape"):
            made.replace(folder / OLD_LIST)  # a person may have worked on it
        with replacing(made) as part, part.open("w", encoding="utf-8", **_ENCODING) as file:  # type: ignore[call-overload]
            file.write(text.getvalue())
        write_json(folder / RECORD, record)
    except OSError as error:
        raise BadInput(
            f"{str(folder)!r} cannot be written ({error.strerror}); give another --output"
        ) from None
    return record


def to_dict(findings: Findings) -> dict[str, Any]:
    """Everything that was found, as plain values for JSON; paths are below the root."""
    found = findings.found
    names = {file.path: findings.name(file) for file in found.files}
    gone = left_out(findings)
    return {
        "root": str(found.root.resolve()),
        "content": content(found),
        "images": len(found.files),
        "classes": findings.sizes,
        "splits": {s: sum(f.split == s for f in found.files) for s in ("train", "val", "test", None)},
        "odd": {kind: {names[p]: why for p, why in of.items()} for kind, of in findings.odd.items()},
        "copies": [
            {
                "kind": group.kind,
                "files": [names[file.path] for file in group.files],
                "classes": group.labels,
                "splits": group.splits,
                "across": group.across,
            }
            for group in findings.groups
        ],
        "suspects": {names[path]: why for path, why in findings.suspects.items()},
        "left_out": {names[path]: why for path, why in gone.items()},
        "notes": [*found.notes, *findings.notes],
    }


def usable(folder: Path, found: Found) -> tuple[set[Path] | None, str]:
    """The files that the list in `folder` leaves out, and a line on it for people.

    None without a list, or with one for another folder or another content; the line is then empty or says
    so. Raises BadInput if the list was made for this but cannot be read.
    """
    made = folder / LIST
    if not made.exists():
        return None, ""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        root, said = record["root"], record["content"]
    except (OSError, ValueError, TypeError, KeyError):
        return None, f"{made} is not used: without {RECORD} nobody knows what it was made for"
    if root != str(found.root.resolve()):
        return None, f"{made} is not used: it was made for {ascii(root)[1:-1]}"
    if said != content(found):
        return None, f"{made} is not used: the images changed since; python -m tune_tl.audit makes it anew"
    gone = read(made, found)
    return gone, f"{len(gone)} images left out by the audit ({made})"


def read(path: Path, found: Found) -> set[Path]:
    """The files of `found` that the list in `path` leaves out. Raises BadInput, naming the line."""
    known = {_name(found, file.path): file.path for file in found.files}
    kept: dict[str, bool] = {}
    try:
        with path.open(encoding="utf-8-sig", **_ENCODING) as file:  # type: ignore[call-overload]
            head = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=head.count)
            reader = csv.DictReader(file, delimiter=separator)
            if not {"path", "keep"} <= set(reader.fieldnames or ()):
                raise BadInput(f"{path}, line 1: expected the columns {', '.join(COLUMNS)}")
            for row in reader:
                name, keep = _unquoted(row["path"] or ""), (row["keep"] or "").strip().lower()
                where = f"{path}, line {reader.line_num}"
                if name not in known:
                    raise BadInput(f"{where}: there is no image {name!a} in {found.root}; remove the line")
                if keep not in ("yes", "no"):
                    raise BadInput(f"{where}: keep must be yes or no, but got {ascii(keep)[:80]}")
                if name in kept:
                    raise BadInput(f"{where}: {name!a} is listed before; remove one of the lines")
                kept[name] = keep == "yes"
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read ({error}); mend or remove it") from None
    if unlisted := sorted(set(known) - set(kept)):
        raise BadInput(
            f"{path} lacks {unlisted[0]!a} ({len(unlisted)} in all); to leave an image out write no as "
            "its keep"
        )
    return {known[name] for name, keep in kept.items() if not keep}


def _rows(findings: Findings) -> Iterator[tuple[str, str, str, str, str]]:
    gone = left_out(findings)
    for file in findings.found.files:
        why = [gone[file.path]] if file.path in gone else []
        if not why:
            why += [f"{kind}: {of[file.path]}" for kind, of in findings.odd.items() if file.path in of]
            why += [f"suspect: {findings.suspects[file.path]}"] if file.path in findings.suspects else []
        keep = "no" if file.path in gone else "yes"
        yield findings.name(file), file.label, file.split or "", keep, "; ".join(why)


def _name(found: Found, path: Path) -> str:
    return path.relative_to(found.root).as_posix()


def _quoted(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_QUOTED) else cell


def _unquoted(cell: str) -> str:
    return cell[1:] if cell.startswith("'") else cell
