"""A trial goes on just where it stood, whatever a kill, a full disk or damage leaves of its files."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from support.checkpoints import checkpoint, config
from support.disks import with_disk
from tune_tl.data.store import Images
from tune_tl.experiment import EpochMetrics, TrialConfig, Unfreeze
from tune_tl.training import activations
from tune_tl.training.augment import POLICIES
from tune_tl.training.checkpoint import Checkpoints, Damaged, load, save
from tune_tl.training.trainer import train
from tune_tl.training.weights import Pretrained

# The policy that draws nothing and the one that draws most at every depth, and every policy at one.
PLANS = [
    (depth, policy)
    for depth in (0, 2, "all")
    for policy in POLICIES
    if depth == 2 or policy in ("none", "strong")
]


@pytest.fixture
def uneven(images: Images) -> Images:
    """31 images to train on: one class has more than the others, and the last batch has fewer."""
    return replace(
        images,
        rows=images.rows | {"train": images.rows["train"][:31]},
        labels=images.labels | {"train": images.labels["train"][:31]},
    )


def numbers(epoch: EpochMetrics) -> dict[str, Any]:
    """All but what is measured of time, or said of it."""
    beside = ("seconds", "images_per_s", "prefix", "said")
    return {name: value for name, value in epoch.to_dict().items() if name not in beside}


def run(
    config: TrialConfig, pretrained: Pretrained, images: Images, files: Checkpoints, epochs: int = 99
) -> list[EpochMetrics]:
    """So many epochs of a trial, whose process then ends without a word."""
    return list(islice(train(config, pretrained, images, checkpoints=files), epochs))


@pytest.mark.parametrize("unfreeze, augment", PLANS)
def test_a_trial_that_was_cut_off_comes_to_the_numbers_of_one_that_was_not(
    unfreeze: Unfreeze, augment: str, pretrained: Pretrained, uneven: Images, tmp_path: Path
) -> None:
    chosen = config(unfreeze, augment=augment, class_weights=True, label_smoothing=0.1)
    whole = [numbers(epoch) for epoch in train(chosen, pretrained, uneven)]
    files = Checkpoints(tmp_path, chosen.key)
    first = run(chosen, pretrained, uneven, files, 1)
    second = run(chosen, pretrained, uneven, files, 3)
    third = run(chosen, pretrained, uneven, files)
    assert [epoch.epoch for epoch in (*first, *second, *third)] == [1, 1, 2, 3, 3, 4, 5]
    assert (second[0], third[0]) == (first[-1], second[-1]), "told once more, as they were"
    for epoch in (*first, *second, *third):
        assert numbers(epoch) == whole[epoch.epoch - 1]
        assert epoch.said == ""


@pytest.mark.parametrize("unfreeze", [0, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_activations_are_kept_or_not_as_before_the_cut_off(
    kept: bool,
    unfreeze: Unfreeze,
    pretrained: Pretrained,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept differs from what is computed in its last digits, and which is faster is measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(activations, "pays", lambda *_: (kept, "as measured"))
    chosen = config(unfreeze, augment="light", epochs=3)
    whole = list(train(chosen, pretrained, replace(images, key="whole")))
    files = Checkpoints(tmp_path / "files", chosen.key)
    run(chosen, pretrained, replace(images, key="cut off"), files, 1)
    monkeypatch.setattr(activations, "pays", lambda *_: (not kept, "as measured now"))
    rest = run(chosen, pretrained, replace(images, key="cut off"), files)
    assert list(map(numbers, rest)) == list(map(numbers, whole))
    assert {epoch.prefix for epoch in rest} == {"as measured"}


def test_what_was_trained_is_not_trained_again(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    files = Checkpoints(tmp_path, config().key)
    whole = run(config(), pretrained, images, files)
    steps: list[object] = []
    hook = register_optimizer_step_post_hook(lambda *step: steps.append(step))
    try:
        assert run(config(), pretrained, images, files) == [whole[-1]]
        assert not steps
        files.state(5).unlink()
        assert list(map(numbers, run(config(), pretrained, images, files))) == list(map(numbers, whole[-2:]))
        assert len(steps) == 5, "one epoch of 36 images in batches of 8"
    finally:
        hook.remove()


def test_the_best_epoch_stays_the_best_across_a_cut_off(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    wrong = (images.labels["val"] + 1) % 3  # the more it learns, the worse its F1
    spoilt = replace(images, labels=images.labels | {"val": wrong})
    chosen = config(2, epochs=4)
    files, whole = Checkpoints(tmp_path / "cut off", chosen.key), Checkpoints(tmp_path / "whole", chosen.key)
    run(chosen, pretrained, spoilt, files, 3)
    run(chosen, pretrained, spoilt, files)
    settled = [epoch for epoch in run(chosen, pretrained, spoilt, whole) if epoch.epoch > 2]
    best = max(settled, key=lambda epoch: epoch.val_f1)
    kept, wanted = (load(of.best, chosen) for of in (files, whole))
    assert kept.metrics.epoch == wanted.metrics.epoch == best.epoch < 4
    assert all(torch.equal(kept.tensors[name], value) for name, value in wanted.tensors.items())


def test_two_states_and_the_best_epoch_are_all_that_is_kept(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    files = Checkpoints(tmp_path, config().key)
    for epoch in train(config(), pretrained, images, checkpoints=files):
        wanted = {files.state(number) for number in (epoch.epoch - 1, epoch.epoch) if number}
        assert set(tmp_path.iterdir()) == {files.best} | wanted


# Files of a few numbers, for what needs no training.


@pytest.fixture
def files(tmp_path: Path) -> Checkpoints:
    """Those of a trial after three epochs, and of another one beside it."""
    files, other = (Checkpoints(tmp_path, of.key) for of in (config(), config(seed=1)))
    for epoch in (1, 2, 3):
        files.save_state(checkpoint(epoch))
        files.save_best(checkpoint(epoch))
    other.save_state(checkpoint(3, config(seed=1)))
    other.save_best(checkpoint(3, config(seed=1)))
    return files


class Payload:
    """Leaves a file behind where somebody unpickles it."""

    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.left,)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def replaced_by_another(path: Path) -> None:
    (other,) = Checkpoints(path.parent, config(seed=1).key).states().values()
    path.write_bytes(other.read_bytes())


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(path.with_name("executed"))))


def saved_by_torch(path: Path) -> None:
    torch.save({"head.weight": Payload(path.with_name("executed"))}, path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "cut in its first bytes": (lambda path: os.truncate(path, 5), "truncated"),
    "cut in its header": (lambda path: os.truncate(path, 300), "truncated"),
    "cut in its tensors": (lambda path: os.truncate(path, path.stat().st_size - 80), "truncated"),
    "without its last byte": (lambda path: os.truncate(path, path.stat().st_size - 1), "truncated"),
    "a bit of a tensor": (lambda path: flip(path, -1), "its checksum is another"),
    "a bit of a metric": (
        lambda path: flip(path, path.read_bytes().index(b"123.4")), "its checksum is another",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "no checkpoint|truncated"),
    "text": (lambda path: path.write_text("<!doctype html><h1>404</h1>"), "no checkpoint"),
    "tensors alone": (lambda path: save_file({"a": torch.zeros(1)}, path), "no checkpoint"),
    "pickle": (pickled, "no checkpoint"),
    "torch.save": (saved_by_torch, "no checkpoint"),
    "another trial's": (replaced_by_another, "of another trial"),
}  # fmt: skip


@pytest.mark.parametrize("damage, why", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_state_is_passed_over_for_the_one_before_it_which_is_said(
    files: Checkpoints, damage: Callable[[Path], object], why: str
) -> None:
    damage(files.state(3))
    found, notes = files.newest(config())
    assert found and found.metrics.epoch == 2
    (note,) = notes
    assert re.fullmatch(rf"checkpoint of epoch 3 is damaged \(({why})\): going on from epoch 2", note)
    damage(files.state(2))
    found, notes = files.newest(config())
    assert found is None
    assert len(notes) == 2 and all(note.endswith(": starting again") for note in notes)
    damage(files.best)
    with pytest.raises(Damaged, match=why):
        load(files.best, config())
    assert not (files.folder / "executed").exists()


def test_the_payload_of_these_tests_does_something(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_a_state_that_is_gone_leaves_the_one_before_it(files: Checkpoints) -> None:
    files.state(3).unlink()
    found, notes = files.newest(config())
    assert found and (found.metrics.epoch, notes) == (2, [])
    files.best.unlink()
    with pytest.raises(Damaged, match="missing"):
        load(files.best, config())


def test_no_byte_of_a_checkpoint_can_change_unnoticed(files: Checkpoints) -> None:
    path = files.state(3)
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        with pytest.raises(Damaged):
            load(path, config())
        path.write_bytes(whole)
    load(path, config())


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    saved = checkpoint(1)
    tensors = {
        "laid out": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.rand(3).bfloat16(),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(7),
    }
    save(tmp_path / "x", replace(saved, tensors=tensors, progress={"a": [0.1, None, "ü\n"]}))
    read = load(tmp_path / "x", config())
    assert (read.config, read.metrics, read.progress) == (config(), saved.metrics, {"a": [0.1, None, "ü\n"]})
    assert {name: value.dtype for name, value in read.tensors.items()} == {
        name: value.dtype for name, value in tensors.items()
    }
    assert all(torch.equal(read.tensors[name], value) for name, value in tensors.items())


def test_a_trial_whose_states_are_damaged_says_so_and_comes_to_the_same_numbers(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    chosen = config(2)
    whole = [numbers(epoch) for epoch in train(chosen, pretrained, images)]
    files = Checkpoints(tmp_path, chosen.key)
    run(chosen, pretrained, images, files, 4)
    flip(files.state(4), -1)
    rest = run(chosen, pretrained, images, files, 2)
    assert [numbers(epoch) for epoch in rest] == whole[2:4]
    assert [epoch.said for epoch in rest] == [
        "checkpoint of epoch 4 is damaged (its checksum is another): going on from epoch 3", ""
    ]  # fmt: skip
    for path in files.states().values():
        os.truncate(path, 100)
    again = run(chosen, pretrained, images, files)
    assert [numbers(epoch) for epoch in again] == whole
    assert again[0].said == (
        "checkpoint of epoch 4 is damaged (truncated): starting again; "
        "checkpoint of epoch 3 is damaged (truncated): starting again"
    )
    assert {epoch.said for epoch in again[1:]} == {""}
    assert set(tmp_path.iterdir()) == {files.best, files.state(4), files.state(5)}


def test_a_trial_s_files_are_removed_and_no_other_s(files: Checkpoints) -> None:
    other = {path for path in files.folder.iterdir() if not path.name.startswith(files.trial)}
    for path in (files.best, files.state(4)):
        path.with_name(f"{path.name}.part123").write_bytes(b"left by a writer that was killed")
    files.remove_states()
    assert set(files.folder.iterdir()) == {files.best} | other
    files.save_state(checkpoint(4))
    files.remove()
    assert set(files.folder.iterdir()) == other
    files.remove()
    assert files.states() == {}


def test_what_killed_writers_left_is_removed_when_a_trial_goes_on(files: Checkpoints) -> None:
    before = set(files.folder.iterdir())
    for path in (files.best, files.state(4)):
        path.with_name(f"{path.name}.part123").write_bytes(b"half a checkpoint")
    assert files.newest(config())[1] == []
    assert set(files.folder.iterdir()) == before


def test_the_files_are_listed_and_removed_without_torch(files: Checkpoints) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tune_tl.training.checkpoint import Checkpoints\n"
        f"files = Checkpoints(Path({str(files.folder)!r}), {files.trial!r})\n"
        "assert list(files.states()) == [3, 2]\n"
        "files.remove()\n"
        "assert files.states() == {}\n"
        "assert not {'torch', 'safetensors', 'numpy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
import torch
from support.checkpoints import checkpoint, config
from tune_tl.training.checkpoint import Checkpoints, load

files = Checkpoints(Path(sys.argv[1]), config().key)
files.save_best(checkpoint(1, size=1000))
for epoch in (1, 2, 3):
    try:
        files.save_state(checkpoint(epoch, size=100_000))  # 0.4 MB, of 1 MB in all
    except OSError as error:
        print(epoch, error.errno, error.strerror)
for path in (files.state(1), files.state(2), files.best):
    load(path, config())
print(len(list(files.folder.iterdir())))
"""


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [*with_disk(tmp_path, "size=1m"), sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"3 {errno.ENOSPC} {os.strerror(errno.ENOSPC)}", "3"]


def _acknowledging(
    config: TrialConfig, pretrained: Pretrained, images: Images, files: Checkpoints, heard: Path
) -> None:
    """A trial whose epochs are heard of by lines in a file."""
    torch.set_num_threads(1)
    with heard.open("a") as lines:
        for epoch in train(config, pretrained, images, checkpoints=files):
            lines.write(json.dumps(epoch.to_dict()) + "\n")
            lines.flush()


def test_a_trial_killed_again_and_again_comes_to_the_same_numbers_and_loses_no_epoch(
    pretrained: Pretrained, images: Images, tmp_path: Path
) -> None:
    chosen, draw = config(2, epochs=8), random.Random(0)
    wanted = Checkpoints(tmp_path / "whole", chosen.key)
    whole = run(chosen, pretrained, images, wanted)
    files, heard = Checkpoints(tmp_path / "killed", chosen.key), tmp_path / "heard.jsonl"
    heard.touch()
    told: list[EpochMetrics] = []
    processes = multiprocessing.get_context("forkserver")  # imports torch once
    processes.set_forkserver_preload(["tune_tl.training.trainer", "timm"])
    kills, longest = 0, min(epoch.seconds for epoch in whole)
    while not (told and told[-1].epoch == 8):
        known = told[-1].epoch if told else 0
        trial = processes.Process(target=_acknowledging, args=(chosen, pretrained, images, files, heard))
        trial.start()
        while trial.is_alive() and heard.read_text().count("\n") == len(told):
            trial.join(timeout=0.01)
        trial.join(timeout=draw.uniform(0, longest))
        if trial.is_alive():
            os.kill(trial.pid, signal.SIGKILL)
            kills += 1
        trial.join()
        new = heard.read_text().splitlines()[len(told) :]
        assert new, trial.exitcode
        told += [EpochMetrics.from_dict(json.loads(line)) for line in new]
        assert told[-len(new)].epoch in (known, known + 1), "what was heard of is not trained again"
        longest *= 1.0 if told[-1].epoch > known else 1.5  # this machine has become slower
    run(chosen, pretrained, images, files)  # which may have been killed on its last lines
    assert kills >= 2
    for epoch in told:
        assert numbers(epoch) == numbers(whole[epoch.epoch - 1])
    assert {epoch.epoch for epoch in told} == set(range(1, 9))
    assert set(files.folder.iterdir()) == {files.best, files.state(7), files.state(8)}
    for name, value in load(wanted.best, chosen).tensors.items():
        assert torch.equal(load(files.best, chosen).tensors[name], value)
