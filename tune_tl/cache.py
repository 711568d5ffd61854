"""Show and clear what is cached: `python -m tune_tl.cache [--clear [KIND ...]]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tune_tl.errors import BadInput, near
from tune_tl.storage import contents
from tune_tl.storage.contents import CacheEntry
from tune_tl.storage.files import cache_dir, nearest
from tune_tl.terminal.door import Parser, door

NARROW = 70  # columns of a terminal below which only kind, name and size are shown


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m tune_tl.cache",
        description="What lies in the cache, and its removal. What is removed is made again when needed.",
        epilog=f"KIND: {', '.join(contents.KINDS)}, or another that the list shows. What is in use is left.",
    )
    parser.add_argument("--clear", nargs="*", metavar="KIND", help="remove these kinds, or everything")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


@door(_parser)
def main(options: argparse.Namespace) -> int:
    """Print what is cached, or remove it and say what that freed. 0: done; 2: bad input; 130, 143:
    interrupted.
    """
    root = cache_dir()
    if options.clear is None:
        _list(root, contents.listing(root), options.json)
    else:
        wanted = _known(options.clear, contents.kinds(root))
        _clear([entry for entry in contents.listing(root) if entry.kind in wanted], options.json)
    return 0


def _known(asked: Sequence[str], kinds: Sequence[str]) -> Sequence[str]:
    for kind in asked:
        if kind not in kinds:
            raise BadInput(f"--clear: unknown kind {kind!r}{near(kind, kinds)}; known are {', '.join(kinds)}")
    return asked or kinds


def _list(root: Path, entries: Sequence[CacheEntry], as_json: bool) -> None:
    free, rows = shutil.disk_usage(nearest(root)).free, contents.grouped(entries)
    total = sum(row["bytes"] for row in rows)
    if as_json:
        print(json.dumps({"folder": str(root), "bytes": total, "free_bytes": free, "cached": rows}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    titles = ("kind", "what", "size", "entries", "last used", "")
    shown = titles if console.width >= NARROW else titles[:3]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in shown:
        right = title in ("size", "entries")
        table.add_column(title, justify="right" if right else "left", no_wrap=title not in ("what", ""))
    for row in rows:
        words = (row["kind"], row["name"], decimal(row["bytes"]), str(row["entries"]), row["last_used"][:10])
        table.add_row(*(*words, row["in_use"])[: len(shown)])
    if rows:
        console.print(table)
    console.print(f"{decimal(total)} in {root}, {decimal(free)} free on its disk", soft_wrap=True)


def _clear(entries: Sequence[CacheEntry], as_json: bool) -> None:
    removed: list[CacheEntry] = []
    left: list[CacheEntry] = []
    for entry in entries:
        try:
            cleared = not entry.in_use and contents.remove(entry)
        except OSError as error:
            where = error.filename or entry.paths[0]
            raise BadInput(f"{str(where)!r} cannot be removed ({error.strerror or error})") from None
        (removed if cleared else left).append(entry)
    freed = sum(entry.bytes for entry in removed)
    if as_json:
        groups = {"removed": contents.grouped(removed), "left": contents.grouped(left)}
        print(json.dumps({"freed_bytes": freed, **groups}, indent=2))
        return
    from rich.filesize import decimal

    for row in contents.grouped(removed):
        print(f"removed {row['kind']}: {row['name']} ({decimal(row['bytes'])})")
    for row in contents.grouped(left):
        print(f"left {row['kind']}: {row['name']} ({decimal(row['bytes'])}): {row['in_use'] or 'being made'}")
    print(f"freed {decimal(freed)}")


if __name__ == "__main__":
    sys.exit(main())
