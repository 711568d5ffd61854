"""What a search begins from: its facts, and what earlier runs of it left, if it is the one that it was."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tune_tl.data.folder import Dataset
from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, Experiment, TrialConfig
from tune_tl.preflight.ready import Ready, room_note
from tune_tl.record import images
from tune_tl.record.book import Book
from tune_tl.record.json_files import RESULT_FILE, SEARCH_FILE, WAY_OUT, SearchFacts, code, versions
from tune_tl.record.ledger import EPOCHS_FILE, Ledger, Past
from tune_tl.tracking.store import redacted, same_store
from tune_tl.training.checkpoint import Checkpoints


def begin(experiment: Experiment, ready: Ready, prepared_s: float = 0.0) -> Past:
    """Write down what is searched; what earlier runs of the search leave to this one.

    `prepared_s` is what this run took until now. On a resume, raises BadInput if it is something else than
    before, or if the record of it is damaged. What failed is run again if asked to, and what the budget
    ended before its first epoch always.
    """
    folder, notes = experiment.folder, []
    facts, book, before = _facts(experiment, ready, prepared_s), Book.read(folder), None
    if (folder / SEARCH_FILE).exists():
        before = SearchFacts.read(folder, required=["id", "dataset", "domains"])
        _require_same(before, facts, folder, ready.dataset)
        notes += [*_other_versions(before, facts), *_other_strategy(before, facts)]
        facts = dataclasses.replace(facts, id=before.id, prepared_s=before.prepared_s + prepared_s)
        book.require_whole()
    elif book.lines or (folder / RESULT_FILE).exists():
        raise BadInput(
            f"{folder / SEARCH_FILE} is missing, and with it what was searched; restore it, or give another "
            "--name"
        )
    store = same_store(before.tracking_uri if before else None, experiment.tracking_uri)
    facts = dataclasses.replace(facts, tracking_uri=redacted(store))
    book.require_last_lines()
    ended = [r for r in book.ended if r.best or (r.failed and not experiment.retry_failed)]
    _require_weights((line.config for line in book.lines), ready)
    _require_epochs(book.unfinished, experiment.checkpoints)
    for_good = {result.trial for result in ended}
    again = {r.config: () for r in book.ended if r.trial not in for_good}
    for config in again:  # they start anew
        Checkpoints(experiment.checkpoints, config.key).remove()
    Ledger(folder, lambda: 0.0).close()  # its files are there from now on, or were lost
    images.write(folder, ready.dataset)
    facts.write(folder)
    if note := room_note(experiment, ready.pretrained):
        notes.append(note)
    cut_off = {**book.unfinished, **again}
    return Past(tuple(ended), cut_off, tuple(notes), facts.prepared_s, book.elapsed)


def _facts(experiment: Experiment, ready: Ready, prepared_s: float) -> SearchFacts:
    dataset = ready.dataset
    return SearchFacts(
        id=uuid.uuid4().hex,
        name=experiment.name,
        space=ready.space.name,
        strategy=experiment.strategy,
        seed=experiment.seed,
        trials=experiment.trials,
        budget_s=experiment.budget_s,
        epochs=ready.space.epochs,
        dataset=dataset.describe(),
        left_out_by=str(dataset.left_out_by) if dataset.left_out_by else None,
        notes=dataset.notes,
        class_names=dataset.classes,
        domains={field: dataclasses.asdict(domain) for field, domain in ready.space.domains.items()},
        missing=ready.missing,
        versions=versions(),
        code=code(),
        prepared_s=prepared_s,
    )


def _require_same(before: SearchFacts, now: SearchFacts, folder: Path, dataset: Dataset) -> None:
    """Raises BadInput if a search was started on other images or another space than it goes on with."""
    old, new = before.dataset.get("fingerprint"), now.dataset["fingerprint"]
    if not isinstance(old, str):
        raise BadInput(f"{folder / SEARCH_FILE} is damaged (its dataset has no fingerprint); {WAY_OUT}")
    if old != new:
        changes = images.changes(folder, dataset)
        which = f": {images.described(changes)}" if changes else ""
        way = _way_back(changes, before.left_out_by, now.left_out_by)
        raise BadInput(
            f"{folder} was started on other images{which} (fingerprint {old}, now {new}); "
            f"{way}, or start a search under another --name"
        )
    domains = json.loads(json.dumps(now.domains))  # as they were written
    # Backbones come and go with their weights.
    changed = [f for f in domains if f != "backbone" and domains[f] != before.domains.get(f)]
    if changed:
        raise BadInput(
            f"{folder} was started with other values of {' and '.join(changed)}; resume it as it was, "
            "or start a search under another --name"
        )


def _way_back(changes: Mapping[str, Sequence[str]], then: str | None, now: str | None) -> str:
    """What brings the images back that a search was started on; `then` and `now` are lists of an audit."""
    by_list = {images.LISTED, images.UNLISTED} & changes.keys()
    if not by_list:
        return "restore them"
    lost = [*(["the images"] if changes.keys() - by_list else []), *([f"the list {then}"] if then else [])]
    ways = [f"remove the list {now}"] if now and now != then else []
    ways += [f"restore {' and '.join(lost)}"] if lost else []
    return " and ".join(ways)


def _other_versions(before: SearchFacts, now: SearchFacts) -> list[str]:
    old, new = before.versions, now.versions
    names = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    parts = [f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}" for name in names]
    if before.code not in (None, now.code) and "tune-tl" not in names:
        parts.append("tune_tl's own code")
    return [f"changed since the search began: {', '.join(parts)}: numbers may differ"] if parts else []


def _other_strategy(before: SearchFacts, now: SearchFacts) -> list[str]:
    changed = before.strategy != now.strategy
    return [f"search strategy {before.strategy} -> {now.strategy}, from here on"] if changed else []


def _require_weights(configs: Iterable[TrialConfig], ready: Ready) -> None:
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


def _require_epochs(cut_off: Mapping[TrialConfig, Sequence[EpochMetrics]], checkpoints: Path) -> None:
    """Raises BadInput if a trial's checkpoints are of later epochs than its record knows of."""
    for config, epochs in cut_off.items():
        saved = max(Checkpoints(checkpoints, config.key).states(), default=0)
        if saved > len(epochs) + 1:  # one may be saved and not yet on record
            raise BadInput(
                f"{checkpoints.parent / EPOCHS_FILE} has lost lines: it ends at epoch {len(epochs)} "
                f"of trial {config.key}, which came to {saved}; {WAY_OUT}"
            )
