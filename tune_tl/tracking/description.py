"""What MLflow is told about a search as a whole: derived from the facts in its folder alone, so that
`tune_tl.sync` says later what the search itself would have said.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tune_tl.experiment import TEST_F1, VAL_F1
from tune_tl.record.json_files import ResultFacts, SearchFacts

EXPERIMENT = "tune_tl"
_SETTINGS = ("seed", "trials", "budget_s", "epochs")


@dataclass(frozen=True)
class Search:
    """What is said once about a search.

    `settings` become the parent's params (seed, budget, trials, ...), `tags` its tags. `experiment` is
    MLflow's, a shelf for searches; it is created if it is not there.
    """

    id: str  # what its runs are found by
    name: str
    folder: Path  # runs/<name>, for people
    strategy: str
    dataset: str
    data_source: str  # local, download or sample
    classes: tuple[str, ...]  # in the dataset's class order
    settings: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str = EXPERIMENT

    @classmethod
    def of(cls, folder: Path, facts: SearchFacts) -> Search:
        """Raises KeyError and TypeError if what the record says of the dataset is damaged."""
        dataset = facts.dataset
        tags = {f"version.{package}": version for package, version in facts.versions.items()}
        tags["dataset_fingerprint"] = dataset["fingerprint"]
        if "left_out" in dataset:  # images, by an audit
            tags["dataset_left_out"] = json.dumps(dataset["left_out"])
        if facts.missing:
            tags["left_out"] = ", ".join(facts.missing)  # as earlier versions called it
        return cls(
            id=facts.id,
            name=facts.name or folder.name,
            folder=folder,
            strategy=facts.strategy,
            dataset=dataset["name"],
            data_source=dataset["source"],
            classes=facts.class_names,
            settings={name: value for name in _SETTINGS if (value := getattr(facts, name)) is not None},
            tags=tags,
            experiment=facts.space,
        )

    @property
    def sync_command(self) -> str:
        """The command line that brings MLflow up to date."""
        output = self.folder.absolute().parent
        where = [] if output == Path.cwd() / "runs" else ["--output", str(output)]
        return shlex.join(["python", "-m", "tune_tl.sync", self.folder.name, *where])


@dataclass(frozen=True)
class Conclusion:
    """What a search ends with."""

    metrics: Mapping[str, float]  # of the champion: val_f1, test_f1, ...; none if no trial finished
    tags: Mapping[str, str] = field(default_factory=dict)  # champion, ...
    finalists: Mapping[str, float] = field(default_factory=dict)  # trial -> test_f1
    artifacts: Sequence[Path] = ()  # files; pictures go to plots/

    @classmethod
    def of(cls, result: ResultFacts, artifacts: Sequence[Path]) -> Conclusion:
        """Raises KeyError and TypeError if what the record says of the scores is damaged."""
        finalists = {trial: score["f1"] for trial, score in result.test_scores.items()}
        if not result.champion:
            return cls({}, artifacts=artifacts)
        if result.val_f1 is None or result.test_f1 is None or result.test_f1_ci is None:
            raise TypeError("a champion without its scores")
        low, high = result.test_f1_ci
        metrics = {VAL_F1: result.val_f1, TEST_F1: result.test_f1}
        metrics |= {f"{TEST_F1}_low": low, f"{TEST_F1}_high": high}
        return cls(metrics, {"champion": result.champion}, finalists, artifacts)
