"""TensorBoard event files: one folder a trial, a point an epoch, the hyperparameters at the end.

Written with TensorBoard's own record writer. It costs the driver 0.3 s of import, where torch's
SummaryWriter costs 1.4 s on top of torch and tensorboardX 1.6 s; it needs no thread a trial; and no file
stays open between epochs, so a thousand trials hold no descriptors.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_tl.experiment import VAL_F1, EpochMetrics, Observer, State, TrialConfig, TrialResult

if TYPE_CHECKING:  # imported where used: `--help` and bad input stay free of it
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

_SCALARS = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "f1/val": VAL_F1,
    "accuracy/val": "val_accuracy",
}
BEST_F1 = "f1/best"  # once, at the end of a trial that did not fail: what the table of trials sorts by


class EventFiles(Observer):
    """Writes `<folder>/<trial>-<backbone>-<unfreeze>/`; see them with `tensorboard --logdir FOLDER`.

    A file that cannot be written ends it, and never the search.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}  # of the trials that are running
        self.problem: str | None = None  # why nothing more is written

    def epoch(self, config: TrialConfig, metrics: EpochMetrics) -> None:
        values = {tag: getattr(metrics, name) for tag, name in _SCALARS.items()}
        self._append(config, metrics.epoch, _scalars(values))

    def end(self, result: TrialResult) -> None:
        if result.best:
            self._append(result.config, result.best.epoch, _scalars({BEST_F1: result.best.val_f1}))
        self._append(result.config, 0, _hyperparameters(result))
        self._files.pop(result.trial, None)

    def _append(self, config: TrialConfig, step: int, summary: Any) -> None:
        if self.problem:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        events = [Event(wall_time=time.time(), step=step, summary=summary)]
        try:
            file = self._files.get(config.key)
            if file is None:
                file = self._files[config.key] = self._new_file(config)
                # A resumed trial may repeat an epoch: START tells readers to forget what this replaces.
                restart = SessionLog(status=SessionLog.START)
                events.insert(0, Event(wall_time=time.time(), step=step, session_log=restart))
                events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
            _write(file, events)
        except OSError as error:
            self.problem = f"event files in {self._folder}: {error}; the ledger has everything"

    def _new_file(self, config: TrialConfig) -> Path:
        # A new file for each process: appending behind a record that a kill tore would hide both.
        name = re.sub(r"[^\w.-]", "_", f"{config.key}-{config.backbone}-{config.unfreeze}")
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        stamp = (
            f"{time.time_ns() / 1e9:.6f}"  # readers take the files of a folder in the order of their names
        )
        return folder / f"events.out.tfevents.{stamp}.{socket.gethostname()}.{os.getpid()}"


def _write(file: Path, events: list[Event]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    with file.open("ab") as stream:
        writer = RecordWriter(stream)
        for event in events:
            writer.write(event.SerializeToString())


def _scalars(values: dict[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _hyperparameters(result: TrialResult) -> Any:
    """The trial's row in TensorBoard's HParams table, with its state."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2  # type: ignore[import-untyped]

    values = {name: "none" if v is None else v for name, v in result.config.to_dict().items()}
    # One type for the column, be it a number of stages or "all".
    values["unfreeze"] = str(values["unfreeze"])
    begun = time.time() - (result.ended - result.started)
    summary = summary_v2.hparams_pb(values, trial_id=result.trial, start_time_secs=begun)
    status = api_pb2.STATUS_FAILURE if result.state is State.FAILED else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    row = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    summary.value.append(
        Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=row, tensor=metadata.NULL_TENSOR)
    )
    return summary
