"""A search that goes on: is it the one that it was, is its record all there, and what is told of it?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.disks import with_disk
from support.images import cats_and_dogs
from tune_tl.data.folder import scan
from tune_tl.driver.resuming import begin
from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, Experiment, State, TrialConfig, TrialResult
from tune_tl.preflight.ready import Ready
from tune_tl.record.book import Book
from tune_tl.record.images import MANIFEST_FILE
from tune_tl.record.json_files import RESULT_FILE, SEARCH_FILE, versions
from tune_tl.record.ledger import ENDS_FILE, EPOCHS_FILE, Ledger, Past
from tune_tl.spaces import reading
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.checkpoint import Checkpoints
from tune_tl.training.weights import Pretrained

EPOCHS = 3


def config(n: int) -> TrialConfig:
    return TrialConfig("resnet18", seed=n, epochs=EPOCHS)


def metrics(n: int, epoch: int) -> EpochMetrics:
    return EpochMetrics(epoch, 0.1, 0.1, 0.5, 0.1 * n + 0.01 * epoch, (0.5,), 1.0, 1.0)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    made = Experiment("x", trials=3, budget_s=None, strategy="tpe", seed=1, output=tmp_path / "runs")
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def ready(tmp_path: Path) -> Ready:
    dataset = scan(cats_and_dogs(tmp_path / "pictures"), name="pets")
    return Ready(reading.load("default")[0], dataset, {}, {})


@pytest.fixture
def folder(experiment: Experiment, ready: Ready) -> Path:
    """A search that was cut off: a trial had ended by itself, one was stopped, one had failed, one ran."""
    begin(experiment, ready)
    book = Ledger(experiment.folder, lambda: 1.0)
    for n, (state, epochs) in enumerate(
        [(State.COMPLETED, EPOCHS), (State.STOPPED, 1), (State.FAILED, 0), (None, 2)], 1
    ):
        for epoch in range(1, epochs + 1):
            book.epoch(config(n), metrics(n, epoch))
        (experiment.folder / "tensorboard" / f"{config(n).key}-resnet18-0").mkdir(parents=True)
        if state:
            book.end(TrialResult(config(n).key, config(n), state, (), 0.0, 1.0))
    book.close()
    return experiment.folder


@pytest.fixture
def concluded(folder: Path) -> Path:
    """The same search, resumed and ended."""
    book = Ledger(folder, lambda: 2.0)
    book.epoch(config(4), metrics(4, 3))
    book.end(TrialResult(config(4).key, config(4), State.COMPLETED, (), 0.0, 2.0))
    book.close()
    (folder / RESULT_FILE).write_text(json.dumps({"trials": 4, "lines": len(Book.read(folder).lines)}))
    return folder


def told(past: Past) -> tuple[Any, ...]:
    return past.ended, dict(past.cut_off)


def refused(experiment: Experiment, ready: Ready) -> str:
    before = {path: path.read_bytes() for path in experiment.folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as error:
        begin(experiment, ready)
    after = {path: path.read_bytes() for path in experiment.folder.rglob("*") if path.is_file()}
    assert after == before  # nothing is made worse
    assert "\n" not in str(error.value)
    return str(error.value)


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scribble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\xff\x00{" + content[43:])


DAMAGES = [delete, empty, halve, scribble]
Damage = Callable[[Path], None]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [SEARCH_FILE, EPOCHS_FILE, ENDS_FILE])
def test_a_search_whose_record_is_damaged_is_refused_by_the_files_name(
    experiment: Experiment, ready: Ready, folder: Path, file: str, damage: Damage
) -> None:
    damage(folder / file)
    message = refused(experiment, ready)
    assert file in message
    assert str(folder) in message
    assert "restore" in message


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [SEARCH_FILE, EPOCHS_FILE, ENDS_FILE])
def test_a_search_that_was_concluded_is_refused_just_so(
    experiment: Experiment, ready: Ready, concluded: Path, file: str, damage: Damage
) -> None:
    damage(concluded / file)
    assert file in refused(experiment, ready)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [RESULT_FILE, MANIFEST_FILE])
def test_what_can_be_made_again_is_no_obstacle(
    experiment: Experiment, ready: Ready, concluded: Path, file: str, damage: Damage
) -> None:
    sound = told(begin(experiment, ready))
    damage(concluded / file)
    assert told(begin(experiment, ready)) == sound


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"lines": "x"}', '{"lines": null}', '{"lines": 1e999}']
)
def test_a_result_of_another_shape_is_no_witness(
    experiment: Experiment, ready: Ready, concluded: Path, text: str
) -> None:
    sound = told(begin(experiment, ready))
    (concluded / RESULT_FILE).write_text(text)
    assert told(begin(experiment, ready)) == sound


@pytest.mark.parametrize("file", [EPOCHS_FILE, ENDS_FILE])
def test_the_last_line_of_a_concluded_search_is_missed(
    experiment: Experiment, ready: Ready, concluded: Path, file: str
) -> None:
    """Nothing in the record comes after it, but the conclusion was drawn from it."""
    path = concluded / file
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert file in refused(experiment, ready)


def test_epochs_are_missed_although_no_trial_had_ended(experiment: Experiment, ready: Ready) -> None:
    begin(experiment, ready)
    book = Ledger(experiment.folder, lambda: 1.0)
    book.epoch(config(1), metrics(1, 1))
    book.close()
    (experiment.folder / "tensorboard" / f"{config(1).key}-resnet18-0").mkdir(parents=True)
    assert begin(experiment, ready).cut_off == {config(1): (metrics(1, 1),)}
    empty(experiment.folder / EPOCHS_FILE)
    message = refused(experiment, ready)
    assert config(1).key in message
    assert EPOCHS_FILE in message


def test_a_record_that_is_gone_altogether_is_missed(
    experiment: Experiment, ready: Ready, concluded: Path
) -> None:
    for file in (SEARCH_FILE, EPOCHS_FILE, ENDS_FILE):
        delete(concluded / file)
    assert SEARCH_FILE in refused(experiment, ready)


def test_a_failed_trial_that_is_run_again_leaves_the_record_whole(
    experiment: Experiment, ready: Ready, concluded: Path
) -> None:
    past = begin(replace(experiment, retry_failed=True), ready)
    assert config(3) in past.cut_off
    book = Ledger(concluded, lambda: 3.0)
    book.epoch(config(3), metrics(3, 1))
    book.close()  # and is cut off
    assert begin(experiment, ready).cut_off == {config(3): (metrics(3, 1),)}


@pytest.mark.parametrize("name", ["search.json.part77", "notes.txt", "tensorboard/notes", "ray"])
def test_what_else_lies_there_is_nobodys_business(
    experiment: Experiment, ready: Ready, concluded: Path, name: str
) -> None:
    sound = told(begin(experiment, ready))
    (concluded / name).write_text("x")
    assert told(begin(experiment, ready)) == sound


def test_a_search_that_goes_on_as_it_was_has_nothing_to_tell(
    experiment: Experiment, ready: Ready, folder: Path
) -> None:
    assert begin(experiment, ready).notes == ()


def rewritten(folder: Path, **facts: object) -> None:
    path = folder / SEARCH_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_other_versions_are_told_and_no_obstacle(experiment: Experiment, ready: Ready, folder: Path) -> None:
    now = versions()
    then = now | {"torch": "2.1.0", "gone": "1.0"}
    del then["ray"]
    rewritten(folder, versions=then)
    past = begin(experiment, ready)
    assert past.notes == (
        f"changed since the search began: torch 2.1.0 -> {now['torch']}, ray none -> {now['ray']}, "
        "gone 1.0 -> none: numbers may differ",
    )
    assert len(past.ended) == 3
    assert begin(experiment, ready).notes == ()  # once


def test_other_code_of_the_same_version_is_told(experiment: Experiment, ready: Ready, folder: Path) -> None:
    rewritten(folder, code="00000000")
    assert begin(experiment, ready).notes == (
        "changed since the search began: tune_tl's own code: numbers may differ",
    )


def test_another_search_strategy_is_told(experiment: Experiment, ready: Ready, folder: Path) -> None:
    past = begin(replace(experiment, strategy="random"), ready)
    assert past.notes == ("search strategy tpe -> random, from here on",)


def test_more_trials_or_time_are_nothing_to_tell(experiment: Experiment, ready: Ready, folder: Path) -> None:
    assert begin(replace(experiment, trials=9, budget_s=60.0), ready).notes == ()


@pytest.mark.parametrize(("field", "value"), [("seed", 7), ("epochs", 99)])
def test_another_space_is_refused(
    experiment: Experiment, ready: Ready, folder: Path, field: str, value: int
) -> None:
    message = refused(experiment, replace(ready, space=ready.space.fixed(**{field: value})))
    assert field in message
    assert "--name" in message


def test_which_images_are_others_is_told(
    experiment: Experiment, ready: Ready, folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "pictures"
    (root / "cat" / "new.jpg").write_text("new")
    (root / "dog" / "2.jpg").write_text("other")
    (root / "dog" / "3.jpg").unlink()
    message = refused(experiment, replace(ready, dataset=scan(root, name="pets")))
    assert "1 added, 1 removed, 1 changed (cat/new.jpg, dog/3.jpg, dog/2.jpg)" in message
    (folder / MANIFEST_FILE).write_text("{")
    message = refused(experiment, replace(ready, dataset=scan(root, name="pets")))
    assert "other images (fingerprint" in message
    shutil.rmtree(root)
    begin(experiment, replace(ready, dataset=scan(cats_and_dogs(root), name="pets")))  # mended


def weights(path: Path, size: int) -> dict[str, Pretrained]:
    with path.open("wb") as file:
        file.truncate(size)
    return {"resnet18": Pretrained(BACKBONES["resnet18"], path, "cache")}


def test_a_disk_with_room_is_nothing_to_tell(experiment: Experiment, ready: Ready, tmp_path: Path) -> None:
    assert begin(experiment, replace(ready, pretrained=weights(tmp_path / "w", 1000))).notes == ()


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tune_tl.experiment import Experiment
from tune_tl.preflight.ready import room_note
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.checkpoint import Checkpoints
from tune_tl.training.weights import Pretrained

made = Experiment("x", 3, None, "tpe", 1, Path(sys.argv[1]), cpus_per_trial=float(sys.argv[3]))
made.folder.mkdir()
print(room_note(made, {"resnet18": Pretrained(BACKBONES["resnet18"], Path(sys.argv[2]), "cache")}))
"""


@pytest.mark.parametrize(
    ("megabytes", "runs", "gigabytes"), [(20, 1, "0.4"), (200, 1, "2.9"), (20, 2, "0.6")]
)
def test_a_disk_that_may_fill_up_is_told_beforehand(
    tmp_path: Path, megabytes: int, runs: int, gigabytes: str
) -> None:
    """Four finalists' weights; for each trial that runs its best and three states of thrice the weights."""
    weights(tmp_path / "w", megabytes * 10**6)
    cpus = (os.cpu_count() or 1) / runs
    output = tmp_path / "small"
    command = [*with_disk(output, "size=50m"), sys.executable, "-c", ON_A_SMALL_DISK]
    done = subprocess.run(
        [*command, str(output), str(tmp_path / "w"), str(cpus)], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"{output}/x may come to need {gigabytes} GB, but 0.1 GB are free on its disk; "
        "make room, or give --output a folder on another one\n"
    )


def test_a_backbone_that_left_the_space_is_named(experiment: Experiment, ready: Ready, folder: Path) -> None:
    without = replace(ready, space=ready.space.with_backbones({"vgg16": None}))
    with pytest.raises(
        BadInput, match=r"used resnet18, which is no longer in the space; put it back, or"
    ) as told:
        begin(experiment, without)
    assert "\n" not in str(told.value)


def test_checkpoints_of_epochs_that_the_record_lacks_are_a_loss_that_is_named(
    experiment: Experiment, ready: Ready, folder: Path
) -> None:
    experiment.checkpoints.mkdir()
    state = Checkpoints(experiment.checkpoints, config(4).key).state
    state(3).write_text("saved, and not yet on record when the process was killed")
    begin(experiment, ready)
    state(4).write_text("no kill explains this")
    with pytest.raises(BadInput, match=rf"{EPOCHS_FILE} has lost lines: .*{config(4).key}.* --name"):
        begin(experiment, ready)


def test_failed_trials_that_are_retried_find_nothing_of_their_past(
    experiment: Experiment, ready: Ready, folder: Path
) -> None:
    experiment.checkpoints.mkdir()
    left = Checkpoints(experiment.checkpoints, config(3).key).state(2)
    left.write_text("by a process that was killed before it removed this")
    begin(experiment, ready)
    assert left.exists()
    assert begin(replace(experiment, retry_failed=True), ready).cut_off[config(3)] == ()
    assert not left.exists()


def test_the_time_that_all_runs_took_to_prepare_is_known(
    experiment: Experiment, ready: Ready, folder: Path
) -> None:
    assert begin(experiment, ready, 10.0).prepared_s == 10.0
    assert begin(experiment, ready, 2.5).prepared_s == 12.5
