"""The files of a trial: the weights of its best epoch, and what it takes to go on after its last ones.

A checkpoint is a safetensors file, so nothing in it is ever executed, and says in its metadata the SHA-256
of all that it holds, so that one that was damaged is noticed. The driver, which lists and removes these
files, does not wait for torch: what reads and writes them imports it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_tl.experiment import EpochMetrics, TrialConfig
from tune_tl.storage.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # of what a checkpoint says
STATES_KEPT = 2  # states of a trial: should the newest be damaged, there is the one before it
# What safetensors says of a file that is shorter than its header says, in its older and newer words.
_CUT_OFF = re.compile(r"too ?small|incomplete|header ?length", re.IGNORECASE)


class Damaged(Exception):
    """A checkpoint is not what was written, or not this trial's; `why` says it in a few words."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why})")
        self.path, self.why = path, why


@dataclass(frozen=True)
class Checkpoint:
    """What a trial had after an epoch."""

    config: TrialConfig
    metrics: EpochMetrics
    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any] = field(default_factory=dict)  # JSON: what else it takes to go on


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of the trial with the key `trial` in `folder`."""

    folder: Path
    trial: str  # eight hex digits

    @property
    def best(self) -> Path:
        """The trained tensors of the best epoch."""
        return self.folder / f"{self.trial}.safetensors"

    def state(self, epoch: int) -> Path:
        """What it takes to go on after `epoch`."""
        return self.folder / f"{self.trial}-{epoch}.safetensors"

    def states(self) -> dict[int, Path]:
        """The states there are by epoch, the newest first."""
        name = re.compile(rf"{self.trial}-(\d+)\.safetensors")
        found = {int(match[1]): path for path in self._files() if (match := name.fullmatch(path.name))}
        return dict(sorted(found.items(), reverse=True))

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Raises OSError, and then leaves what was there."""
        save(self.best, checkpoint)

    def save_state(self, checkpoint: Checkpoint) -> None:
        """Save where the trial stands, and remove what is then too old; what failed before this, too.

        Raises OSError, and then leaves what was there.
        """
        epoch = checkpoint.metrics.epoch
        save(self.state(epoch), checkpoint)
        for number, path in self.states().items():
            if not epoch - STATES_KEPT < number <= epoch:
                path.unlink(missing_ok=True)

    def newest(self, config: TrialConfig) -> tuple[Checkpoint | None, list[str]]:
        """The newest sound state, and a note for each damaged one passed over on the way to it.

        What writers that were killed left half done is removed.
        """
        for path in self._files():
            if ".part" in path.suffix:
                path.unlink(missing_ok=True)
        damaged: dict[int, str] = {}
        found = None
        for epoch, path in self.states().items():
            try:
                found = load(path, config)
                break
            except Damaged as damage:
                damaged[epoch] = damage.why
        then = f"going on from epoch {found.metrics.epoch}" if found else "starting again"
        return found, [
            f"checkpoint of epoch {epoch} is damaged ({why}): {then}" for epoch, why in damaged.items()
        ]

    def remove_states(self) -> None:
        """Leave the best epoch's weights alone."""
        for path in self._files():
            if path != self.best:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """All of the trial's, half-written ones included."""
        return [path for ending in (".", "-") for path in self.folder.glob(f"{self.trial}{ending}*")]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `path` so that it is a whole checkpoint at every moment. Raises OSError."""
    import safetensors.torch

    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    about = json.dumps(
        {
            "version": VERSION,
            "config": checkpoint.config.to_dict(),
            "metrics": checkpoint.metrics.to_dict(),
            "progress": checkpoint.progress,
        }
    )
    metadata = {"tune_tl": about, "sha256": _digest(tensors, about)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        # Not safetensors' own writing: it hides from its errors that the disk is full.
        part.write_bytes(safetensors.torch.save(tensors, metadata))


def load(path: Path, config: TrialConfig) -> Checkpoint:
    """What `save` wrote for a trial of `config`. Raises Damaged."""
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        # Read, not mapped: of a mapped file, what the disk cannot read ends the process.
        content = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(path, "missing") from None
    except OSError as error:
        raise Damaged(path, error.strerror or str(error)) from None
    if not content:
        raise Damaged(path, "empty")
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header["__metadata__"]
        about, digest = metadata["tune_tl"], metadata["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        cut_off = _CUT_OFF.search(str(error))
        raise Damaged(path, "truncated" if cut_off else "no checkpoint") from None
    if digest != _digest(tensors, about):
        raise Damaged(path, "its checksum is another")
    values = json.loads(about)
    if values["version"] != VERSION:
        raise Damaged(path, "of another version of tune_tl")
    if values["config"] != config.to_dict():
        raise Damaged(path, "of another trial")
    return Checkpoint(config, EpochMetrics.from_dict(values["metrics"]), tensors, values["progress"])


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    """SHA-256 of everything that a checkpoint says, the names and shapes of its tensors included."""
    import torch

    digest = hashlib.sha256(about.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
