"""Locks and the place they have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tune_tl.storage.files import Locked, cache_dir, claimed, lock_of

HOLDING = """
import sys
from pathlib import Path
from tune_tl.storage.files import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_lock_is_had_at_once_or_not_at_all(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    command = [sys.executable, "-c", HOLDING, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Locked), claimed(lock):
            pytest.fail("two have it")
        process.communicate("\n", timeout=60)
    with claimed(lock):
        pass


def test_what_goes_wrong_under_a_lock_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claimed(tmp_path / "a.lock"):
        raise KeyError
    with claimed(tmp_path / "a.lock"):
        pass


def test_one_target_has_one_lock_however_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "link").symlink_to("hub")
    monkeypatch.chdir(tmp_path)
    places = [tmp_path / "hub" / "a.pth", tmp_path / "link" / "a.pth", Path("hub/a.pth")]
    (lock,) = {lock_of(place) for place in places}
    assert lock.is_relative_to(cache_dir())
    assert lock != lock_of(tmp_path / "hub" / "b.pth")
