"""Whether a search that goes on is the one that it was, and whether all of its record is there."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_tl.data.folder import Dataset
from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, Experiment, TrialConfig
from tune_tl.preflight.ready import Ready, room_note
from tune_tl.record import images, ledger
from tune_tl.record.facts import RESULT_FILE, SEARCH_FILE, code, recorded, versions
from tune_tl.record.ledger import RESTORE, Past
from tune_tl.storage.files import write_json
from tune_tl.tracking.store import redacted, same_store
from tune_tl.training.checkpoint import Checkpoints


def same_search(path: Path, facts: dict[str, Any], dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """What `path` says of the search, and a line for each thing that is no longer as it was.

    Raises BadInput if `facts` are of another search: other images, another space.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old, domains = before["dataset"]["fingerprint"], dict(before["domains"])
        known = {"id": str(before["id"]), "prepared_s": float(before.get("prepared_s") or 0.0)}
        versions = dict(before.get("versions") or {})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error!r}); restore it, or give another --name") from None
    new = facts["dataset"]["fingerprint"]
    if old != new:
        which = images.changes(path.parent, dataset)
        said = f": {images.told(which)}" if which else ""
        way = _way_back(which, before.get("left_out_by"), facts["left_out_by"])
        raise BadInput(
            f"{path.parent} was started on other images{said} (fingerprint {old}, now {new}); "
            f"{way}, or start a search under another --name"
        )
    now: dict[str, Any] = json.loads(json.dumps(facts["domains"]))
    # Backbones come and go with their weights.
    changed = [f for f in now if f != "backbone" and now[f] != domains.get(f)]
    if changed:
        raise BadInput(
            f"{path.parent} was started with other values of {' and '.join(changed)}; resume it as it was, "
            "or start a search under another --name"
        )
    return known, [*_other_versions(before | {"versions": versions}, facts), *_other_strategy(before, facts)]


def _way_back(which: dict[str, list[str]], then: str | None, now: str | None) -> str:
    """What brings the images back that a search was started on; `then` and `now` are lists of an audit."""
    by_list = {images.LISTED, images.UNLISTED} & which.keys()
    if not by_list:
        return "restore them"
    lost = [*(["the images"] if which.keys() - by_list else []), *([f"the list {then}"] if then else [])]
    ways = [f"remove the list {now}"] if now and now != then else []
    ways += [f"restore {' and '.join(lost)}"] if lost else []
    return " and ".join(ways)


def _other_versions(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before["versions"], now["versions"]
    names = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    parts = [f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}" for name in names]
    if before.get("code", now["code"]) != now["code"] and "tune-tl" not in names:
        parts.append("tune_tl's own code")
    return [f"changed since the search began: {', '.join(parts)}: numbers may differ"] if parts else []


def _other_strategy(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = before.get("strategy"), now["strategy"]
    return [f"search strategy {old} -> {new}, from here on"] if old != new else []


def require_weights(configs: Iterable[TrialConfig], ready: Ready) -> None:
    """Raises BadInput if trials on record have a backbone that left the space, or whose weights are gone."""
    for config in configs:
        name = config.backbone
        if name in ready.missing:
            raise BadInput(
                f"trial {config.key} on record used {name}, whose weights are no longer to be had "
                f"({ready.missing[name]}); bring them back, or start a search under another --name"
            )
        if name not in ready.space.backbones:
            raise BadInput(
                f"trial {config.key} on record used {name}, which is no longer in the space; "
                "put it back, or start a search under another --name"
            )


def require_told_epochs(cut_off: Mapping[TrialConfig, Sequence[EpochMetrics]], checkpoints: Path) -> None:
    """Raises BadInput if a trial's checkpoints are of later epochs than its record knows of."""
    for config, epochs in cut_off.items():
        saved = max(Checkpoints(checkpoints, config.key).states(), default=0)
        if saved > len(epochs) + 1:  # one may be saved and not yet on record
            raise BadInput(
                f"{checkpoints.parent / ledger.EPOCHS_FILE} has lost lines: it ends at epoch {len(epochs)} "
                f"of trial {config.key}, which came to {saved}; {RESTORE}"
            )


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
        known, notes = same_search(path, facts, ready.dataset)
        facts |= {"id": known["id"], "prepared_s": known["prepared_s"] + prepared_s}
        ledger.require_whole(folder)
    elif ledger.elapsed(folder) or (folder / RESULT_FILE).exists():
        raise BadInput(
            f"{path} is missing, and with it what was searched; restore it, or give another --name"
        )
    ledger.require_told(folder)
    ended = ledger.read(folder)
    past = [r for r in ended if r.best or (r.failed and not experiment.retry_failed)]
    cut_off = ledger.unfinished(folder)
    require_weights([*(r.config for r in ended), *cut_off], ready)
    require_told_epochs(cut_off, experiment.checkpoints)
    known_for_good = {r.trial for r in past}
    again = {r.config: () for r in ended if r.trial not in known_for_good}
    for config in again:  # they start anew
        Checkpoints(experiment.checkpoints, config.key).remove()
    ledger.Ledger(folder, lambda: 0.0).close()  # its files are there from now on, or were lost
    images.write(folder, ready.dataset)
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
