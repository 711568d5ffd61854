"""A folder as it lies on the disk: which folders below it hold data, which files in them are images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tune_tl.data.formats import IMAGE_SUFFIXES, is_image

_HIDDEN = (".", "__")  # of folders: .ipynb_checkpoints, __MACOSX
_SYSTEM = frozenset({"thumbs.db", "desktop.ini"})  # files that file managers leave
# Folders of these names are written by tools, whatever is in them.
_NAMES = {
    "mlruns": "MLflow", "mlartifacts": "MLflow", "wandb": "Weights & Biases", "lightning_logs": "Lightning",
    "ray_results": "Ray", "catboost_info": "CatBoost", "node_modules": "npm", "site-packages": "pip",
    "CVS": "CVS",
}  # fmt: skip
# So are those that hold something of such a name.
_MARKS = {
    "search.json": "tune_tl", "audit.json": "tune_tl",
    "MLmodel": "MLflow", "pyvenv.cfg": "a virtual environment",
    "conda-meta": "a virtual environment", ".hydra": "Hydra", "wandb-metadata.json": "Weights & Biases",
    "trainer_state.json": "Transformers", "saved_model.pb": "TensorFlow",
    "args.yaml": "Ultralytics", "learner.pkl": "AutoGluon",
}  # fmt: skip
# These lie beside the work they belong to, and say nothing of the folder that they are in.
_AMONG_OTHERS = frozenset({"a virtual environment", "Weights & Biases", "npm", "pip", "CVS"})
_EVENTS = "events.out.tfevents."  # TensorBoard's files begin so


@dataclass(frozen=True)
class Folder:
    """A folder and all that is data below it."""

    path: Path
    folders: tuple[Folder, ...] = ()  # by name
    own: tuple[Path, ...] = ()  # images that lie in it and in no folder below, by name
    others: Counter[str] = field(default_factory=Counter)  # its files that are no images, by suffix
    passed_over: tuple[str, ...] = ()  # folders in it that are no data, and why
    hidden: tuple[str, ...] = ()  # folders in it that hold images, but are not shown
    links: tuple[Path, ...] = ()  # folders in it that are links to others

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """All images below it, by path."""
        return tuple(sorted((*self.own, *(path for folder in self.folders for path in folder.images))))

    @cached_property
    def filled(self) -> dict[str, Folder]:
        """The folders in it that hold images, by name."""
        return {folder.name: folder for folder in self.folders if folder.images}

    def below(self) -> Iterator[Folder]:
        """Itself, and every folder below."""
        yield self
        for folder in self.folders:
            yield from folder.below()


def read(root: Path) -> Folder:
    """Every folder and image below `root`, each once; links that lead out of it are followed.

    A file is an image by its suffix, or, where that says nothing, by its content. Raises OSError where
    something may not be read.
    """
    return _read(root, {os.path.realpath(root)})


def _read(place: Path, linked: set[str]) -> Folder:
    """`linked` holds the true paths of the root and of all that links led to, so far."""
    folders, own, others = [], [], Counter[str]()
    passed_over, hidden, links = [], [], []
    with os.scandir(place) as inside:
        entries = sorted(inside, key=lambda entry: entry.name)
    for entry in entries:
        path = place / entry.name
        if not entry.is_dir():
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
                continue
            if is_image(path):
                own.append(path)
            else:
                others[path.suffix.lower()] += 1
        elif entry.name.startswith(_HIDDEN):
            hidden += [entry.name] if _holds_images(path) else []
        elif (tool := _tool(path)) is not None:
            passed_over += [f"{entry.name!r} ({tool})"] if tool else []
        elif entry.is_symlink() and _is_below(real := os.path.realpath(path), linked):
            passed_over.append(f"{entry.name!r} (a link to {real}, which is read where it lies)")
        else:
            if entry.is_symlink():
                linked.add(real)
                links.append(path)
            folders.append(_read(path, linked))
    return Folder(place, tuple(folders), tuple(own), others, tuple(passed_over), tuple(hidden), tuple(links))


def _is_below(real: str, places: Iterable[str]) -> bool:
    """Whether a true path is one of `places`, above or below one."""
    return any(os.path.commonpath([real, place]) in (real, place) for place in places)


def _tool(folder: Path, deep: int = 3) -> str | None:
    """Who wrote this folder, where a tool did: it has its mark, or holds folders that have.

    Empty for a search that has just begun, of which nothing needs to be said.
    """
    if known := _NAMES.get(folder.name):
        return known
    entries: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as inside:  # who may not read it is told later
        entries = list(inside)
    names = {entry.name for entry in entries}
    if any(name.startswith(_EVENTS) for name in names):
        return "TensorBoard"
    if marks := names & _MARKS.keys():
        return _MARKS[min(marks)]
    if names == {".lock"}:
        return ""
    if "meta.yaml" in names and folder.name.isdecimal():  # an experiment's
        return "MLflow"
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names) or not deep:
        return None
    folders = [Path(e) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(_HIDDEN)]
    tools = {one: _tool(one, deep - 1) for one in folders}
    marked = [tool for tool in tools.values() if tool is not None and tool not in _AMONG_OTHERS]
    rest = [one for one in folders if tools[one] is None]
    # Folders without a mark may well be classes, or a split of them.
    if not marked or len(rest) > 1 or any(len(_folders(one)) > 1 for one in rest):
        return None
    return next(filter(None, marked), "")


def _folders(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as inside:
        return [entry.name for entry in inside if entry.is_dir()]
    return []


def _holds_images(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as inside:  # whose it is, is nobody's business here
        return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in inside)
    return False
