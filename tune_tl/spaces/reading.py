"""`search_spaces/*.yaml` -> a validated `Space`.

A space's keys are the fields of `TrialConfig`, each a constant, a list (one of these) or a range
(`{low: 1e-4, high: 1e-2, log: true}`), and the few settings of the search in `SETTINGS`.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_tl.data.names import is_text
from tune_tl.data.sources.entries import CATALOG
from tune_tl.errors import BadInput, near
from tune_tl.experiment import CONFIG_FIELDS, RULES, TrialConfig
from tune_tl.spaces.space import Choice, Domain, Range, Space
from tune_tl.terminal.durations import seconds

SETTINGS = ("dataset", "trials", "budget", "strategy", "bad_images", "clean", "first")
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".rar", ".7z"})
DEFAULT = "default"  # the space of a folder that has none of its own
# Read at once, and never more than memory holds: aliases of aliases multiply, merge keys most of all, and
# what lies deep takes PyYAML long.
MAX_BYTES, MAX_ALIASES, MAX_DEPTH = 50_000, 10, 20

_PACKAGE = Path(__file__).resolve().parents[1]
# Inside the installed package; beside it in a checkout.
FOLDERS = (_PACKAGE / "search_spaces", _PACKAGE.parent / "search_spaces")


def available() -> dict[str, Path]:
    """Every named space and its file."""
    return {
        p.stem: p for folder in reversed(FOLDERS) if folder.is_dir() for p in sorted(folder.glob("*.yaml"))
    }


def load(space: str) -> tuple[Space, Path | None]:
    """The space that `space` names, and the data folder if `space` is a plain folder.

    `space` is a name in `search_spaces/`, a path to a YAML file, or a folder of class folders, which
    gets the default space. Raises BadInput for anything else and for any key or value that is wrong.
    """
    named = available()
    if space in named:
        return _parse(space, named[space]), None
    try:
        path = Path(space).expanduser()
        is_file, is_folder = path.is_file(), bool(space) and path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a parent that may not be read, ~nobody
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"search space {_shown(space)} cannot be looked up ({reason})") from None
    if not is_text(path.name):
        raise BadInput(f"search space {_shown(space)} has a name that is no text; rename it")
    if path.suffix in (".yaml", ".yml"):
        if not is_file:
            raise BadInput(f"search space {space!r}: no such file")
        return _parse(path.stem, path), None
    if is_folder:
        return replace(_parse(DEFAULT, named[DEFAULT]), name=path.resolve().name), path
    if is_file:
        if path.suffix.lower() in ARCHIVES:
            raise BadInput(f"{space!r} is an archive: unpack it, and give the folder")
        raise BadInput(f"{space!r} is a file; give a folder of class folders, or a YAML file")
    if space != path.name or space.startswith("~"):
        hint = f"; {path.name} alone is the space of that name" if path.name in named else ""
        raise BadInput(f"no such folder or file: {space!r}{hint}")
    raise BadInput(
        f"unknown search space {space!r}{near(space, named)}; no folder of that name is here: give one "
        f"of {', '.join(sorted(named))}, a YAML file or a folder of class folders"
    )


def _parse(name: str, path: Path) -> Space:
    content = _read(path)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected keys and values such as `backbone: [resnet18]`")
    keys = [*SETTINGS, *CONFIG_FIELDS]
    for key in content:
        if key not in keys:
            raise BadInput(
                f"{path}: unknown key {_shown(key)}{_near(key, keys)}; known are {', '.join(keys)}"
            )
    if "backbone" not in content:
        raise BadInput(f"{path}: `backbone` is missing; name at least one, such as `backbone: [resnet18]`")
    # Every field has a domain, in the order of TrialConfig: what a draw depends on comes before it.
    defaults = TrialConfig(backbone="").to_dict()
    domains = {f: _domain(path, f, content.get(f, defaults[f])) for f in CONFIG_FIELDS}
    if len(getattr(domains["epochs"], "values", ())) != 1:
        raise BadInput(f"{path}: epochs must be one number, but got {_shown(content['epochs'])}")
    if isinstance(domains["image_size"], Range):  # the images are decoded at every size beforehand
        raise BadInput(
            f"{path}: image_size must be a size or a list of them, but got {_shown(content['image_size'])}"
        )
    deep = any(value != 0 for value in getattr(domains["unfreeze"], "values", (1,)))
    if deep and None in getattr(domains["body_lr"], "values", ()):
        raise BadInput(f"{path}: `unfreeze` trains part of the body, so `body_lr` must be given too")
    policy = content.get("bad_images", "stop")
    if policy not in ("stop", "drop"):
        raise BadInput(f"{path}: bad_images must be stop or drop, but got {_shown(policy)}")
    if not isinstance(clean := content.get("clean", False), bool):
        raise BadInput(f"{path}: clean must be true or false, but got {_shown(clean)}")
    strategy = content.get("strategy", "asha-tpe")
    if not isinstance(strategy, str):
        raise BadInput(f"{path}: strategy must be a name such as asha-tpe, but got {_shown(strategy)}")
    return Space(
        name=name,
        path=path,
        domains=domains,
        dataset=_dataset(path, content.get("dataset")),
        trials=_whole(path, "trials", content.get("trials")),
        budget_s=_budget(path, content.get("budget")),
        strategy=strategy,
        drop_bad_images=policy == "drop",
        clean=clean,
        first=_first(path, domains, content.get("first")),
    )


def _read(path: Path) -> Any:
    import yaml  # not needed by --help

    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size:,} bytes, above {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
        aliases = depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if aliases > MAX_ALIASES or depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_ALIASES} aliases, or {MAX_DEPTH} values in each other")
        return yaml.safe_load(text)
    # Besides its own errors PyYAML lets through what a malformed date or number, a bad tag and deep
    # nesting raise in it.
    except (OSError, yaml.YAMLError, ValueError, AttributeError, RecursionError, LookupError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}" if mark else error  # type: ignore[union-attr]
        raise BadInput(f"{path}: cannot be read as YAML ({' '.join(str(where).split())})") from None


def _dataset(path: Path, value: Any) -> str | None:
    """A dataset's name as it is; a folder made absolute from where the YAML file lies."""
    if value is None:
        return None
    try:
        if isinstance(value, str) and value:
            folder = (path.parent / Path(value).expanduser()).resolve()
            named = re.fullmatch(r"\w+", value) and (value in CATALOG or not folder.is_dir())
            return value if named else str(folder)
    except (OSError, RuntimeError, ValueError):  # a name too long, ~nobody, a null byte
        pass
    raise BadInput(f"{path}: dataset must be a dataset's name or a folder, but got {_shown(value)}")


def _whole(path: Path, key: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise BadInput(f"{path}: {key} must be a whole number of at least 1, but got {_shown(value)}")
    return value


def _budget(path: Path, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInput(f"{path}: budget must be a time such as 90s, 10m or 1h30m, but got {_shown(value)}")
    try:
        return seconds(value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _first(path: Path, domains: Mapping[str, Domain], points: Any) -> tuple[Mapping[str, Any], ...]:
    points = [] if points is None else points
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise BadInput(
            f"{path}: first must be a list of points such as {{backbone: resnet18, unfreeze: 0}}, "
            f"but got {_shown(points)}"
        )
    for point in points:
        for key, value in point.items():
            if key not in domains:
                raise BadInput(f"{path}: first: unknown key {_shown(key)}{_near(key, domains)}")
            if _value(path, key, value, "first: ") not in domains[key]:
                raise BadInput(f"{path}: first: {key}={_shown(value)} lies outside its own domain")
    return tuple({key: _value(path, key, value) for key, value in point.items()} for point in points)


def _domain(path: Path, field: str, raw: Any) -> Domain:
    if isinstance(raw, list):
        if not raw:
            raise BadInput(f"{path}: {field} is an empty list; give at least one value")
        return Choice(tuple(dict.fromkeys(_value(path, field, v) for v in raw)))
    if isinstance(raw, dict):
        unknown = set(raw) - {"low", "high", "log"}
        if unknown or not {"low", "high"} <= set(raw):
            raise BadInput(
                f"{path}: {field} is no range, but {_shown(raw)}; write {{low: 1e-4, high: 1e-2, log: true}}"
            )
        low, high = (_value(path, field, raw[end]) for end in ("low", "high"))
        log = raw.get("log", False)
        for end in (low, high):
            if isinstance(end, str | bool) or end is None:
                raise BadInput(f"{path}: {field}: a range lies between two numbers, but got {_shown(end)}")
        if not low <= high:
            raise BadInput(f"{path}: {field}: `low <= high` must hold, but got low={low!r}, high={high!r}")
        if not isinstance(log, bool):
            raise BadInput(f"{path}: {field}: log must be true or false, but got {_shown(log)}")
        if log and low <= 0:
            raise BadInput(f"{path}: {field}: a log range must start above 0, but got low={low!r}")
        return Range(low, high, log)
    return Choice((_value(path, field, raw),))


def _value(path: Path, field: str, raw: Any, where: str = "") -> Any:
    rule = RULES[field]
    try:
        value = rule.read(raw)
        if rule.holds(value):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadInput(f"{path}: {where}{field} must be {rule.says}, but got {_shown(raw)}")


def _near(key: Any, known: Iterable[str]) -> str:
    return near(key, known) if isinstance(key, str) else ""


def _shown(value: Any) -> str:
    """`repr`, cut short: the aliases of a few lines of YAML can stand for more than memory holds."""
    short = reprlib.Repr()
    short.maxlevel = 2
    try:
        return repr(value) if isinstance(value, str) and len(value) < 200 else short.repr(value)
    except ValueError:
        return "a number of more digits than Python shows"
