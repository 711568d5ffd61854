"""tune_tl beside the stock recipe and the compute limit, interleaved in one run on this machine.

    python -m benchmarks.run                        # everything, into benchmarks/RESULTS.md
    python -m benchmarks.run --only starts probe    # some measures, printed
    python -m benchmarks.run --fast                 # does it run? figures without meaning, printed

TrashNet is taken from `$TUNE_TL_DATA/garbage`, else downloaded; every search begins with caches of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import arithmetic, null_trials, probe, setting, sooner, starts, throughput
from benchmarks.rows import Row, table
from benchmarks.setting import ROOT, Setting

MEASURES: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "sooner": sooner.measure,
    "starts": starts.measure,
    "null-trials": null_trials.measure,
    "throughput": throughput.measure,
    "probe": probe.measure,
    "arithmetic": arithmetic.measure,
}
PACKAGES = ("tune_tl", "torch", "torchvision", "timm", "ray", "optuna", "mlflow")
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    load = os.getloadavg()[0]  # before anything of ours runs
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks") as temporary:
        folder = Path(temporary)
        if given.fast:
            setting.own_caches(folder)
            here = setting.small(folder, console)
        else:
            # The images first, from where the user has them.
            caps = {"ours_cap_s": given.cap * 60, "stock_cap_s": given.stock_cap * 60}
            here = setting.real(folder, console, given.networks, **caps)
            setting.own_caches(folder)
        sections: list[tuple[str, float, list[Row]]] = []
        for name in given.only or MEASURES:
            console.print(f"\n{name} …", style="bold")
            start, rows = time.monotonic(), []
            for row in MEASURES[name](here):
                rows.append(row)
                console.print(" | ".join(row.cells()), markup=False)
            sections.append((name, time.monotonic() - start, rows))
    page = _page(here, sections, load, argv)
    print(f"\n{page}")
    whole = not given.fast and not given.only and given.networks == setting.NETWORKS
    out = given.out or (RESULTS if whole else None)
    if out:
        out.write_text(page, encoding="utf-8")
    return 0


def _page(
    here: Setting, sections: Sequence[tuple[str, float, list[Row]]], load: float, argv: Sequence[str] | None
) -> str:
    words = sys.argv[1:] if argv is None else argv
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    data = here.dataset
    facts = [
        f"- command: `{shlex.join(['python', '-m', 'benchmarks.run', *words])}`",
        f"- date: {datetime.now(UTC):%Y-%m-%d}, load average at the start {load:.2f}",
        f"- machine: {_processor()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB, {platform.system()}",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- images: {data.name} ({data.source}), {len(data.images):,} in {len(data.classes)} classes: "
        + ", ".join(f"{data.count(split)} {split}" for split in ("train", "val", "test")),
        f"- networks: {', '.join(here.networks)}",
    ]
    if here.fast:
        facts.insert(0, "**A smoke test: the figures mean nothing.**\n")
    body = [
        f"## {name}\n\n{sys.modules[MEASURES[name].__module__].__doc__}\n\n{table(rows)}\n\n"
        f"Measured in {seconds / 60:.1f} minutes."
        for name, seconds, rows in sections
    ]
    return "\n\n".join(["# Results", "\n".join(facts), *body]) + "\n"


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fast", action="store_true", help="a smoke test on drawn images")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--networks", nargs="+", choices=setting.NETWORKS, default=setting.NETWORKS)
    parser.add_argument("--out", type=Path, help="default: benchmarks/RESULTS.md for a whole run, else none")
    parser.add_argument(
        "--cap", type=float, default=10.0, metavar="MINUTES", help="for a search (default: 10)"
    )
    parser.add_argument(
        "--stock-cap", type=float, default=25.0, metavar="MINUTES", help="for the stock recipe (default: 25)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
