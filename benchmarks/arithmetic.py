"""Why the defaults are as they are on this machine: processes, threads, number formats, memory layout.

All on random tensors. The default is what the trainer does: the number format that it measured to be faster
here (grouped convolutions that are trained stay in float32), channels last, one thread a trial.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch

from benchmarks.loops import CPU, Arithmetic, forward_only, trained_part
from benchmarks.rows import Row
from benchmarks.setting import ROOT, Setting
from tune_tl.experiment import TrialConfig
from tune_tl.training.arithmetic import precision
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.model import Network, network_for
from tune_tl.training.weights import local_weights

DEPTH, BATCH, CLASSES = 3, 32, 6
ROUNDS = 3
IMAGES = 96  # of a round

DEFAULT = Arithmetic()
WORK = {
    f"training, unfreeze {DEPTH}": trained_part,
    "forward": forward_only,
}


def measure(setting: Setting) -> Iterator[Row]:
    torch.set_num_threads(1)
    mixed = precision(CPU) == "bf16"
    variants = {
        "float32" if mixed else "bfloat16": Arithmetic(mixed=not mixed),
        "contiguous": Arithmetic(channels_last=False),
    }
    batch, images, rounds = (8, 8, 1) if setting.fast else (BATCH, IMAGES, ROUNDS)
    for name in setting.networks:
        size = setting.size(name)
        for work, loop in WORK.items():
            runs = {
                variant: loop(network(name, size, arithmetic), size, batch, arithmetic)
                for variant, arithmetic in {"default": DEFAULT, **variants}.items()
            }
            speeds = _in_turn(runs, images, rounds)
            for variant in variants:
                yield Row(
                    f"{work}, {name}: {precision(CPU)}, channels last, or {variant}",
                    f"{median(speeds['default']):,.1f} images/s",
                    f"{variant}: {median(speeds[variant]):,.1f}",
                    median(a / b for a, b in zip(speeds["default"], speeds[variant], strict=True)),
                )
    for name in setting.networks:
        for work in WORK:
            with (
                _processes([1, 1], name, work, setting.size(name), batch) as two,
                _processes([2], name, work, setting.size(name), batch) as one,
            ):
                speeds = _in_turn({"two": two, "one": one}, 2 * images, rounds)
            yield Row(
                f"{work}, {name}: two processes or one",
                f"2 of 1 thread: {median(speeds['two']):,.1f} images/s",
                f"1 of 2 threads: {median(speeds['one']):,.1f}",
                median(a / b for a, b in zip(speeds["two"], speeds["one"], strict=True)),
            )


def network(name: str, size: int, arithmetic: Arithmetic) -> Network:
    """As the trainer has it, cut at DEPTH, but for the layout that `arithmetic` says."""
    pretrained = local_weights(BACKBONES[name])
    assert pretrained, f"{name} had weights a moment ago"
    config = TrialConfig(name, unfreeze=DEPTH, body_lr=1e-4, image_size=size)
    layout = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
    made = network_for(config, pretrained, CLASSES, CPU)
    return made.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def _in_turn(runs: dict[str, Callable[[int], float]], images: int, rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {variant: [] for variant in runs}
    for _ in range(rounds):
        for variant, run in runs.items():
            speeds[variant].append(run(images))
    return speeds


@contextmanager
def _processes(
    threads: Sequence[int], name: str, work: str, size: int, batch: int
) -> Iterator[Callable[[int], float]]:
    """Processes with so many threads each; runs images through all at once: images -> images a second."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.arithmetic", str(count), name, work, str(size), str(batch)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in threads
    ]

    def answered(word: str) -> None:
        for process in running:
            assert process.stdout
            if process.stdout.readline() != f"{word}\n":
                raise RuntimeError(f"a process that was to loop over {name} has ended")

    def run(images: int) -> float:
        start = time.perf_counter()
        for process in running:
            assert process.stdin
            process.stdin.write(f"{images // len(running)}\n")
            process.stdin.flush()
        answered("done")
        return images / (time.perf_counter() - start)

    try:
        answered("ready")
        yield run
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _loop_when_told(threads: str, name: str, work: str, size: str, batch: str) -> None:
    torch.set_num_threads(int(threads))
    run = WORK[work](network(name, int(size), DEFAULT), int(size), int(batch))
    print("ready", flush=True)
    for images in sys.stdin:
        run(int(images))
        print("done", flush=True)


if __name__ == "__main__":
    _loop_when_told(*sys.argv[1:])
