"""Why augmentation is tune_tl's own: a batch of 32 images changed by the same operations of other libraries.

    python -m benchmarks.augmentation [--rounds N]

Each image of a batch gets its own draw, on one thread: crop with shift, flip, rotation in one bilinear
resampling; brightness, contrast, saturation; a grey box. kornia draws for each image of a batch;
torchvision's transforms draw once for all that they are given, and so go image by image. Without kornia
(`pip install kornia`; nothing else of tune_tl needs it) its rows say so.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.rows import Row, table
from tune_tl.training.augment import DRAWS, POLICIES, Policy, augment

BATCH, SIZE = 32, 224
ROUNDS = 15

Change = Callable[[], Tensor]  # a batch, (BATCH, 3, SIZE, SIZE) float in [0, 1]


def measure(rounds: int = ROUNDS) -> list[Row]:
    """A row for each policy that changes images and each other library.

    Times are processor time, which waits for no other process; ratios are medians over rounds in each of
    which every side changes the same batch once.
    """
    torch.set_num_threads(1)
    pixels = torch.randint(256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    images = pixels.float() / 255  # as the trainer has them: channels last
    rows = []
    for name, policy in POLICIES.items():
        if policy == Policy():
            continue
        sides: dict[str, Change | None] = {
            "tune_tl": _ours(images, policy),
            "kornia": _kornia(images.contiguous(), policy) if find_spec("kornia") else None,
            "torchvision": _torchvision(images.contiguous(), policy),
            "torchvision, bytes": _torchvision(pixels.contiguous(), policy),
        }
        ms = _in_turn({side: change for side, change in sides.items() if change}, rounds)
        ours = f"{median(ms['tune_tl']):.2f} ms/image"
        for side in list(sides)[1:]:
            measured = f"augmentation, {name}: tune_tl or {side}"
            if side not in ms:
                rows.append(Row(measured, ours, "not installed", None))
                continue
            ratio = median(theirs / mine for theirs, mine in zip(ms[side], ms["tune_tl"], strict=True))
            rows.append(Row(measured, ours, f"{median(ms[side]):.2f} ms/image", ratio))
    return rows


def _in_turn(sides: dict[str, Change], rounds: int) -> dict[str, list[float]]:
    """Milliseconds an image."""
    ms: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, change in sides.items():
            start = time.process_time()
            change()
            if number:  # the first time is not like the others
                ms[side].append((time.process_time() - start) / BATCH * 1e3)
    return ms


def _ours(images: Tensor, policy: Policy) -> Change:
    return lambda: augment(images, policy, torch.rand(BATCH, DRAWS))


def _kornia(images: Tensor, policy: Policy) -> Change:
    with warnings.catch_warnings(action="ignore"):  # it uses names that torch has given up
        import kornia.augmentation as K

        zoom, erase = policy.zoom, policy.erase
        steps = [
            K.RandomAffine(
                policy.rotate,
                translate=(zoom / 2, zoom / 2),
                scale=(1.0, 1 / (1 - zoom)),
                padding_mode="reflection",
                p=1.0,
            ),
            K.RandomHorizontalFlip(p=0.5),
        ]
        if policy.colour:
            steps.append(K.ColorJitter(policy.colour, policy.colour, policy.colour, p=1.0))
        if erase:
            steps.append(K.RandomErasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), value=0.5, p=erase))
        change = K.AugmentationSequential(*steps, data_keys=["input"])
    return lambda: change(images)


def _torchvision(images: Tensor, policy: Policy) -> Change:
    zoom = policy.zoom
    steps: list[torch.nn.Module] = [v2.RandomHorizontalFlip(0.5)]
    if policy.rotate:
        scale = (1.0, 1 / (1 - zoom))
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomAffine(policy.rotate, (zoom / 2, zoom / 2), scale, interpolation=bilinear))
    else:  # nothing turns: a crop is its faster way to the same
        steps.append(v2.RandomResizedCrop(SIZE, scale=((1 - zoom) ** 2, 1.0), ratio=(1.0, 1.0)))
    if policy.colour:
        steps.append(v2.ColorJitter(policy.colour, policy.colour, policy.colour))
    if images.dtype == torch.uint8:
        steps.append(v2.ToDtype(torch.float32, scale=True))
    if policy.erase:
        steps.append(v2.RandomErasing(policy.erase, scale=(0.02, 0.2), ratio=(0.3, 3.3), value=0.5))
    change = v2.Compose(steps)
    return lambda: torch.stack([change(image) for image in images])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    print(table(measure(parser.parse_args(argv).rounds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
