"""Every image decoded once, before anything is learnt from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tune_tl.data.folder import Dataset
from tune_tl.data.names import is_text
from tune_tl.errors import BadInput
from tune_tl.terminal.progress import progress

SHOWN = 10  # unreadable images listed by name


def decode(dataset: Dataset, sizes: Iterable[int], *, drop_bad: bool, console: Console) -> Dataset:
    """Decode every image once, into the cache, and give the dataset of those that could be.

    Raises BadInput, listing them, if some could not and `drop_bad` does not allow to go on without.
    """
    from tune_tl.data import greys
    from tune_tl.data.store import about, ensure

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
    known, notes = about(dataset), []
    if known.shown:
        notes.append(greys.in_words(known.deep, known.shown))
    if known.odd and not dataset.left_out_by:
        named = dataset.name if dataset.source != "local" else str(dataset.root)
        look = "image looks" if known.odd == 1 else "images look"
        notes.append(f"{known.odd} {look} odd among the others: python -m tune_tl.audit {shlex.quote(named)}")
    if known.blank:
        notes.append(
            f"{known.blank} images are nearly one colour as they are read: look at them before you go on"
        )
    return replace(dataset, notes=(*dataset.notes, *notes))
