"""How soon a search reaches a val macro-F1: from the command to the first acknowledged epoch that has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.command import Watched, search, started
from benchmarks.rows import Row
from benchmarks.setting import Setting, lay_out

FIRST, SECOND = 0.80, 0.90
TIMES_SOONER = 20.0  # required for the first
WITHIN_S = 180.0  # required for the second


@dataclass(frozen=True)
class Climb:
    """A search's val F1 over time."""

    epochs: tuple[tuple[float, float, float], ...]  # seconds since the spawn, as its own record has it, F1
    watched_s: float

    def reached(self, target: float) -> tuple[float, float] | None:
        """Seconds by our clock and by the search's own to the first epoch with `target`."""
        return next(((ours, its) for ours, its, f1 in self.epochs if f1 >= target), None)

    def at_least_s(self, target: float) -> float:
        """How long it took, or how long it was watched in vain."""
        reached = self.reached(target)
        return reached[0] if reached else self.watched_s

    def said(self, target: float) -> str:
        if reached := self.reached(target):
            return f"{reached[0]:.1f} s"
        best = max((f1 for *_, f1 in self.epochs), default=0.0)
        return f"not in {self.watched_s:.0f} s (best {best:.3f}, {len(self.epochs)} epochs)"

    def steps(self) -> str:
        """Each new best: `0.626 at 195 s`."""
        best, steps = 0.0, []
        for ours, _, f1 in self.epochs:
            if f1 > best:
                best = f1
                steps.append(f"{f1:.3f} at {ours:.0f} s")
        return ", ".join(steps) or "no epoch"


def measure(setting: Setting) -> Iterator[Row]:
    """Ours on a cold cache, the stock recipe, ours on another cold cache."""
    ours = [_ours(setting, "ours-1")]
    stock = _stock(setting)
    ours.append(_ours(setting, "ours-2"))
    climbs = "; ".join(f"run {n}: {climb.steps()}" for n, climb in enumerate(ours, 1))

    for target in (FIRST, SECOND):
        slower = max(climb.at_least_s(target) for climb in ours)
        failed = any(climb.reached(target) is None for climb in ours)
        ratio = stock.at_least_s(target) / slower
        bound = stock.reached(target) is None
        met: bool | None
        if target == SECOND:
            required, met = f"≤ {WITHIN_S:g} s", not failed and slower <= WITHIN_S
        else:
            required, met = f"≥ {TIMES_SOONER:g}", not failed and ratio >= TIMES_SOONER
            if bound and not failed and not met:
                met = None  # the stock recipe was not watched for long enough to tell
        yield Row(
            f"time to val F1 {target:.2f}, cold cache",
            " and ".join(climb.said(target) for climb in ours),
            f"stock recipe: {stock.said(target)}",
            None if failed and bound else ratio,
            at_least=bound and not failed,
            at_most=failed and not bound,
            required=required,
            met=met,
            note=f"counted from the spawn of the command; the slower run counts. tune_tl, {climbs}."
            if target == FIRST
            else f"the stock recipe is ended at {FIRST:.2f}. It went: {stock.steps()}.",
        )


def _ours(setting: Setting, label: str) -> Climb:
    options = ("--budget", f"{setting.ours_cap_s:.0f}s")
    with search(setting, label, *options, cache=setting.folder / f"{label}-cache") as run:
        return _climb(run, SECOND, setting.ours_cap_s)


def _stock(setting: Setting) -> Climb:
    data = lay_out(setting.dataset, setting.folder / "folders")
    weights = [f"{name}={found.weights}" for name, found in setting.networks.items()]
    size = setting.image_size or 224
    arguments = ["-m", "benchmarks.stock", "--out", "epochs.jsonl", "--data", str(data), "--size", str(size)]
    with started([*arguments, "--weights", *weights], setting.folder / "stock", "epochs.jsonl") as run:
        return _climb(run, FIRST, setting.stock_cap_s)


def _climb(run: Watched, target: float, cap_s: float) -> Climb:
    for _ in run.watch(cap_s):
        if any(row.get("val_f1", 0.0) >= target for _, row in run.rows):
            break
    epochs = tuple((ours, row["t"], row["val_f1"]) for ours, row in run.rows if "val_f1" in row)
    return Climb(epochs, run.seconds)
