"""A search's own folder, `runs/<name>/`: its name, its lock, its JSON files, the weights it keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tune_tl import ledger
from tune_tl.durable import write_json
from tune_tl.experiment import BadInput, Experiment, Observer, TrialResult
from tune_tl.ledger import Past
from tune_tl.preflight import Ready
from tune_tl.results import runs
from tune_tl.results.ranking import finalists
from tune_tl.results.runs import SEARCH_FILE

PACKAGES = ("tune-tl", "torch", "torchvision", "timm", "ray", "optuna", "mlflow", "scikit-learn", "pandas")


def name_for(output: Path, wanted: str | None, space: str, *, resume: bool) -> str:
    """The search's name: the one asked for, else the space's with a number if that is taken.

    With `resume`, the newest search of that space. Raises BadInput for a name that is taken, that is
    no file name, or that nothing can be resumed from.
    """
    if wanted is not None and (not re.fullmatch(r"\w[\w. -]{0,99}", wanted) or len(wanted.encode()) > 200):
        raise BadInput(f"--name {wanted!r} is no plain name; use up to 100 letters, digits, '.', '-' and '_'")
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        raise BadInput(f"--output {str(output)!r} cannot be written; give another folder")
    if resume:
        if wanted is not None:
            return runs.find(output, wanted).name
        mine = [n for n in runs.names(output) if _space_of(output / n) == space]
        if not mine:
            raise BadInput(f"nothing to resume: no search of {space!r} in {output}/; run it without --resume")
        return mine[0]
    # As --name takes it, so that the search can be resumed under it.
    base = re.sub(r"[^\w.-]", "_", space)[:50].lstrip(".-") or "search"
    name = wanted or next(
        n for n in (base, *(f"{base}-{i}" for i in range(2, 100_000))) if not (output / n).exists()
    )
    if (output / name).exists():
        raise BadInput(f"{output / name} exists already; give another --name, or --resume to go on with it")
    return name


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process alone. Raises BadInput if it cannot be had."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BadInput(f"another process is running the search in {folder}; wait for it or stop it") from None
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written ({error.strerror}); give --output another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def begin(experiment: Experiment, ready: Ready, *, retry_failed: bool = False) -> Past:
    """Write down what is searched; what earlier runs of the search leave to this one.

    On a resume, raises BadInput if it is something else than before, or if the record of it is damaged.
    What failed is run again if asked to, and what the budget ended before its first epoch always.
    """
    folder = experiment.folder
    path = folder / SEARCH_FILE
    facts = {
        "id": uuid.uuid4().hex,
        "name": experiment.name,
        "space": ready.space.name,
        "strategy": experiment.strategy,
        "seed": experiment.seed,
        "trials": experiment.trials,
        "budget_s": experiment.budget_s,
        "epochs": ready.space.epochs,
        "dataset": ready.dataset.describe(),
        "class_names": list(ready.dataset.classes),
        "domains": {field: dataclasses.asdict(domain) for field, domain in ready.space.domains.items()},
        "left_out": ready.missing,
        "versions": versions(),
    }
    if path.exists():
        facts["id"] = _same_search(path, facts)
        ledger.require_whole(folder)
    elif ledger.elapsed(folder):
        raise BadInput(
            f"{path} is missing, and with it what was searched; restore it, or give another --name"
        )
    ended = ledger.read(folder)
    past = [r for r in ended if r.best or (r.failed and not retry_failed)]
    again = {r.config: () for r in ended if r not in past}
    require_weights(past, ready)
    ledger.Ledger(folder, lambda: 0.0).close()  # its files are there from now on, or were lost
    write_json(path, facts)
    return Past(tuple(past), {**ledger.unfinished(folder), **again})


def _same_search(path: Path, facts: dict[str, Any]) -> str:
    """The id of the search that `path` describes. Raises BadInput if `facts` are of another search."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old, domains = before["dataset"]["fingerprint"], dict(before["domains"])
        known = str(before["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error!r}); restore it, or give another --name") from None
    new = facts["dataset"]["fingerprint"]
    if old != new:
        raise BadInput(
            f"{path.parent} was started on other images (fingerprint {old}, now {new}); "
            "restore them, or start a search under another --name"
        )
    now: dict[str, Any] = json.loads(json.dumps(facts["domains"]))
    # Backbones come and go with their weights.
    changed = [f for f in now if f != "backbone" and now[f] != domains.get(f)]
    if changed:
        raise BadInput(
            f"{path.parent} was started with another {' and '.join(changed)}; resume it as it was, "
            "or start a search under another --name"
        )
    return known


def require_weights(past: Iterable[TrialResult], ready: Ready) -> None:
    """Raises BadInput if trials on record may be finalists whose backbone's weights are gone."""
    for result in past:
        if result.best and result.config.backbone in ready.missing:
            name = result.config.backbone
            raise BadInput(
                f"trial {result.trial} on record used {name}, whose weights are no longer to be had "
                f"({ready.missing[name]}); bring them back, or start a search under another --name"
            )


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class KeptWeights(Observer):
    """Bounds the disk: only trials that run and those that would be finalists keep their weights."""

    def __init__(self, checkpoint: Callable[[str], Path], past: Iterable[TrialResult]) -> None:
        self._checkpoint = checkpoint
        self._best = finalists(past)

    def end(self, result: TrialResult) -> None:
        contenders = (*self._best, result)
        self._best = finalists(contenders)
        for loser in contenders:
            if loser not in self._best:
                self._checkpoint(loser.trial).unlink(missing_ok=True)


def _space_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))["space"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
