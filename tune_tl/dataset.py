"""The images that a search or an audit is about: where they lie, and which of them an audit left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tune_tl.data import cleaned
from tune_tl.data.catalog import published_split, resolve, sample_banner
from tune_tl.data.folder import Dataset, Found, Source, arrange, find
from tune_tl.data.inspect import Findings, inspect
from tune_tl.experiment import BadInput
from tune_tl.space import Space


def find_dataset(space: Space, data: Path | None, console: Console, output: Path = Path("runs")) -> Dataset:
    """The images that `space` or `data` name, scanned but not decoded, less those that an audit left out.

    The audit's list lies in `output`; a space that is to be cleaned has one made. Raises BadInput.
    """
    name, source, found, notes = locate(space.dataset, data, console, space.name)
    without, note = _without(found, cleaned.folder_of(output, name), space.clean, console)
    own = space.name if source == "local" and name != space.dataset else name
    dataset = arrange(found, name=own, source=source, without=without)
    return replace(dataset, notes=(*notes, *([note] if note else []), *dataset.notes))


def locate(
    named: str | None, data: Path | None, console: Console, space: str = ""
) -> tuple[str, Source, Found, list[str]]:
    """The name that an audit goes by, the source, what lies there, and notes on it. Raises BadInput."""
    if named is None or Path(named).is_absolute():
        folder = data or (Path(named) if named else None)
        if folder is None:
            raise BadInput(f"space {space!r} names no dataset; give --data DIR")
        folder = folder.expanduser()
        return folder.resolve().name, "local", find(folder), []
    there = resolve(named, data)
    if there.source == "sample":
        console.print(sample_banner(there), style="bold", soft_wrap=True, markup=False)
    split = published_split(there.entry, there.root) if there.entry else None
    notes = ["published split"] if split else []
    if data is None and Path(named).is_dir():
        notes.append(f"not the folder {named!r} that lies here: its name is ./{named}")
    return named, there.source, find(there.root, split), notes


def _without(found: Found, folder: Path, clean: bool, console: Console) -> tuple[set[Path], str]:
    """What the list of an audit leaves out, and a line on it; where a space asks for one it is made."""
    gone, note = cleaned.usable(folder, found)
    if gone is None and clean:
        findings = look_at(found, console)
        cleaned.save(folder, findings)
        gone, note = cleaned.usable(folder, found)
        made = f"cleaned before it is split; {folder / cleaned.LIST} says what was left out and may be edited"
        console.print(made, soft_wrap=True, markup=False)
    return gone or set(), note


def look_at(found: Found, console: Console) -> Findings:
    """What an audit finds without a network, with progress. Raises BadInput."""
    with progress(console, "looking at images, once") as show:
        return inspect(found, show)


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how many of how many images are done, and shows it; off a terminal, that it has begun."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        told: list[int] = []

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not told and not console.is_terminal:
                console.print(f"{what}: {total} images", markup=False)
            told.append(done)

        yield show
