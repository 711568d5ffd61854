"""The images that a search or an audit is about: where they lie, and which of them an audit left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tune_tl.data.audit import cleaned
from tune_tl.data.audit.findings import Findings, inspect
from tune_tl.data.folder import Dataset, Found, Source, arrange, list_images
from tune_tl.data.remarks import images
from tune_tl.data.sources.catalog import published_split, resolve, sample_banner
from tune_tl.errors import BadInput
from tune_tl.terminal.progress import progress

PUBLISHED = "published split"


def find_dataset(
    named: str | None,
    data: Path | None,
    console: Console,
    *,
    space: str,
    clean: bool = False,
    output: Path = Path("runs"),
) -> Dataset:
    """The images that `named`, a space's dataset, or `data` means: scanned, less what an audit left out.

    The audit's list lies in `output`; for a space that is to be `clean` one is made. Raises BadInput.
    """
    name, source, found, notes = locate(named, data, console, space)
    made, audit_notes = _list_for(found, output, name, clean, console)
    own = space if source == "local" and name != named else name
    without = cleaned.read(made, found) if made else ()
    dataset = arrange(found, name=own, source=source, without=without)
    if made and dataset.left_out:
        audit_notes.append(_left_out(dataset, made))
    if dataset.left_out and PUBLISHED in notes:
        notes[notes.index(PUBLISHED)] = f"{PUBLISHED}, less {images(len(dataset.left_out))}"
    return replace(dataset, notes=(*notes, *audit_notes, *dataset.notes), left_out_by=made)


def locate(
    named: str | None, data: Path | None, console: Console, space: str = ""
) -> tuple[str, Source, Found, list[str]]:
    """The name that an audit goes by, the source, what lies there, and notes on it. Raises BadInput."""
    if named is None or Path(named).is_absolute():
        folder = data or (Path(named) if named else None)
        if folder is None:
            raise BadInput(f"space {space!r} names no dataset; give --data DIR")
        folder = folder.expanduser()
        return folder.resolve().name, "local", list_images(folder), []
    there = resolve(named, data)
    if there.source == "sample":
        console.print(sample_banner(there), style="bold", soft_wrap=True, markup=False)
    split = published_split(there.entry, there.root) if there.entry else None
    notes = [PUBLISHED] if split else []
    if data is None and Path(named).is_dir():
        notes.append(f"not the folder {named!r} that lies here: its name is ./{named}")
    return named, there.source, list_images(there.root, split), notes


def _list_for(
    found: Found, output: Path, name: str, clean: bool, console: Console
) -> tuple[Path | None, list[str]]:
    """The list to go by, and lines on those not gone by; where a space asks for one it is made."""
    made, notes = cleaned.usable(output, name, found)
    if made:
        return made, notes
    if not clean:
        return None, [*notes, "python -m tune_tl.audit makes a list for these images"] if notes else []
    folder = cleaned.folder_of(output, name)
    _, old = cleaned.save(folder, look_at(found, console))
    made = folder / cleaned.LIST
    text = f"cleaned before it is split; {made} says what was left out and may be edited"
    console.print(text, soft_wrap=True, markup=False)
    if old:
        notes.append(f"{made} was made anew; the one before it, and what was edited in it, is {old}")
    return made, notes


def _left_out(dataset: Dataset, made: Path) -> str:
    lost = Counter(file.split for file in dataset.left_out)
    of_given = [f"{lost[split]} of the given {split}" for split in ("val", "test") if lost[split]]
    total = f"{images(len(dataset.left_out))} left out by the audit ({made})"
    return ", ".join([total, *of_given])


def look_at(found: Found, console: Console) -> Findings:
    """What an audit finds without a network, with progress. Raises BadInput."""
    with progress(console, "looking at images, once") as show:
        return inspect(found, show)
