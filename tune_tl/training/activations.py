"""Freeze once: what a frozen network gives for every image, kept in memory-mapped files.

In transfer learning most of the work of most trials is the same frozen layers run over the same images.
Here they run once for an image and view. A pass over the images leaves a file for each place where a
trial may cut the network, so the next trial of that network, cut elsewhere, finds its own or goes on from
the nearest one before it. Processes that need the same pass share the work: each takes the shards that
nobody is at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from tune_tl.storage.contents import CacheEntry, disk_use, remove
from tune_tl.storage.files import cache_dir, write_text
from tune_tl.training.activation_files import ActivationFile, View, boot, host
from tune_tl.training.pulse import beat

READ_BYTES_PER_S = 1e9  # of rows gathered from mapped memory, a cautious figure for one core
DISK_SHARE = 0.25  # of the disk that is free or ours, for all activations together
MEMORY_SHARE = 0.5  # of the machine's memory: pages that do not fit are read from disk over and over
LOOK_S = 1.0  # between two looks at a part that another process is at
ABOUT_FILE = "about.json"

# From the images of a shard, or from what a cut before gave for them, to what is kept of them, by cut.
Produce = Callable[[range, int, Tensor | None], Mapping[int, Tensor]]


def cached(view: View, cut: int) -> Tensor | None:
    """The activations kept at `cut`, (rows, ...), to be read only; None if there are none."""
    for file in _files(view, cut, "act"):
        with suppress(FileNotFoundError):
            kept = file.read(range(view.rows))
            with suppress(OSError):  # in somebody else's cache
                os.utime(view.folder)  # its last use
            return kept
    return None


def build(view: View, cut: int, produce: Produce) -> Tensor | None:
    """Keep what `produce` gives, up to `cut`, together with any other process that is at it.

    None if somebody cleared the cache meanwhile. A killed process leaves nothing that is taken for a
    cache, and its shards to the others. Raises OSError if the disk cannot hold it, which leaves no part.
    """
    trim(but=view.folder)
    view.folder.mkdir(parents=True, exist_ok=True)
    try:
        about = view.folder / ABOUT_FILE
        if not about.exists():
            write_text(about, view.about)
        for patience in (0.0, LOOK_S):  # first what nobody is at, then what the others have not finished
            for number, shard in enumerate(view.shards):
                while not _done(view, cut, number):
                    beat()  # who waits does not hang
                    with suppress(Timeout), FileLock(view.folder / f"{number}.lock", timeout=patience):
                        if not _done(view, cut, number):
                            _fill(view, cut, number, shard, produce)
                    if not patience:
                        break
    except FileNotFoundError:
        return None
    except OSError:
        for file in _files(view, "*", "part"):
            file.path.unlink(missing_ok=True)
        raise
    for file in _files(view, "*", "part"):
        with suppress(FileNotFoundError):  # another process was first
            file.complete()
    return cached(view, cut)


def trim(but: Path | None = None) -> None:
    """Remove the passes not used for longest until all together keep to their share of the disk."""
    root = cache_dir() / "activations"
    if not root.is_dir():
        return
    used = {folder: disk_use(folder) for folder in root.iterdir()}
    excess = sum(used.values()) - room(used=sum(used.values()))
    oldest = sorted((f for f in used if f != but), key=lambda f: f.stat().st_mtime if f.exists() else 0)
    for folder in oldest:
        if excess <= 0:
            return
        entry = CacheEntry("activations", folder.name, (folder,), tuple(folder.glob("*.lock")))
        with suppress(OSError):  # another user's
            if remove(entry):  # whoever has it mapped goes on reading
                excess -= used[folder]


def room(used: int = 0) -> float:
    """Bytes that all activations together may take, `used` of which they take now."""
    place = cache_dir()
    place.mkdir(parents=True, exist_ok=True)
    return DISK_SHARE * (shutil.disk_usage(place).free + used)


def pays(read_bytes: int, kept_bytes: int, images: int, seconds: float) -> tuple[bool, str]:
    """Whether to keep activations: are they read much faster than computed, and is there room?

    All but `images` are of one image: what a trial reads, what a pass keeps for this and other cuts,
    and the time to compute it. Says why in a few words.
    """
    reading = read_bytes / READ_BYTES_PER_S
    kept, read = kept_bytes * images, read_bytes * images
    disk, memory = room(), MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = f"{seconds * 1e3:.2f} ms to compute, {reading * 1e3:.2f} ms to read an image"
    if reading > seconds / 2:
        return False, f"not cached: {speed}"
    for what, size, share in (("disk", kept, disk), ("memory", read, memory)):
        if size > share:
            return False, f"not cached: {size / 1e9:.1f} GB, above the {share / 1e9:.1f} GB share of {what}"
    return True, f"cached, {kept / 1e6:.0f} MB: {speed}"


def _files(view: View, cut: int | str, *kinds: str) -> Iterator[ActivationFile]:
    for kind in kinds or ("part", "act"):
        ending = f"{boot()}.part" if kind == "part" else kind
        for path in view.folder.glob(f"{cut}.*.{ending}"):
            yield ActivationFile(path, view)


def _done(view: View, cut: int, number: int) -> bool:
    return any(file.has(number) for file in _files(view, cut))


def _fill(view: View, cut: int, number: int, shard: range, produce: Produce) -> None:
    before = {file.cut: file for file in _files(view, "*") if file.cut < cut and file.has(number)}
    start, x = 0, None
    for nearest in sorted(before, reverse=True):
        with suppress(FileNotFoundError):  # renamed as finished, or damaged
            start, x = nearest, before[nearest].read(shard)
            break
    kept = produce(shard, start, x)
    for at, batch in kept.items():
        _created(view, at, batch).write(number, shard, batch)


def _created(view: View, cut: int, batch: Tensor) -> ActivationFile:
    """The file for rows as those of `batch`, made if this is the first shard."""
    file = ActivationFile.unfinished(view, cut, batch)
    with FileLock(view.folder / "files.lock"):
        if not file.path.exists():
            for left in view.folder.glob(f"{cut}.*.{host()}-*.part"):  # from before this was started
                left.unlink()
            new = file.path.with_suffix(".new")
            with new.open("wb") as empty:
                empty.truncate(file.size)
            new.rename(file.path)
    return file
