"""The driver is killed at any moment of its life, over and over, and nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal

import pytest

from support.hunt import Hunt, sigkill
from support.place import ONE_AT_A_TIME, TWO_AT_A_TIME, Place
from support.processes import of_last_run
from support.waiting import wait_until

LATER = (
    ("asha-tpe", ONE_AT_A_TIME),
    ("asha-tpe", TWO_AT_A_TIME),
    ("random", ONE_AT_A_TIME),
    ("random", TWO_AT_A_TIME),
)


def sweep(arena: Place, name: str, kills: int, life: float, dice: random.Random, *arguments: str) -> None:
    """Search after search, each resumed after every kill until it is done, for as long as there are kills."""
    left, number = kills, 0
    while left:
        hunt = Hunt(arena.elsewhere(f"{name}-{(number := number + 1)}"), arguments)
        done = None
        while left and (done is None or done.code == -signal.SIGKILL):
            moment = dice.uniform(0, life)
            done = hunt.live(lambda age, moment=moment: sigkill if age >= moment else None)
            print(f"search {number}, kill at {moment:.2f} s: exit code {done.code}")
            left -= done.code == -signal.SIGKILL
        if done and done.code == 0:
            hunt.check_end()
        else:
            hunt.finish()
        assert hunt.trained, "no state was ever seen: what is trained again would not be noticed"
        wait_until(lambda folder=hunt.folder: not of_last_run(folder), "no process outlives the search", 75)


def test_a_search_that_is_killed_again_and_again_loses_nothing(
    arena: Place, life: float, dice: random.Random
) -> None:
    sweep(arena, "swept", 5, life, dice, *TWO_AT_A_TIME)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("strategy", "at_once"), LATER, ids=lambda given: given if given is str else None)
def test_so_does_one_of_each_kind_that_is_killed_many_times(
    arena: Place, life: float, dice: random.Random, strategy: str, at_once: tuple[str, str]
) -> None:
    name = f"{strategy}-{'one' if at_once is ONE_AT_A_TIME else 'two'}"
    sweep(arena, name, 15, life, dice, "--strategy", strategy, *at_once)
