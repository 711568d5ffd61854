"""What a trial costs when it has next to nothing to train, and whether that grows over 1,000 of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.command import search, started
from benchmarks.rows import Row
from benchmarks.setting import Setting, draw

TRIAL_S = 0.2  # required, wall clock
GROWTH = 1.2  # required of the last hundred against those around the hundredth
MEMORY_GROWTH = 1.1  # what counts as flat
EARLY, LATE = (0.06, 0.16), (0.90, 1.00)  # parts of the search: trials 60-160 and 900-1,000 of 1,000
SAMPLED = (0.05, 0.10, 0.50, 1.00)  # where the driver's memory is read: 50, 100, 500 and 1,000


@dataclass(frozen=True)
class Run:
    ends: list[float]  # seconds, of trials in the order they ended
    memory: dict[int, float]  # trials that had ended -> the driver's resident MB

    def cost(self, part: tuple[float, float] = (0.0, 1.0)) -> float:
        """Mean seconds from one end to the next in `part` of the search."""
        last = len(self.ends) - 1
        first, final = (min(last, round(end * len(self.ends))) for end in part)
        return (self.ends[final] - self.ends[first]) / (final - first)


def measure(setting: Setting) -> Iterator[Row]:
    """Stock, ours, stock: one real search of tiny trials between two halves of Ray's own null trials."""
    trials, theirs = (30, 4) if setting.fast else (1000, 20)
    before = _stock(setting, "null-stock-1", theirs)
    ours = _ours(setting, trials)
    after = _stock(setting, "null-stock-2", theirs)

    stock = (before.cost() + after.cost()) / 2
    yield Row(
        "seconds a null trial",
        f"{ours.cost():.3f} s",
        f"Ray Tune's defaults, a function that returns: {stock:.3f} s",
        stock / ours.cost(),
        required=f"≤ {TRIAL_S} s",
        met=ours.cost() <= TRIAL_S,
        note=f"wall clock from one trial's end to the next, over all cores, one trial a core at a time; "
        f"{trials} trials of one epoch of a linear probe on 24 images of 32 pixels with everything that "
        "a search records, against functions that report one number and nothing else",
    )
    early, late = ours.cost(EARLY), ours.cost(LATE)
    yield Row(
        f"null trials: growth of cost to trial {trials:,}",
        f"{late:.3f} s in the last tenth",
        f"{early:.3f} s around trial {trials // 10}",
        late / early,
        required=f"≤ {GROWTH}",
        met=late / early <= GROWTH,
        note="less is better",
    )
    (few, low), *_, (many, high) = sorted(ours.memory.items())
    yield Row(
        f"null trials: growth of driver memory, {few:,} to {many:,}",
        f"{high:.0f} MB after {many:,}",
        f"{low:.0f} MB after {few:,}",
        high / low,
        required=f"≤ {MEMORY_GROWTH} (flat)",
        met=high / low <= MEMORY_GROWTH,
        note="less is better; resident: "
        + ", ".join(f"{mb:.0f} MB after {n:,}" for n, mb in ours.memory.items()),
    )


def _ours(setting: Setting, trials: int) -> Run:
    images = draw(setting.folder / "null-images", each=12, side=32)
    space = setting.folder / "null.yaml"
    content = {
        "dataset": str(images),
        "backbone": next(reversed(setting.networks)),
        "image_size": 32,
        "unfreeze": 0,
        "epochs": 1,
        "head_lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "augment": "none",
        "batch_size": 16,
    }
    space.write_text(yaml.safe_dump(content, sort_keys=False))
    tiny = replace(setting, space=space, fast=True)
    options, cache = ("--trials", str(trials)), setting.folder / "null-cache"
    memory: dict[int, float] = {}
    with search(tiny, "null-ours", *options, cache=cache, lines="trials.jsonl") as run:
        wanted = [max(1, round(part * trials)) for part in SAMPLED]
        for _ in run.watch():
            for count in wanted:
                if len(run.rows) >= count and count not in memory:
                    memory[count] = _resident_mb(run.process.pid)
    return Run([row["ended"] for _, row in run.rows], memory)


def _stock(setting: Setting, label: str, trials: int) -> Run:
    arguments = ["-m", "benchmarks.stock", "--out", "trials.jsonl", "--null", str(trials)]
    with started(arguments, setting.folder / label, "trials.jsonl") as run:
        run.finish()
    return Run([row["ended"] for _, row in run.rows if "ended" in row], {})


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
