"""Collect images from the web for classes that have no dataset: `python -m tune_tl.collect CLASS ...`."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tune_tl.data.names import is_text
from tune_tl.data.web.collecting import PROVENANCE, Kept, Outcome, Wanted, collect
from tune_tl.data.web.listing import ENGINES, MOST_FOUND, is_web, listed, without_login
from tune_tl.errors import BadInput
from tune_tl.storage.files import Locked, claimed
from tune_tl.terminal.door import Parser, door
from tune_tl.terminal.progress import bar

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_WAIT_S = 3600.0
LONGEST_NAME = 200  # bytes; file systems take 255


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.collect",
        description="Collect images from the web, a folder for each class, which a search then takes.",
        epilog=f"Images of the web belong to others. DIR/{PROVENANCE} says where each one is from. What is "
        "there already counts, so the same command goes on where it was cut off.",
    )
    add = parser.add_argument
    add(
        "classes",
        nargs="+",
        metavar="CLASS",
        help="its name, searched for; or NAME=WORDS to search for others",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="gets DIR/CLASS/ and the record")
    add("--images", type=_images, default=200, metavar="N", help="of each class (default: %(default)s)")
    add("--engine", choices=ENGINES, default=ENGINES[0], help="where to search (default: %(default)s)")
    add(
        "--from",
        dest="sources",
        nargs="+",
        default=(),
        metavar="SOURCE",
        help="instead: pages whose images to take (http or https), or text files that list URLs of images",
    )
    add(
        "--wait",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="between two requests to one host; its robots.txt may ask for more (default: 1)",
    )
    return parser


@door(_parser, interrupted="interrupted; what came is kept, and the same command goes on")
def main(options: argparse.Namespace) -> int:
    """Collect. 0: done; 1: a class is without an image; 2: bad input; 130, 143: interrupted."""
    wanted = _wanted(options.classes, tuple(options.sources))
    named = {host for source in options.sources for host in _hosts(source)}
    _require_packages()
    from rich.console import Console

    from tune_tl.data.web.visitor import Web

    console = Console(highlight=False, markup=False, soft_wrap=True)
    empty = False
    with _claimed(options.output):
        kept, web = Kept(options.output), Web(options.wait, named=named)
        for one in wanted:
            where = (
                f"{one.query!r} on {options.engine}"
                if one.query
                else ", ".join(map(without_login, options.sources))
            )
            console.print(f"{one.name}: up to {options.images} images, from {where}")
            with _progress(console, options.images) as show:
                outcome = collect(one, kept, web, engine=options.engine, images=options.images, show=show)
            _print_outcome(console, options.output / one.name, outcome, options.images)
            empty |= not outcome.images
    if empty:
        console.print(
            "a class is without images: try NAME=OTHER WORDS, or --from with a page or a list of URLs"
        )
    else:
        console.print(
            f"They belong to others: whether you may use them is yours to find out. "
            f"{options.output / PROVENANCE} says where each is from.\n"
            f"next: python -m tune_tl.audit {options.output}"
        )
    return int(empty)


def _wanted(classes: Sequence[str], sources: tuple[str, ...]) -> list[Wanted]:
    """Raises BadInput if a class cannot be a folder, comes twice, or has no source of its own."""
    if sources and len(classes) > 1:
        raise BadInput(f"--from is for one CLASS at a time, not for {len(classes)}: run the command for each")
    wanted = []
    for text in classes:
        name, equals, words = (part.strip() for part in text.partition("="))
        _require_folder_name(name, text)
        if equals and (sources or not words or not is_text(words)):
            raise BadInput(f"CLASS {text!r}: after = come words to search for, and with --from none")
        wanted.append(Wanted(name, "" if sources else words or name, sources))
    names = [one.name.casefold() for one in wanted]
    if twice := next((one.name for one in wanted if names.count(one.name.casefold()) > 1), None):
        raise BadInput(f"CLASS {twice!r} is given twice; give each class once")
    return wanted


def _require_folder_name(name: str, text: str) -> None:
    # A name that opens as a hidden folder's does is passed over by whoever reads the folder later.
    if not name or re.search(r"[/\\]", name) or name.startswith((".", "__")) or not is_text(name):
        raise BadInput(f"CLASS {text!r} cannot name a folder; give letters, without / and no dot in front")
    if len(name.encode()) > LONGEST_NAME:
        raise BadInput(
            f"CLASS {text[:40]!r}… is too long to name a folder; give NAME=WORDS with a short NAME"
        )


def _hosts(source: str) -> set[str]:
    """The hosts that the user's own words lead to. Raises BadInput if they lead nowhere."""
    from tune_tl.data.sources.download import host_of

    hosts = set()
    for url in [source] if is_web(source) else listed(Path(source)):
        try:
            hosts.add(host_of(url))
        except ValueError as error:
            raise BadInput(f"--from {source!r}: {without_login(url)!r} is no address ({error})") from None
    return hosts


def _require_packages() -> None:
    for name in ("icrawler", "protego"):
        if find_spec(name) is None:
            raise BadInput(f"collecting needs {name}, which is not installed: pip install 'tune-tl[collect]'")


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, for this process alone. Raises BadInput."""
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(claimed(folder / ".collect.lock"))
        except Locked:
            raise BadInput(f"another process collects into {str(folder)!r}; wait for it or stop it") from None
        except OSError as error:
            why = error.strerror or error
            raise BadInput(
                f"--output {str(folder)!r} cannot be written ({why}); give another folder"
            ) from None
        yield


@contextlib.contextmanager
def _progress(console: Console, images: int) -> Iterator[Callable[[Outcome], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn

    with bar(console, "images", BarColumn(), MofNCompleteColumn()) as update:
        update(0, images)

        def show(outcome: Outcome) -> None:
            left_out = f", {outcome.refused.total()} left out" if outcome.refused else ""
            update(outcome.images, images, f"images{left_out}")

        yield show


def _print_outcome(console: Console, folder: Path, outcome: Outcome, images: int) -> None:
    console.print(f"  {outcome.images} of {images} images in {folder}, {outcome.new} of them new")
    for reason, count in outcome.refused.most_common():
        console.print(f"  left out {count}: {reason}")
    for line in outcome.trouble:
        console.print(f"  {line}")


def _images(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_FOUND:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST_FOUND}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LONGEST_WAIT_S:g}")
    return value


if __name__ == "__main__":
    sys.exit(main())
