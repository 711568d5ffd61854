"""Which numbers a device computes with: bfloat16 where that is faster, which is measured."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import nn

from tune_tl.storage.files import cache_dir, write_text

Precision = Literal["bf16", "f32"]
FILE = "arithmetic.json"  # in the cache folder: measured anew, a trial would not always repeat itself
ROUNDS = 5


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision where it pays on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == "bf16")


@lru_cache
def precision(device: torch.device) -> Precision:
    """What `device` is faster with. Of a CPU that has bfloat16, known from one measurement (0.2 s)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "f32"
    # Without instructions for it, bfloat16 is emulated, slower by a multiple.
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return "f32"
    with suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir() / f"{FILE}.lock"):
            return _remembered(cache_dir() / FILE)
    return _measured()


def _remembered(path: Path) -> Precision:
    known: dict[str, Precision] = {}
    with suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(path.read_text()))
    machine = f"{_cpu()}, torch {torch.__version__}"
    if known.get(machine) not in ("bf16", "f32"):
        write_text(path, json.dumps(known | {machine: _measured()}, indent=2))
        return _remembered(path)
    return known[machine]


def _measured() -> Precision:
    """Of one training step of a block as MobileNetV2's, at 14 pixels a side."""
    with torch.random.fork_rng(devices=[]):
        block = nn.Sequential(nn.Conv2d(96, 576, 1), nn.ReLU6(), nn.Conv2d(576, 96, 1))
        x = torch.rand(16, 96, 14, 14)
    block, x = block.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def seconds(mixed: bool) -> float:
        start = time.perf_counter()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = block(x).float().square().mean()
        loss.backward()
        return time.perf_counter() - start

    seconds(True), seconds(False)  # the first time is not like the others
    rounds = [(seconds(True), seconds(False)) for _ in range(ROUNDS)]
    return "bf16" if min(mixed for mixed, _ in rounds) < min(plain for _, plain in rounds) else "f32"


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
