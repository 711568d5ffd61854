"""Whether a search that goes on is the one that it was, and whether all of its record is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_tl import ledger
from tune_tl.data import manifest
from tune_tl.data.folder import Dataset
from tune_tl.experiment import BadInput, EpochMetrics, TrialConfig
from tune_tl.preflight import Ready
from tune_tl.results.runs import RESULT_FILE
from tune_tl.training.checkpoint import Checkpoints

_RESTORE = "restore it, or start a search under another --name"


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
        which = manifest.changes(path.parent, dataset)
        said = f": {manifest.told(which)}" if which else ""
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
    by_list = {manifest.LISTED, manifest.UNLISTED} & which.keys()
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


def require_told(folder: Path) -> None:
    """Raises BadInput if others know of more than the ledger does: its last lines are gone.

    `result.json` counts the lines that it was concluded from, and a trial's TensorBoard folder is made
    when its first line is on record. One that is damaged or gone is no witness.
    """
    both = f"{folder / ledger.EPOCHS_FILE} or {ledger.ENDS_FILE}"
    lost = f"and trials would be run again; {_RESTORE}"
    try:
        told = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))["lines"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        told = 0
    there = ledger.lines(folder)
    if isinstance(told, int) and told > there:
        raise BadInput(f"{both} has lost its last lines ({there} are left of {told}), {lost}")
    known = {*(r.trial for r in ledger.read(folder)), *(c.key for c in ledger.unfinished(folder))}
    shown = {path.name[:8] for path in (folder / "tensorboard").glob(f"{'[0-9a-f]' * 8}-*")}
    if gone := sorted(shown - known):
        raise BadInput(f"{both} has lost all lines of trial {gone[0]}, {lost}")


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
                f"of trial {config.key}, which came to {saved}; {_RESTORE}"
            )
