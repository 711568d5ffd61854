"""Files of a search that was cut off are damaged, deleted or replaced by pickles, and it is resumed.

It goes on with nothing lost, or says in one line which file it cannot go on without.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.hunt import Hunt, sigkill
from support.invariant import Seen, breaches, lost, mlflow_breaches
from support.place import TWO_AT_A_TIME, Done, Place
from support.processes import of_last_run

DATABASE = "mlflow.db"


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def deleted(file: Path) -> None:
    file.unlink()


@pytest.fixture(scope="package")
def cut_off(arena: Place, life: float) -> Hunt:
    """A search that was killed when a trial had ended, and another had its last epoch after that."""
    hunt = Hunt(arena.elsewhere("cut-off"), TWO_AT_A_TIME, trials=4, epochs=12)

    def is_time() -> bool:
        seen = Seen.of(hunt.folder)
        midway = any(2 <= epochs <= 10 for epochs in seen.running().values())
        return midway and bool(seen.ended()) and seen.last() in seen.epochs

    done = hunt.live(lambda age: sigkill if is_time() else None)
    assert done.code == -signal.SIGKILL, done
    for pid in of_last_run(hunt.folder):  # nobody writes into the folder any more
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return hunt


@contextlib.contextmanager
def as_it_was(cut_off: Hunt) -> Iterator[Hunt]:
    """The search, to go on with; afterwards all is as before. In one place: its database is known by that."""
    whole = cut_off.place.folder.with_name("as it was")
    shutil.copytree(cut_off.place.folder, whole)
    try:
        yield replace(cut_off, trained=set(), again=set())
    finally:
        shutil.rmtree(cut_off.place.folder)
        whole.rename(cut_off.place.folder)


@pytest.fixture
def hunt(cut_off: Hunt) -> Iterator[Hunt]:
    with as_it_was(cut_off) as hunt:
        yield hunt


def resumed(hunt: Hunt, before: Seen) -> Done:
    """Go on with a search whose files were damaged since it had acknowledged `before`."""
    done = hunt.run(resume=True)
    assert done.code in (0, 2), done
    if done.code == 2:
        assert len(done.err.splitlines()) == 1, done
        return done
    assert done.err == "", done
    after = Seen.of(hunt.folder)
    assert lost(before, after) == [], done
    assert breaches(after, trials=hunt.trials) == [], done
    # Of a finalist, lost weights are trained again; else no more than the epoch whose state is damaged.
    told = {trial for trial in before.ended() if f"trial {trial}: its weights are " in done.out}
    again = [trial for trial, _ in hunt.again if trial not in told]
    assert before.ended().isdisjoint(again), done
    assert len(again) <= 1, done
    # One that cannot be read is left as it is, and it is said that the record is not in there.
    if f"MLflow at {hunt.place.folder / DATABASE}" not in done.out:
        assert mlflow_breaches(hunt.place.folder / DATABASE, after) == [], done
    return done


@pytest.mark.parametrize(
    ("file", "damage"),
    [("ledger.jsonl", deleted), ("trials.jsonl", emptied), ("search.json", halved)],
)
def test_a_search_whose_record_is_damaged_is_refused(
    hunt: Hunt, file: str, damage: Callable[[Path], None]
) -> None:
    damage(hunt.folder / file)
    left = {path.name: path.read_bytes() for path in hunt.folder.glob("*.json*")}
    done = hunt.run(resume=True)
    assert done.code == 2, done
    (line,) = done.err.splitlines()
    assert file in line
    assert "Traceback" not in done.out
    assert {path.name: path.read_bytes() for path in hunt.folder.glob("*.json*")} == left


def newest_state(hunt: Hunt) -> tuple[str, int, Path]:
    """Of a trial that was cut off: its key, the last epoch that it could go on from, and the file."""
    running = Seen.of(hunt.folder).running()
    trial = max(running, key=lambda trial: running[trial])
    states = hunt.folder.joinpath("checkpoints").glob(f"{trial}-*.safetensors")
    epoch, file = max((int(path.stem.partition("-")[2]), path) for path in states)
    return trial, epoch, file


def test_a_trial_whose_newest_state_is_damaged_goes_on_from_the_one_before(hunt: Hunt) -> None:
    trial, epoch, file = newest_state(hunt)
    halved(file)
    done = resumed(hunt, Seen.of(hunt.folder))
    said = (
        f"trial {trial}: checkpoint of epoch {epoch} is damaged (truncated): going on from epoch {epoch - 1}"
    )
    assert (done.code, done.out.count(said)) == (0, 1), done
    assert min(e for t, e in hunt.trained if t == trial) == epoch


class Bomb:
    """What a pickle can do to whoever loads it: here, make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.file),)


def test_no_pickle_that_was_put_into_the_folder_is_ever_loaded(hunt: Hunt, tmp_path: Path) -> None:
    exploded = tmp_path / "exploded"
    plain = tmp_path / "plain"
    plain.write_bytes(pickle.dumps(Bomb(exploded)))
    zipped = tmp_path / "zipped"
    torch.save(Bomb(exploded), zipped)
    for bomb in (lambda: pickle.loads(plain.read_bytes()), lambda: torch.load(zipped, weights_only=False)):
        bomb()
        exploded.rmdir()  # so it does work

    ray, checkpoints = hunt.folder / "ray", hunt.folder / "checkpoints"
    trial, epoch, newest = newest_state(hunt)
    planted = [newest, *(file for file in ray.rglob("*") if file.is_file())]
    planted += [ray / "tune" / name for name in ("tuner.pkl", "trainable.pkl", "search_gen_state.pkl")]
    for folder in (folder for folder in ray.rglob("*") if folder.is_dir()):
        planted += [folder / name for name in ("error.pkl", "params.pkl", ".tune_metadata")]
    planted += [checkpoints / f"{name}{end}" for name in (trial, "best") for end in (".pth", ".pt", ".pkl")]
    for number, file in enumerate(planted):
        shutil.copy((plain, zipped)[number % 2], file)
    done = resumed(hunt, Seen.of(hunt.folder))
    assert done.code == 0, done
    assert f"trial {trial}: checkpoint of epoch {epoch} is damaged" in done.out
    assert not exploded.exists()


@pytest.mark.long
def test_nor_is_one_in_place_of_every_checkpoint(hunt: Hunt, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    for file in hunt.folder.joinpath("checkpoints").iterdir():
        shutil.copy(bomb, file)
    hunt.run(resume=True)
    assert not (tmp_path / "exploded").exists()


def files(hunt: Hunt) -> list[Path]:
    """Every file that a search leaves, and the database beside it, from the working directory."""
    left = [path for path in sorted(hunt.folder.rglob("*")) if path.is_file()]
    return [Path(DATABASE), *(path.relative_to(hunt.place.folder) for path in left)]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("damage", [halved, emptied, deleted])
def test_whichever_file_is_damaged_nothing_is_lost_or_the_file_is_named(
    cut_off: Hunt, damage: Callable[[Path], None]
) -> None:
    wrong = {}
    before = Seen.of(cut_off.folder)
    for file in files(cut_off):
        with as_it_was(cut_off) as hunt:
            damage(hunt.place.folder / file)
            try:
                done = resumed(hunt, before)
                print(f"{file} {damage.__name__}: {done.code} {done.err.strip()}")
                assert done.code == 0 or file.name in done.err
            except AssertionError as error:
                wrong[str(file)] = str(error)
    assert wrong == {}
