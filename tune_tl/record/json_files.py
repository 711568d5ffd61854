"""What `search.json` and `result.json` in a search's folder say: one dataclass a file.

A file of an earlier version lacks fields, which then have their defaults. Of which kind a field's value is is
checked as it is read; what lies deeper in it is checked by whoever uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self

from tune_tl.errors import BadInput
from tune_tl.storage.files import sha256_of, write_json

SEARCH_FILE, RESULT_FILE = "search.json", "result.json"
WAY_OUT = "restore it, or start a search under another --name"
PACKAGES = ("tune-tl", "torch", "torchvision", "timm", "ray", "optuna", "mlflow", "scikit-learn", "pandas")

_KINDS: dict[str, tuple[type, ...]] = {  # of JSON values, by how a field's annotation begins
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "Mapping": (dict,),
    "tuple": (list,),
}


@dataclass(frozen=True)
class _Facts:
    """One JSON file: its keys are the fields' names, but where a field's metadata has another `key`."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path, required: Iterable[str] = ()) -> Self:
        """What the file in `folder` says. Raises BadInput, naming it, if it is missing or damaged, or lacks
        one of the `required` fields."""
        path = folder / cls.FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise TypeError(f"it holds no object, but {type(values).__name__}")
            found = {
                f.name: _checked(f.name, f.type, values[key])
                for f in fields(cls)
                if values.get(key := _key(f)) is not None
            }
            if lacking := [name for name in required if found.get(name) is None]:
                raise KeyError(lacking[0])
        except FileNotFoundError:
            raise BadInput(f"{path} is missing; {WAY_OUT}") from None
        except (OSError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged ({error!r}); {WAY_OUT}") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: not JSON ({error}); {WAY_OUT}") from None
        return cls(**found)

    def write(self, folder: Path) -> None:
        """Replace the file in `folder`. Raises OSError."""
        write_json(folder / self.FILE, {_key(f): getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True)
class SearchFacts(_Facts):
    """`search.json`: what was searched, written before the first trial."""

    FILE = SEARCH_FILE

    id: str = ""  # what its runs in MLflow are found by
    name: str = ""
    space: str = ""
    strategy: str = ""
    seed: int | None = None
    trials: int | None = None
    budget_s: float | None = None
    epochs: int | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)  # as `Dataset.describe`
    left_out_by: str | None = None  # the audit's list that says which images are left out
    notes: tuple[str, ...] = ()  # what was done to the dataset
    class_names: tuple[str, ...] = ()
    domains: Mapping[str, Any] = field(default_factory=dict)  # of the space, by TrialConfig's fields
    missing: Mapping[str, str] = field(default_factory=dict, metadata={"key": "left_out"})  # backbone -> why
    versions: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    tracking_uri: str | None = None  # without its password
    prepared_s: float = 0.0  # that went by before the first trial could start, in all runs


@dataclass(frozen=True)
class ResultFacts(_Facts):
    """`result.json`: what a search ended with, written when its finalists are scored."""

    FILE = RESULT_FILE

    champion: str | None = None  # None if no trial has a score, and with it the five below
    val_f1: float | None = None
    test_f1: float | None = None
    test_f1_ci: tuple[float, ...] | None = None  # 95 %: low, high
    config: Mapping[str, Any] | None = None
    trials: int = 0
    failed: int = 0
    wall_s: float | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    test_scores: Mapping[str, Any] = field(default_factory=dict)  # trial -> TestScore.to_dict()
    train_scores: Mapping[str, Any] = field(default_factory=dict)  # trial -> TrainScore.to_dict()
    importances: tuple[Mapping[str, Any], ...] = ()  # Importance.to_dict()
    lines: int | None = None  # of the ledger, when this was concluded from it


def _key(of: Any) -> str:
    return str(of.metadata.get("key", of.name))


def _checked(name: str, annotation: Any, value: Any) -> Any:
    """`value` as the field of this annotation has it. Raises TypeError if it is of another kind."""
    kind = next(kind for kind in _KINDS if str(annotation).startswith(kind))
    if value is None and "None" in str(annotation):
        return None
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
        raise TypeError(f"{name} is {type(value).__name__}, not {annotation}")
    return tuple(value) if isinstance(value, list) else value


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def code() -> str:
    """Eight hex digits over the source of this package, which may change between two versions of it."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    content = "".join(f"{file.relative_to(package)} {sha256_of(file)}\n" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:8]
