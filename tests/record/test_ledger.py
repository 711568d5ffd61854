"""The record of a search: what was acknowledged is read again, whatever happened in between."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_tl.errors import BadInput
from tune_tl.experiment import EpochMetrics, State, TrialConfig, TrialResult
from tune_tl.record.book import Book
from tune_tl.record.ledger import ENDS_FILE, EPOCHS_FILE, Ledger


def metrics(epoch: int, val_f1: float = 0.5) -> EpochMetrics:
    return EpochMetrics(epoch, 0.1, 0.2, 0.6, val_f1, (val_f1, 0.5), 123.4, 1.5)


def ended(config: TrialConfig, epochs: int, state: State = State.COMPLETED, at: float = 9.0) -> TrialResult:
    return TrialResult(
        trial=config.key,
        config=config,
        state=state,
        epochs=tuple(metrics(n, n / 10) for n in range(1, epochs + 1)),
        started=1.0,
        ended=at,
        resource="gpu",
        units=0.5,
        reason="CUDA «out of memory»\nat line 3" if state is State.FAILED else None,
    )


def config(n: int) -> TrialConfig:
    return TrialConfig("resnet18", unfreeze="all" if n % 2 else 2, body_lr=1e-4, seed=n)


RESULTS = [ended(config(0), 3), ended(config(1), 0, State.FAILED), ended(config(2), 2, State.STOPPED)]


def write(folder: Path, *results: TrialResult, end: bool = True, at: float = 5.0) -> None:
    record = Ledger(folder, lambda: at)
    for result in results:
        record.begin(result.config)
        for epoch in result.epochs:
            record.epoch(result.config, epoch)
        if end:
            record.end(result)
    record.close()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write(tmp_path, *RESULTS)
    assert Book.read(tmp_path).ended == RESULTS


def test_a_folder_without_a_record_is_an_empty_one(tmp_path: Path) -> None:
    assert Book.read(tmp_path).ended == []
    assert Book.read(tmp_path).unfinished == {}
    assert Book.read(tmp_path).elapsed == 0


def test_a_line_is_on_the_disk_before_the_next_thing_happens(tmp_path: Path) -> None:
    record = Ledger(tmp_path, lambda: 1.23456)
    record.epoch(config(0), metrics(1))
    (line,) = (tmp_path / EPOCHS_FILE).read_text().splitlines()
    row = json.loads(line)
    assert (row["t"], row["trial"], row["epoch"], row["val_f1"]) == (1.235, config(0).key, 1, 0.5)
    assert TrialConfig.from_dict(row["config"]) == config(0)
    record.close()


def test_numbers_that_are_none_stay_so(tmp_path: Path) -> None:
    result = replace(ended(config(0), 0), epochs=(replace(metrics(1), train_loss=math.nan),))
    write(tmp_path, result)
    (read,) = Book.read(tmp_path).ended
    assert math.isnan(read.epochs[0].train_loss)


def test_trials_that_were_cut_off_are_known(tmp_path: Path) -> None:
    write(tmp_path, RESULTS[0])
    write(tmp_path, ended(config(5), 2), ended(config(6), 1), end=False)
    assert {c: len(epochs) for c, epochs in Book.read(tmp_path).unfinished.items()} == {
        config(5): 2,
        config(6): 1,
    }
    assert Book.read(tmp_path).ended == RESULTS[:1]


def test_the_time_on_record_is_the_latest_of_epochs_and_ends(tmp_path: Path) -> None:
    write(tmp_path, ended(config(0), 1, at=9.0), at=5.0)
    assert Book.read(tmp_path).elapsed == 9
    write(tmp_path, ended(config(1), 1), at=20.0, end=False)
    assert Book.read(tmp_path).elapsed == 20


def test_a_trial_that_was_run_again_has_only_its_own_epochs(tmp_path: Path) -> None:
    """Its first run failed after four epochs; of those nothing is left that could win."""
    first = replace(ended(config(0), 4, State.FAILED), epochs=tuple(metrics(n, 0.9) for n in range(1, 5)))
    again = replace(ended(config(0), 0, State.STOPPED), epochs=(metrics(1, 0.3), metrics(2, 0.4)))
    write(tmp_path, first, again)
    assert Book.read(tmp_path).ended[-1] == again


def test_a_trial_that_goes_on_from_its_checkpoint_keeps_its_epochs(tmp_path: Path) -> None:
    whole = ended(config(0), 4)
    write(tmp_path, replace(whole, epochs=whole.epochs[:2]), end=False)
    write(tmp_path, replace(whole, epochs=whole.epochs[2:]))
    assert Book.read(tmp_path).ended == [whole]


@pytest.mark.parametrize("name", [EPOCHS_FILE, ENDS_FILE])
@pytest.mark.parametrize(
    "torn", [b"{", b'{"t": 1.0, "trial": "abc', b"\x00\x00\x00", b"\xff\xfe", b"{}", b"1"]
)
def test_a_torn_last_line_is_passed_over_and_written_over(tmp_path: Path, name: str, torn: bytes) -> None:
    write(tmp_path, *RESULTS)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole + torn)
    assert Book.read(tmp_path).ended == RESULTS
    write(tmp_path, ended(config(7), 2))
    assert Book.read(tmp_path).ended == [*RESULTS, ended(config(7), 2)]
    assert (tmp_path / name).read_bytes().startswith(whole + b"{")


def test_a_line_without_its_end_is_neither_read_nor_kept(tmp_path: Path) -> None:
    """What was not acknowledged must not count in one run and be gone in the next."""
    write(tmp_path, *RESULTS)
    path = tmp_path / ENDS_FILE
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert Book.read(tmp_path).ended == RESULTS[:-1]
    Ledger(tmp_path, lambda: 0.0).close()
    assert Book.read(tmp_path).ended == RESULTS[:-1]
    assert Book.read(tmp_path).unfinished == {RESULTS[-1].config: RESULTS[-1].epochs}


@pytest.mark.parametrize("name", [EPOCHS_FILE, ENDS_FILE])
@pytest.mark.parametrize(
    "damage",
    [b"{", b"\x00" * 40, b"\xff\xfe", b"null", b"[1, 2]", b"{}", b'{"trial": "abc"}', b"not json"],
)
def test_damage_anywhere_else_is_told_with_its_line(tmp_path: Path, name: str, damage: bytes) -> None:
    write(tmp_path, *RESULTS)
    lines = (tmp_path / name).read_bytes().splitlines()
    lines[1] = damage
    (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(BadInput) as error:
        Book.read(tmp_path)
    assert f"{tmp_path / name}:2: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [('"augment"', '"augmentation"'), ('"seed": 0', '"seed": 0, "new": 1')])
def test_a_record_of_another_version_is_told_from_a_sound_one(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    write(tmp_path, *RESULTS)
    path = tmp_path / ENDS_FILE
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    sound = [json.dumps({k: v for k, v in row.items() if k != "crc"}) for row in rows]
    path.write_text("\n".join([sound[0].replace(*change), *sound[1:], ""]))
    with pytest.raises(BadInput, match=rf"{ENDS_FILE}:1: "):
        Book.read(tmp_path)


@pytest.mark.parametrize("name", [EPOCHS_FILE, ENDS_FILE])
def test_a_single_changed_digit_is_noticed(tmp_path: Path, name: str) -> None:
    write(tmp_path, *RESULTS)
    path = tmp_path / name
    path.write_bytes(path.read_bytes().replace(b'"seed": 2', b'"seed": 3', 1))
    with pytest.raises(BadInput, match=rf"{name}:\d: .*checksum"):
        Book.read(tmp_path)


@pytest.mark.parametrize("name", [EPOCHS_FILE, ENDS_FILE])
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b', "crc"', b', "crd"'),
        lambda line: line[: line.index(b', "crc"')] + b"}",
        lambda line: line[:-1] + b', "val_f1": 0.99, "state": "completed"}',
        lambda line: line[:-3] + b'"}',
    ],
    ids=["renamed", "removed", "followed by more", "shortened"],
)
def test_a_line_cannot_do_without_its_checksum(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    write(tmp_path, *RESULTS)
    first, *others = (tmp_path / name).read_bytes().splitlines()
    (tmp_path / name).write_bytes(b"\n".join([change(first), *others, b""]))
    with pytest.raises(BadInput, match=rf"{name}:1: .*checksum"):
        Book.read(tmp_path)


def test_a_record_that_was_cut_off_anywhere_is_whole(tmp_path: Path) -> None:
    ledger_of = Ledger(tmp_path, lambda: 1.0)
    Book.read(tmp_path).require_whole()
    for result in RESULTS:
        for epoch in result.epochs:
            ledger_of.epoch(result.config, epoch)
            Book.read(tmp_path).require_whole()
        ledger_of.end(result)
        Book.read(tmp_path).require_whole()
    ledger_of.close()


@pytest.mark.parametrize("name", [EPOCHS_FILE, ENDS_FILE])
@pytest.mark.parametrize("how", ["deleted", "emptied", "truncated", "less a line"])
def test_lines_that_are_gone_are_missed(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path, *RESULTS, *[ended(config(n), 1) for n in (7, 8)])
    write(tmp_path, ended(config(9), 1), end=False)
    path = tmp_path / name
    lines = path.read_bytes().splitlines(keepends=True)
    match how:
        case "deleted":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(b"".join(lines)[: len(b"".join(lines)) // 2])
        case "less a line":
            path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(BadInput, match=f"(?s){name}.*--name"):
        Book.read(tmp_path).require_whole()


def test_a_failed_trial_that_is_run_again_is_unfinished_until_it_ends(tmp_path: Path) -> None:
    failed, again = ended(config(0), 1, State.FAILED), ended(config(0), 2)
    write(tmp_path, failed, RESULTS[2])
    write(tmp_path, again, end=False)
    assert Book.read(tmp_path).unfinished == {config(0): again.epochs}
    assert Book.read(tmp_path).ended == [RESULTS[2]]
    write(tmp_path, again)
    assert Book.read(tmp_path).ended == [RESULTS[2], again]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([EPOCHS_FILE, ENDS_FILE]), st.floats(0, 1), st.binary(max_size=4))
def test_a_file_cut_at_any_byte_loses_no_earlier_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float, tail: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(folder, *RESULTS)
    whole = (folder / name).read_bytes()
    cut = whole[: round(share * len(whole))]
    (folder / name).write_bytes(cut + tail.replace(b"\n", b""))  # what a disk may leave there
    lines = cut.count(b"\n")

    read = Book.read(folder).ended
    if name == ENDS_FILE:
        assert read == RESULTS[:lines]
    else:
        assert [r.trial for r in read] == [r.trial for r in RESULTS]
        assert sum(len(r.epochs) for r in read) == lines
    book = Book.read(folder)
    assert book.elapsed <= 9
    assert all(epochs for epochs in book.unfinished.values())

    more = ended(config(8), 2)
    write(folder, more)
    assert Book.read(folder).ended == [*read, more]
    assert (folder / name).read_bytes().count(b"\n") == lines + (1 if name == ENDS_FILE else 2)
