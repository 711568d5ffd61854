"""A search's own folder, `runs/<name>/`: its name, its lock, its JSON files, the weights it keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tune_tl import ledger, resuming
from tune_tl.data import manifest
from tune_tl.data.download import sha256_of
from tune_tl.data.layout import is_text
from tune_tl.durable import write_json
from tune_tl.experiment import BadInput, Experiment, Observer, TrialResult
from tune_tl.ledger import Past
from tune_tl.preflight import Ready, room_note
from tune_tl.results import runs
from tune_tl.results.ranking import finalists
from tune_tl.results.runs import RESULT_FILE, SEARCH_FILE
from tune_tl.tracking.store import redacted, same_store
from tune_tl.training.checkpoint import Checkpoints

LOCK = ".lock"
PACKAGES = ("tune-tl", "torch", "torchvision", "timm", "ray", "optuna", "mlflow", "scikit-learn", "pandas")


def name_for(output: Path, wanted: str | None, space: str, *, resume: bool) -> str:
    """The search's name: the one asked for, else the space's with a number if that is taken.

    With `resume`, the newest search of that space. Raises BadInput for a name that is taken, that is
    no file name, or that nothing can be resumed from.
    """
    if wanted is not None and (not re.fullmatch(r"\w[\w. -]{0,99}", wanted) or len(wanted.encode()) > 200):
        raise BadInput(f"--name {wanted!r} is no plain name; use up to 100 letters, digits, '.', '-' and '_'")
    if not is_text(str(output.absolute())):
        raise BadInput(f"--output {str(output)!r} has a name that is no text; give another folder")
    try:
        place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise BadInput(f"--output {str(output)!r} cannot be used ({error.strerror}); give another") from None
    if not os.access(place, os.W_OK):
        raise BadInput(f"--output {str(output)!r} cannot be written; give another folder")
    if resume:
        if wanted is not None:
            return runs.find(output, wanted).name
        mine = [n for n in runs.names(output) if recorded(output / n, "space") == space]
        if not mine:
            lost = [n for n in runs.names(output) if recorded(output / n, "space") is None]
            hint = f" ({output / lost[0] / SEARCH_FILE} is missing or damaged)" if lost else ""
            raise BadInput(
                f"nothing to resume: no search of {space!r} in {output}/{hint}; run it without --resume"
            )
        return mine[0]
    # As --name takes it, so that the search can be resumed under it.
    base = re.sub(r"[^\w.-]", "_", space)[:50].lstrip(".-") or "search"
    name = wanted or next(
        n for n in (base, *(f"{base}-{i}" for i in range(2, 100_000))) if not _taken(output / n)
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


def _exists(folder: Path) -> BadInput:
    return BadInput(f"{folder} exists already; give another --name, or --resume to go on with it")


@contextlib.contextmanager
def claimed(folder: Path, *, fresh: bool = False) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process alone; a `fresh` one for a search that is new.

    Raises BadInput if it cannot be had.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (owner := folder.stat().st_uid) != os.geteuid():
            raise BadInput(
                f"{folder} belongs to another user (number {owner}, you are {os.geteuid()}); have it made "
                "yours with chown, or give another --name or --output"
            )
        lock.acquire()
    except Timeout:
        raise BadInput(
            f"another process is running the search in {folder}; wait for it, stop it, or give another --name"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written ({error.strerror}); give --output another folder"
        ) from None
    try:
        if fresh and _taken(folder):  # by a process that was here, and has ended, since its name was free
            raise _exists(folder)
        yield
    finally:
        lock.release()


def begin(experiment: Experiment, ready: Ready, prepared_s: float = 0.0) -> Past:
    """Write down what is searched; what earlier runs of the search leave to this one.

    `prepared_s` is what this run took until now. On a resume, raises BadInput if it is something else than
    before, or if the record of it is damaged. What failed is run again if asked to, and what the budget
    ended before its first epoch always.
    """
    folder = experiment.folder
    path = folder / SEARCH_FILE
    store = same_store(recorded(folder, "tracking_uri"), experiment.tracking_uri)
    facts = _facts(experiment, ready) | {"tracking_uri": redacted(store), "prepared_s": prepared_s}
    notes: list[str] = []
    if path.exists():
        known, notes = resuming.same_search(path, facts, ready.dataset)
        facts |= {"id": known["id"], "prepared_s": known["prepared_s"] + prepared_s}
        ledger.require_whole(folder)
    elif ledger.elapsed(folder) or (folder / RESULT_FILE).exists():
        raise BadInput(
            f"{path} is missing, and with it what was searched; restore it, or give another --name"
        )
    resuming.require_told(folder)
    ended = ledger.read(folder)
    past = [r for r in ended if r.best or (r.failed and not experiment.retry_failed)]
    cut_off = ledger.unfinished(folder)
    resuming.require_weights([*(r.config for r in ended), *cut_off], ready)
    resuming.require_told_epochs(cut_off, experiment.checkpoints)
    known_for_good = {r.trial for r in past}
    again = {r.config: () for r in ended if r.trial not in known_for_good}
    for config in again:  # they start anew
        Checkpoints(experiment.checkpoints, config.key).remove()
    ledger.Ledger(folder, lambda: 0.0).close()  # its files are there from now on, or were lost
    manifest.write(folder, ready.dataset)
    write_json(path, facts)
    if note := room_note(experiment, ready.pretrained):
        notes.append(note)
    return Past(tuple(past), {**cut_off, **again}, tuple(notes), facts["prepared_s"])


def _facts(experiment: Experiment, ready: Ready) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "name": experiment.name,
        "space": ready.space.name,
        "strategy": experiment.strategy,
        "seed": experiment.seed,
        "trials": experiment.trials,
        "budget_s": experiment.budget_s,
        "epochs": ready.space.epochs,
        "dataset": ready.dataset.describe(),
        "left_out_by": str(ready.dataset.left_out_by) if ready.dataset.left_out_by else None,
        "notes": list(ready.dataset.notes),
        "class_names": list(ready.dataset.classes),
        "domains": {field: dataclasses.asdict(domain) for field, domain in ready.space.domains.items()},
        "left_out": ready.missing,
        "versions": versions(),
        "code": code(),
    }


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def code() -> str:
    """Eight hex digits over the source of this package, which may change between two versions of it."""
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py"))
    said = "".join(f"{file.relative_to(package)} {sha256_of(file)}\n" for file in files)
    return hashlib.sha256(said.encode()).hexdigest()[:8]


class KeptWeights(Observer):
    """Bounds the disk: only trials that run and those that would be finalists keep their weights."""

    def __init__(self, folder: Path, past: Iterable[TrialResult]) -> None:
        self._folder = folder
        self._best: tuple[TrialResult, ...] = ()
        for result in past:  # a process that was killed may not have come to it
            self.end(result)

    def end(self, result: TrialResult) -> None:
        Checkpoints(self._folder, result.trial).remove_states()
        contenders = (*self._best, result)
        self._best = finalists(contenders)
        for loser in contenders:
            if loser not in self._best:
                Checkpoints(self._folder, loser.trial).remove()


def recorded(folder: Path, fact: str) -> str | None:
    """What the search in `folder` says of itself; None if it does not."""
    try:
        found = json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))[fact]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
