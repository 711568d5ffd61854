"""The cleaned list: what an audit wrote, a person may have edited, and a search goes by."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tune_tl.data.audit.findings import Findings, left_out
from tune_tl.data.folder import Found
from tune_tl.errors import BadInput
from tune_tl.storage.files import replacing, write_json
from tune_tl.storage.tables import escaped, unescaped

LIST, RECORD = "files.csv", "audit.json"
COLUMNS = ("path", "class", "split", "keep", "reason")
_SEPARATORS = ",;\t"  # spreadsheets of some countries write semicolons
_ENCODING = {"errors": "surrogateescape", "newline": ""}  # file names need not be text


def folder_of(output: Path, name: str) -> Path:
    """Where the audit of the dataset or folder `name` lies."""
    return output / f"audit-{name}"


def content(found: Found) -> str:
    """16 hex digits over every file's path, bytes and given split."""
    lines = sorted(f"{found.name(file)!a} {file.digest} {file.split}" for file in found.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def save(folder: Path, findings: Findings) -> tuple[dict[str, Any], Path | None]:
    """Write list and record into `folder`; the record, and where the list before it is, if it differs.

    Raises BadInput if the folder cannot be written.
    """
    rows, record = list(_rows(findings)), to_dict(findings)
    lines = io.StringIO()
    # Lines end with \r\n, csv's own: with \n alone a \r within a file's name would go out unquoted.
    csv.writer(lines).writerows([COLUMNS, *([escaped(cell) for cell in row] for row in rows)])
    text = lines.getvalue().encode("utf-8", "surrogateescape")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = _kept(folder / LIST, text)
        with replacing(folder / LIST) as part:
            part.write_bytes(text)
        write_json(folder / RECORD, record)
    except OSError as error:
        raise BadInput(
            f"{str(folder)!r} cannot be written ({error.strerror}); give another --output"
        ) from None
    return record, old


def _kept(made: Path, text: bytes) -> Path | None:
    """A copy of the list `made` beside it, unless it is `text` already: a person may have worked on it."""
    before = made.read_bytes() if made.exists() else text
    if before == text:
        return None
    names = (f"files.old{f'-{n}' if n > 1 else ''}.csv" for n in count(1))
    olds = (made.with_name(name) for name in names)
    old = next(path for path in olds if not path.exists() or path.read_bytes() == before)
    with replacing(old) as part:
        part.write_bytes(before)
    return old


def to_dict(findings: Findings) -> dict[str, Any]:
    """Everything that was found, as plain values for JSON; paths are below the root."""
    found = findings.found
    names = {file.path: findings.name(file) for file in found.files}
    reasons = left_out(findings)
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
        "left_out": {names[path]: why for path, why in reasons.items()},
        "notes": [*found.notes, *findings.notes],
    }


def usable(output: Path, name: str, found: Found) -> tuple[Path | None, list[str]]:
    """The newest list in `output` that was made for what was found, and a line on each that is not used.

    Lists for other folders are passed over, but for the one that lies where that of `name` would.
    """
    here, now, own = str(found.root.resolve()), content(found), folder_of(output, name) / LIST
    made, notes = None, []
    for path in sorted(output.glob(f"audit-*/{LIST}"), key=_audited_at, reverse=True):
        root, its_content = _made_for(path)
        if (root, its_content) == (here, now) and not made:
            made = path
            continue
        if root == here:
            changed = "the images changed since, or the split that is given for them"
            why = changed if its_content != now else f"{made} is newer"
        elif path == own:
            why = f"it was made for {ascii(root)[1:-1]}" if root else f"{RECORD} beside it is gone or damaged"
        else:
            continue
        notes.append(f"{path} is not used: {why}")
    return made, notes


def _made_for(made: Path) -> tuple[str, str]:
    """The folder and the content that a list was made for; empty where its record does not say."""
    try:
        record = json.loads(made.with_name(RECORD).read_text(encoding="utf-8"))
        return str(record["root"]), str(record["content"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "", ""


def _audited_at(made: Path) -> tuple[float, str]:
    record = made.with_name(RECORD)  # the list itself changes when it is edited
    return (record.stat().st_mtime if record.exists() else 0.0), made.parent.name


def read(path: Path, found: Found) -> set[Path]:
    """The files of `found` that the list in `path` leaves out. Raises BadInput, naming the line."""
    known = {found.name(file): file.path for file in found.files}
    labels = {found.name(file): file.label for file in found.files}
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
                name, keep = unescaped(row["path"] or ""), (row["keep"] or "").strip().lower()
                where = f"{path}, line {reader.line_num}"
                if name not in known:
                    raise BadInput(f"{where}: there is no image {name!a} in {found.root}; remove the line")
                if keep not in ("yes", "no"):
                    raise BadInput(f"{where}: keep must be yes or no, but got {ascii(keep)[:80]}")
                if unescaped(row.get("class") or labels[name]) != labels[name]:
                    raise BadInput(f"{where}: to change the class of {name!a}, move the file to its folder")
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
    reasons = left_out(findings)
    for file in findings.found.files:
        why = [reasons[file.path]] if file.path in reasons else []
        if not why:
            why += [f"{kind}: {of[file.path]}" for kind, of in findings.odd.items() if file.path in of]
            why += [f"suspect: {findings.suspects[file.path]}"] if file.path in findings.suspects else []
        keep = "no" if file.path in reasons else "yes"
        yield findings.name(file), file.label, file.split or "", keep, "; ".join(why)
