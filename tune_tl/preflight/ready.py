"""Before anything starts: is the data there and whole, are the weights, is there room? One table."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tune_tl.data.folder import Dataset
from tune_tl.data.formats import begins_as_image
from tune_tl.data.locating import find_dataset
from tune_tl.data.splits import SPLITS
from tune_tl.experiment import Experiment, Transfer
from tune_tl.preflight.images import decode
from tune_tl.preflight.weights import find_weights, prove, require_stages
from tune_tl.spaces.space import Space
from tune_tl.storage.files import cache_dir, nearest
from tune_tl.training import weights
from tune_tl.training.checkpoint import STATES_KEPT
from tune_tl.training.weights import Pretrained

if TYPE_CHECKING:
    from tune_tl.data.store import Images

CLASSES = 12  # named with their images, of more the first
WORTH_A_WORD = 100_000_000  # bytes of decoded images
REPORTS = 100_000_000  # bytes for all that a search writes beside weights


@dataclass(frozen=True)
class Ready:
    """What a search needs, all of it on this machine."""

    space: Space  # less the backbones whose weights cannot be had
    dataset: Dataset  # less the images that cannot be decoded
    pretrained: dict[str, Pretrained]
    missing: dict[str, str]  # backbone that left the space -> why
    stores: tuple[Images, ...] = ()  # held open: what is mapped, `tune_tl.cache --clear` leaves


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
    require_stages(space, pretrained.values())
    if _sound(dataset, pretrained.values()):
        promising()
    sizes = {size for found in pretrained.values() for size in space.sizes(found.backbone)}
    dataset = decode(dataset, sizes, drop_bad=space.drop_bad_images, console=console)
    prove(space, pretrained, missing)
    _show(console, space, dataset, pretrained, missing, sizes)
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
    copies = len(Transfer) + running * (1 + 3 * (STATES_KEPT + 1))
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
    cache = nearest(cache_dir())
    return (
        cache.is_dir()
        and os.access(cache, os.W_OK)
        and all(begins_as_image(image.path) for image in dataset.images)
        and all(weights.proven(found) for found in pretrained)
    )


def _classes(dataset: Dataset) -> str:
    """What will be learnt: `cat 120, dog 98`, of many the first."""
    sizes = Counter(image.label for image in dataset.images)
    named = [f"{name} {sizes[label]}" for label, name in enumerate(dataset.classes[:CLASSES])]
    return ", ".join(named + ([f"and {more} more"] if (more := len(dataset.classes) - CLASSES) > 0 else []))


def _show(
    console: Console,
    space: Space,
    dataset: Dataset,
    ready: dict[str, Pretrained],
    missing: dict[str, str],
    decoded: Iterable[int],
) -> None:
    """The table of what is ready; plain lines, which a log takes without padding.

    `decoded` are the sizes that the images are kept at, in pixels a side.
    """
    splits = ", ".join(f"{dataset.count(split)} {split}" for split in SPLITS)
    rows = [
        ("data", f"{dataset.name}, {len(dataset.images)} images in {len(dataset.classes)} classes: {splits}")
    ]
    rows += [("", text) for text in (_classes(dataset), f"{dataset.source}: {dataset.root}", *dataset.notes)]
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
        rows += [("missing", f"{names}:"), ("", why)]
    if (needed := len(dataset.images) * sum(3 * size * size for size in decoded)) >= WORTH_A_WORD:
        rows.append(
            ("cache", f"{needed / 1e9:.1f} GB of decoded images in {cache_dir()}, activations on top;")
        )
        rows.append(("", "python -m tune_tl.cache shows what is there and clears it"))
    for label, text in rows:
        console.print(Text.assemble((f"{label:11}", "bold"), text), soft_wrap=True)
