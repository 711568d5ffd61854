"""Look at a folder of images before anything is learnt from it: `python -m tune_tl.audit DATASET_OR_DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.errors import BadInput
from tune_tl.terminal.door import Parser, door

if TYPE_CHECKING:
    from rich.console import Console

    from tune_tl.data.audit.findings import Findings


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.audit",
        description="Find damaged, odd, doubled and mislabelled images, and list what a search should use.",
    )
    parser.add_argument(
        "dataset", metavar="DATASET_OR_DIR", help="a dataset's name or a folder of class folders"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the images of a named dataset")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


@door(_parser)
def main(options: argparse.Namespace) -> int:
    """Write and print what is wrong with a folder's images. 0: done; 2: bad input; 130, 143: interrupted."""
    from rich.console import Console

    from tune_tl.data.audit import cleaned  # numpy: not for --help
    from tune_tl.data.locating import locate, look_at
    from tune_tl.data.sources.entries import CATALOG
    from tune_tl.report import audit_page

    console = Console(highlight=False, stderr=options.json)
    by_name = options.dataset in CATALOG or options.data is not None
    given = None if by_name else _folder(options.dataset)
    named = str(given.absolute()) if given else options.dataset
    if not given and not options.dataset.isidentifier():
        raise BadInput(f"{options.dataset!r} is neither a folder nor the name of a dataset")
    name, _, found, notes = locate(named, options.data, console)
    findings = _doubted(look_at(found, console), console)
    findings = replace(findings, notes=(*notes, *findings.notes))
    folder = cleaned.folder_of(options.output, name)
    record, old = cleaned.save(folder, findings)
    audit_page.write(folder, name, findings)
    if options.json:
        print(json.dumps(record, indent=2))
    else:
        console.print(audit_page.summary(name, findings), soft_wrap=True)
        console.print(f"report: {folder / audit_page.PAGE}", soft_wrap=True, markup=False)
        goes_by = "the next search of these images goes by it; edit its keep"
        console.print(f"list:   {folder / cleaned.LIST}: {goes_by}", soft_wrap=True, markup=False)
        if old:
            console.print(f"        the list before it: {old}", soft_wrap=True, markup=False)
    return 0


def _folder(text: str) -> Path | None:
    """The folder that `text` names, if it names one. Raises BadInput if that cannot be known."""
    try:
        folder = Path(text).expanduser()
        return folder if text and folder.is_dir() else None  # Path("") is the working directory
    except (OSError, RuntimeError) as error:  # a name too long, a parent that may not be read, ~nobody
        reason = getattr(error, "strerror", None) or error
        raise BadInput(
            f"{text[:80]!r} cannot be looked up ({reason}); give a folder or a dataset's name"
        ) from None


def _doubted(findings: Findings, console: Console) -> Findings:
    """The same findings with the images whose label is doubted, or a note why there are none."""
    from tune_tl.terminal.progress import progress
    from tune_tl.training import suspects

    pretrained = suspects.network()
    if pretrained is None:
        return replace(findings, notes=(*findings.notes, f"no label was doubted: {suspects.way_out()}"))
    with progress(console, f"learning from all others, with {pretrained.backbone.name}") as show:
        doubted, note = suspects.suspects(findings, pretrained, show)
    return replace(findings, suspects=doubted, notes=(*findings.notes, *([note] if note else [])))


if __name__ == "__main__":
    sys.exit(main())
