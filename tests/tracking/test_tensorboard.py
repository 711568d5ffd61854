"""What TensorBoard reads back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from tune_tl.experiment import State
from tune_tl.tracking.tensorboard import EventFiles


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, round(point.value, 4)) for point in read(folder).Scalars(tag)]


def hparams(folder: Path, tag: str) -> bytes:
    return bytes(read(folder).SummaryMetadata(tag).plugin_data.content)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def write(files: EventFiles, result: Any) -> None:
    for metrics in result.epochs:
        files.epoch(result.config, metrics)
    files.end(result)


def test_a_trial_has_one_folder_with_its_curves(tmp_path: Path, example: Any) -> None:
    result = example.result(1)
    write(EventFiles(tmp_path), result)
    folder = tmp_path / f"{result.trial}-mobilenet_v2-1"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert curve(folder, "f1/val") == [(1, 0.88), (2, 0.93), (3, 0.88)]
    assert curve(folder, "accuracy/val") == [(1, 0.88), (2, 0.93), (3, 0.88)]
    assert curve(folder, "loss/train") == [(1, 1.0), (2, 0.5), (3, 0.3333)]
    assert curve(folder, "loss/val") == [(1, 2.0), (2, 1.0), (3, 0.6667)]
    assert curve(folder, "f1/best") == [(2, 0.93)]


def test_the_table_of_hyperparameters_has_the_config(tmp_path: Path, example: Any) -> None:
    result = example.result(4)
    write(EventFiles(tmp_path), result)
    (folder,) = tmp_path.iterdir()
    row = metadata.parse_session_start_info_plugin_data(hparams(folder, metadata.SESSION_START_INFO_TAG))
    assert row.group_name == result.trial
    assert row.hparams["backbone"].string_value == "mobilenet_v2"
    assert row.hparams["unfreeze"].string_value == "all"
    assert row.hparams["body_lr"].number_value == 1e-4
    assert row.hparams["image_size"].string_value == "none"
    assert set(row.hparams) == set(result.config.to_dict())


def test_a_failed_trial_is_marked_and_has_no_best(tmp_path: Path, example: Any) -> None:
    write(EventFiles(tmp_path), example.result(0, State.FAILED, reason="the loss is NaN"))
    (folder,) = tmp_path.iterdir()
    end = metadata.parse_session_end_info_plugin_data(hparams(folder, metadata.SESSION_END_INFO_TAG))
    assert end.status == api_pb2.STATUS_FAILURE
    assert "f1/best" not in read(folder).Tags()["scalars"]


def test_an_epoch_is_on_disk_when_epoch_returns(tmp_path: Path, example: Any) -> None:
    files = EventFiles(tmp_path)
    for number in (1, 2):
        files.epoch(example.config(0), example.epoch(number, 0.7))
        (folder,) = tmp_path.iterdir()
        assert len(curve(folder, "f1/val")) == number


def test_a_resumed_trial_replaces_the_epochs_that_it_repeats(tmp_path: Path, example: Any) -> None:
    before, after = EventFiles(tmp_path), EventFiles(tmp_path)
    for number, f1 in ((1, 0.5), (2, 0.9), (3, 0.9)):
        before.epoch(example.config(0), example.epoch(number, f1))
    for number in (2, 3):
        after.epoch(example.config(0), example.epoch(number, 0.6))
    (folder,) = tmp_path.iterdir()
    assert curve(folder, "f1/val") == [(1, 0.45), (2, 0.6), (3, 0.55)]


def test_a_record_torn_by_a_kill_does_not_hide_what_follows(tmp_path: Path, example: Any) -> None:
    EventFiles(tmp_path).epoch(example.config(0), example.epoch(1, 0.5))
    (folder,) = tmp_path.iterdir()
    (torn,) = folder.iterdir()
    with torn.open("ab") as stream:
        stream.write(b"\x30\x00\x00")
    EventFiles(tmp_path).epoch(example.config(0), example.epoch(2, 0.6))
    assert curve(folder, "f1/val") == [(1, 0.45), (2, 0.6)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_trials_leave_no_file_open(tmp_path: Path, example: Any) -> None:
    files = EventFiles(tmp_path)
    write(files, example.result(0))
    before = open_files()
    for index in range(1, 5):
        files.epoch(example.config(index), example.epoch(1, 0.5))
    assert open_files() == before


def test_a_nan_is_drawn_as_nan_and_not_as_a_number(tmp_path: Path, example: Any) -> None:
    metrics = example.epoch(1, math.nan)
    EventFiles(tmp_path).epoch(example.config(0), metrics)
    (folder,) = tmp_path.iterdir()
    ((_, value),) = curve(folder, "f1/val")
    assert math.isnan(value)


def test_a_folder_that_cannot_be_written_ends_the_files_and_not_the_search(
    tmp_path: Path, example: Any
) -> None:
    (tmp_path / "file").touch()
    files = EventFiles(tmp_path / "file" / "events")
    write(files, example.result(0))
    assert files.problem and "the ledger has everything" in files.problem
