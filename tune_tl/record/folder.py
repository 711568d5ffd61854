"""A search's own folder, `runs/<name>/`: its name, who holds it, and how it is found again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from tune_tl.data.names import is_text
from tune_tl.errors import BadInput, near
from tune_tl.record.json_files import RESULT_FILE, SEARCH_FILE, SearchFacts
from tune_tl.record.ledger import ENDS_FILE, EPOCHS_FILE
from tune_tl.storage import files

LOCK = ".lock"
MARKS = (SEARCH_FILE, EPOCHS_FILE, ENDS_FILE, RESULT_FILE)  # a folder with one of them is a search's


class Taken(BadInput):
    """A name is another search's, or another process's."""


@contextlib.contextmanager
def opened(output: Path, wanted: str | None, space: str, *, resume: bool) -> Iterator[Path]:
    """The folder of the search, held for this process alone; a new one goes if nothing was put into it.

    Its name is as of `name_for`. Raises BadInput if it cannot be had.
    """
    held_by_others: set[str] = set()
    with contextlib.ExitStack() as held:
        while True:
            folder = output / name_for(output, wanted, space, resume=resume, but=held_by_others)
            try:
                held.enter_context(claimed(folder, fresh=not resume))
                break
            except Taken:
                if wanted is not None or resume:
                    raise
                held_by_others.add(folder.name)
        yield folder


def name_for(output: Path, wanted: str | None, space: str, *, resume: bool, but: Collection[str] = ()) -> str:
    """The search's name: the one asked for, else the space's with a number if that is taken or among `but`.

    With `resume`, the newest search of that space. Raises BadInput for a name that is taken, that is
    no file name, or that nothing can be resumed from.
    """
    if wanted is not None and (not re.fullmatch(r"\w[\w. -]{0,99}", wanted) or len(wanted.encode()) > 200):
        raise BadInput(f"--name {wanted!r} is no plain name; use up to 100 letters, digits, '.', '-' and '_'")
    if not is_text(str(output.absolute())):
        raise BadInput(f"--output {str(output)!r} has a name that is no text; give another folder")
    try:
        place = files.nearest(output)
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise BadInput(f"--output {str(output)!r} cannot be used ({error.strerror}); give another") from None
    if not os.access(place, os.W_OK):
        raise BadInput(f"--output {str(output)!r} cannot be written; give another folder")
    if resume:
        if wanted is not None:
            return search_folder(output, wanted).name
        spaces = {name: _space_of(output / name) for name in searches(output)}
        mine = [name for name, its in spaces.items() if its == space]
        if not mine:
            lost = [name for name, its in spaces.items() if its is None]
            hint = f" ({output / lost[0] / SEARCH_FILE} is missing or damaged)" if lost else ""
            raise BadInput(
                f"nothing to resume: no search of {space!r} in {output}/{hint}; run it without --resume"
            )
        return mine[0]
    # As --name takes it, so that the search can be resumed under it.
    base = re.sub(r"[^\w.-]", "_", space)[:50].lstrip(".-") or "search"
    name = wanted or next(
        n
        for n in (base, *(f"{base}-{i}" for i in range(2, 100_000)))
        if n not in but and not _taken(output / n)
    )
    if _taken(output / name):
        raise _exists(output / name)
    return name


def _taken(folder: Path) -> bool:
    """Whether anything is there but what a process leaves that came no further than to claim it."""
    try:
        return any(not path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return folder.exists()


def _begun(folder: Path) -> bool:
    """Whether a line is on record there."""
    return any(file.is_file() and file.stat().st_size for file in (folder / EPOCHS_FILE, folder / ENDS_FILE))


def _space_of(folder: Path) -> str | None:
    """What was searched there; None if its record does not say."""
    try:
        return SearchFacts.read(folder, required=["space"]).space
    except BadInput:
        return None


def _exists(folder: Path) -> Taken:
    return Taken(f"{folder} exists already; give another --name, or --resume to go on with it")


@contextlib.contextmanager
def claimed(folder: Path, *, fresh: bool = False) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process alone; a `fresh` one for a search that is new.

    One that was made here is removed again if nothing was put into it, or if BadInput comes before the first
    line on record. Raises BadInput if it cannot be had, Taken if that is because somebody has it.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (owner := folder.stat().st_uid) != os.geteuid():
                raise BadInput(
                    f"{folder} belongs to another user (number {owner}, you are {os.geteuid()}); have it "
                    "made yours with chown, or give another --name or --output"
                )
            held.enter_context(files.claimed(folder / LOCK))
        except files.Locked:
            raise Taken(
                f"another process is running the search in {folder}; wait for it, stop it, or give another "
                "--name"
            ) from None
        except OSError as error:
            if isinstance(error, FileNotFoundError) and folder.parent.is_dir():  # who had it removes it now
                raise Taken(f"another process has just left {folder}; run the same command again") from None
            raise BadInput(
                f"{folder} cannot be written ({error.strerror}); give --output another folder"
            ) from None
        try:
            if fresh and _taken(folder):  # by a process that was here, and has ended, since its name was free
                raise _exists(folder)
            try:
                yield
            except BadInput:
                if folder in made and not _begun(folder):  # what could not start leaves nothing
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        finally:
            if folder in made and not _taken(folder):
                shutil.rmtree(folder, ignore_errors=True)  # with the lock, while it is held
                with contextlib.suppress(OSError):  # others may have made theirs beside it
                    for place in made[1:]:
                        place.rmdir()


def searches(output: Path) -> list[str]:
    """The searches under `output`, the one written to last first."""
    if not output.is_dir():
        return []
    touched = {
        f: [m.stat().st_mtime for mark in MARKS if (m := f / mark).is_file()] for f in output.iterdir()
    }
    found = [(max(times), folder.name) for folder, times in touched.items() if times]
    return [name for _, name in sorted(found, reverse=True)]


def search_folder(output: Path, name: str | None = None) -> Path:
    """The folder of the search `name`, or of the newest; BadInput with near spellings if there is none."""
    if name and Path(name).parent == output:  # as it is printed everywhere
        name = Path(name).name
    known = searches(output)
    if not known:
        raise BadInput(f"no search in {output}/: run `python -m tune_tl.search SPACE`, or give --output DIR")
    if name is None or name in known:
        return output / (name or known[0])
    hint = near(name, known) or f"; there are: {', '.join(known[:8])}"
    raise BadInput(f"no search named {name!r} in {output}/{hint}")
