"""The registry of search strategies, and each of them over every space that is shipped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tune_tl.experiment import BEST, EPOCH, VAL_F1, TrialConfig
from tune_tl.spaces import reading
from tune_tl.training.backbones import BACKBONES
from tune_tl.tuning import strategies
from tune_tl.tuning.proposals import FINISHED, Brief, OptunaProposals
from tune_tl.tuning.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
PROPOSALS = 30


def brief(name: str, limit: int | None = None) -> Brief:
    """What a strategy knows of the shipped space `name`, all its weights being there."""
    space, _ = reading.load(name)
    stages = {backbone: len(BACKBONES[backbone].stages) for backbone in space.backbones}
    return Brief(
        draw=lambda proposal: space.suggest(proposal, stages),
        point=space.point,
        first=space.first,
        epochs=space.epochs,
        seed=0,
        limit=limit,
    )


def score(config: TrialConfig) -> float:
    """A made-up val_f1 that a sampler can learn from."""
    depth = 9 if config.unfreeze == "all" else config.unfreeze
    return max(0.0, 0.9 - 0.05 * abs(depth - 3) - 10 * abs(config.head_lr - 3e-3))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_a_searcher_and_a_scheduler(name: str) -> None:
    from ray.tune.schedulers import TrialScheduler

    searcher, scheduler = STRATEGIES[name](brief("default"))
    assert isinstance(searcher, OptunaProposals)
    assert isinstance(scheduler, TrialScheduler)


def test_help_offers_what_is_registered() -> None:
    command = [sys.executable, "-m", "tune_tl.search", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    offered = re.search(r"--strategy \{(.*?)\}", text, re.DOTALL)
    assert offered
    assert re.sub(r"\s", "", offered[1]).split(",") == list(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_is_registered_once(name: str) -> None:
    before = dict(STRATEGIES)
    with pytest.raises(ValueError, match=f"'{name}' is registered already"):
        strategies.strategy(STRATEGIES[name])
    assert before == STRATEGIES


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_says_what_it_does(name: str) -> None:
    assert STRATEGIES[name].__doc__


@pytest.mark.parametrize("space", reading.available())
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_searches_every_shipped_space_without_repeating_itself(name: str, space: str) -> None:
    search = brief(space, PROPOSALS)
    searcher, _ = STRATEGIES[name](search)
    keys = set()
    for number in range(PROPOSALS):
        fields = searcher.suggest(str(number))
        assert isinstance(fields, dict)
        config = TrialConfig.from_dict(fields)
        keys.add(config.key)
        assert (config.body_lr is None) == (config.unfreeze == 0)
        assert config.pretrained != BACKBONES[config.backbone].scratch
        searcher.on_trial_complete(
            str(number), {VAL_F1: score(config), BEST: score(config), EPOCH: search.epochs}
        )
    assert len(keys) == PROPOSALS
    assert searcher.suggest("one more") == FINISHED


def test_trials_are_stopped_by_their_like_alone() -> None:
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import TrialScheduler

    _, scheduler = STRATEGIES["asha-tpe"](brief("default"))
    kinds = {"head": {"unfreeze": 0}, "part": {"unfreeze": 2}, "all": {"unfreeze": "all"}}
    kinds["new"] = {"unfreeze": "all", "pretrained": False}
    reached = [
        ("head", 0.9),
        ("head", 0.8),
        ("part", 0.7),
        ("all", 0.6),
        ("part", 0.75),
        ("new", 0.4),
        ("new", 0.3),
    ]
    stopped = []
    for number, (kind, score) in enumerate(reached):
        config = TrialConfig("resnet18", seed=number, **kinds[kind])
        trial = Trial("toy", stub=True, trial_id=str(number), config=config.to_dict())
        scheduler.on_trial_add(None, trial)
        if scheduler.on_trial_result(None, trial, {EPOCH: 2, BEST: score}) == TrialScheduler.STOP:
            stopped.append((kind, score))
    assert stopped == [("head", 0.8), ("all", 0.6), ("new", 0.3)]
